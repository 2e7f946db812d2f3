"""However who injects comes to its end: nothing stays frozen, filled, limited or changed for two seconds."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest

from bounceback.drivers.processes import Process, of_pod
from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import PODS
from bounceback.types.outcome import Phase
from dev.cluster import inside
from dev.state import Cluster
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, make_experiment, reached, until
from tests.survival.together import together
from tests.workload import SERVE, pod, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
SECONDS: Final = 2.0
LATER: Final = 60.0
"""Where a pod has to start that undoes it."""
MIB: Final = 1 << 20
TEXT: Final = "an order\n"
KEEPS: Final = f"open('/data/orders', 'w').write({TEXT!r})\n{SERVE}"
STANDS: Final = ("python3", "-c", "import time; time.sleep(3600)")
FAULTS: Final[dict[str, Json]] = {
    "still": {"processSignal": {"signal": "Freeze", "container": "beside"}},
    "gone": {"fileFault": {"path": "/data/orders", "damage": "Remove", "container": "main"}},
    "few": {"fileDescriptorPressure": {"limit": 32, "port": 8080}},
    "filled": {"diskPressure": {"path": "/data", "amountBytes": 8 * MIB, "container": "main"}},
    "held": {"memoryPressure": {"amountBytes": 16 * MIB, "container": "main"}},
    "crowd": {"processPressure": {"processes": 8, "container": "main"}},
    "burned": {"cpuPressure": {"percentOfLimit": 50, "container": "main"}},
    "ports": {"socketPressure": {"ephemeralPorts": {"leave": 20000}, "container": "main"}},
}
FELT: Final = frozenset({"still", "gone", "few", "filled", "ports", "ours"})
"""Ours are the processes that hold, crowd and burn."""
DEVOURS: Final = """
import os, sys
open(sys.argv[1], "w").write(str(os.getpid()))
open("/proc/self/oom_score_adj", "w").write("-1000")
kept = []
while True:
    kept.append(b"x" * (1 << 20))
"""
"""Takes what memory there is in a cgroup; the kernel may end anybody there but this."""


def troubled(name: str, *, shared: bool) -> Json:
    body = pod(name, "python3", "-c", KEEPS, shareProcessNamespace=shared)
    (main,) = body["spec"]["containers"]
    beside = {**main, "name": "beside", "command": list(STANDS)}
    main["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    main["resources"] = {"limits": {"cpu": "200m", "memory": "96Mi"}}
    body["spec"]["containers"] = [main, beside]
    body["spec"]["volumes"] = [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "32Mi"}}]
    return body


def wrong(target: PodInfo) -> set[str]:
    """Which of the faults can be felt, as this machine's kernel has it."""
    processes = of_pod(target.uid)
    mains = [each for each in processes if each.container == "main"]
    data = Path(mains[0].folder, "root/data")
    limits = re.search(r"Max open files +(\d+)", Path(mains[0].folder, "limits").read_text())
    told = os.statvfs(data)
    ours = [each.name for each in processes if not each.container and each.name.startswith("bb-")]
    found = {
        "still": any(each.state() == "T" for each in processes),
        "gone": not (data / "orders").exists(),
        "few": limits is not None and limits[1] == "32",
        "filled": (told.f_blocks - told.f_bfree) * told.f_frsize > 4 * MIB,
        "ours": bool(ours),
        "ports": int(Path(mains[0].folder, "net/sockstat").read_text().split()[2]) > 1000,  # sockets: used N
    }
    return {name for name, holds in found.items() if holds}


async def killed(kube: Kube, cluster: Cluster, home: str, agent: Json, process: Process) -> None:
    os.kill(process.number, signal.SIGKILL)


async def killed_with_its_guard(kube: Kube, cluster: Cluster, home: str, agent: Json, process: Process) -> None:
    """The agent is stopped first, or it would put things right for want of a guard."""
    os.kill(process.number, signal.SIGSTOP)
    for each in sorted(of_pod(agent["metadata"]["uid"]), key=lambda each: each.container, reverse=True):
        if each.container in ("agent", "agent-guard"):
            with contextlib.suppress(ProcessLookupError):  # the agent's children end with it
                os.kill(each.number, signal.SIGKILL)


async def out_of_memory(kube: Kube, cluster: Cluster, home: str, agent: Json, process: Process) -> None:
    devours = await asyncio.create_subprocess_exec(sys.executable, "-c", DEVOURS, f"{memory_of(process)}/cgroup.procs")
    try:
        await _gone(process)
    finally:
        devours.kill()
        await devours.wait()


def memory_of(process: Process) -> Path:
    """Its cgroup for memory."""
    lines = (line.split(":", 2) for line in Path(process.folder, "cgroup").read_text().splitlines())
    path = next(words[2] for words in lines if words[1] in ("memory", ""))
    ways = (Path(f"/sys/fs/cgroup/memory{path}"), Path(f"/sys/fs/cgroup{path}"))
    return next(each for each in ways if (each / "cgroup.procs").exists())


async def deleted(kube: Kube, cluster: Cluster, home: str, agent: Json, process: Process) -> None:
    await kube.delete(PODS, home, agent["metadata"]["name"], grace=0)


async def stopped_by_the_runtime(kube: Kube, cluster: Cluster, home: str, agent: Json, process: Process) -> None:
    """Its container alone, with no time to do anything."""
    body = await kube.get(PODS, home, agent["metadata"]["name"])
    (status,) = [each for each in body["status"]["containerStatuses"] if each["name"] == process.container]
    record = cluster.record()
    assert record is not None
    ctr = [str(Path(record.programs["containerd"]).with_name("ctr")), "--namespace", "k8s.io"]
    words = ["task", "kill", "--all", "--signal", "SIGKILL", status["containerID"].removeprefix("containerd://")]
    await asyncio.to_thread(subprocess.run, [*inside(cluster), *ctr, *words], check=True)


async def _gone(process: Process) -> float:
    """When it was."""
    async with asyncio.timeout(60):
        while process.alive():
            await asyncio.sleep(0.02)
    return time.monotonic()


End = Callable[[Kube, Cluster, str, Json, Process], Awaitable[None]]


@pytest.mark.parametrize(
    ("how", "shared", "seconds"),
    [
        (killed, False, SECONDS),
        (out_of_memory, True, SECONDS),
        (deleted, False, SECONDS),
        (stopped_by_the_runtime, True, SECONDS),
        (killed_with_its_guard, False, LATER),
    ],
    ids=["killed", "out of memory", "pod deleted", "stopped by the runtime", "killed with its guard"],
)
@together
async def test_nothing_stays(
    kube: Kube,
    cluster: Cluster,
    home: str,
    namespace: str,
    shop: tuple[list[PodInfo], PodInfo],
    operator: OperatorProcess,
    how: End,
    shared: bool,
    seconds: float,
) -> None:
    (target,) = await running(kube, namespace, [troubled("target", shared=shared)])
    entries = [{"name": name, "target": "it", "durationSeconds": 100, **fault} for name, fault in FAULTS.items()]
    targets = [{"name": "it", "pods": {"selector": {"matchLabels": {"app": "target"}}}}]
    assert not wrong(target)
    await make_experiment(kube, namespace, "lost", *entries, targets=targets)
    seen = await until(kube, namespace, "lost", reached(Phase.ACTIVE))
    assert seen["status"]["phase"] == Phase.ACTIVE, seen["status"]
    end = time.monotonic() + 60
    while missing := FELT - wrong(target):
        assert time.monotonic() < end, missing
        await asyncio.sleep(0.1)
    (agent,) = (await kube.list(PODS, home, labels="bounceback.dev/role=agent"))[0]
    process = next(each for each in of_pod(agent["metadata"]["uid"]) if each.container == "agent")
    await how(kube, cluster, home, agent, process)
    ended = await _gone(process)
    looked = time.monotonic()
    while left := wrong(target):
        assert looked - ended < seconds, left
        await asyncio.sleep(0.02)
        looked = time.monotonic()
    status = await finished(kube, namespace, "lost")
    assert status["axes"]["cleanup"] == "Clean", status
    assert status["verdict"] in ("Inconclusive", "Error"), "it did not last"
