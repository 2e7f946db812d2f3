"""The operator with many experiments: memory with finished ones stored, and thousands applied at once.

    python -m benchmarks.scale [--stored 1000] [--burst 5000]

Each experiment of the burst deletes one pod that a kwok node pretends to run, so that every one goes through the whole
run: probes, write-ahead, a real request with its proof, recovery, verdict. kwok stands in for kubelets only.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.place import Place, place
from bounceback.kube.resources import EXPERIMENTS, NODES, PODS
from bounceback.types.outcome import Phase
from dev.cluster import inside
from tests.conftest import run_dev
from tests.survival.runs import make_check
from tests.workload import SERVE, pod, running

AT_ONCE = 50


async def main(stored: int, burst: int) -> None:
    async with place("scale", Path(tempfile.mkdtemp())) as here:
        (server,) = await running(here.kube, here.namespace, [pod("server", "python3", "-c", SERVE)])
        slow = {"name": "server", "tcp": {"host": server.ips[0], "port": 8080}, "periodMilliseconds": 500}
        await make_check(here.kube, here.namespace, server.ips[0], probes=[slow])
        kwok = await pretend_nodes(here)
        try:
            print("| what | promised | measured |\n|---|---|---|")
            await wave(here, "stored", stored)
            print(f"| memory, {stored} finished experiments stored | <= 150 MiB | {here.operator.resident():.0f} MiB |")
            before, began = here.operator.requests(), time.monotonic()
            verdicts = await wave(here, "burst", burst)
            took, requests = time.monotonic() - began, here.operator.requests() - before
            ends = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
            print(f"| {burst} experiments at once, all ended | all, nothing lost | {ends} in {took:.0f} s |")
            print(f"| API requests for each | stated | {requests / burst:.1f} |")
            print(f"| memory after all that | | {here.operator.resident():.0f} MiB |")
        finally:
            kwok.terminate()
            await kwok.wait()


async def pretend_nodes(here: Place) -> asyncio.subprocess.Process:
    """A kwok controller inside the cluster's network and nodes that it pretends to be; pods need a place each."""
    program = run_dev("dev", "tool", "kwok")
    for number in range(10):
        node: dict[str, Any] = {
            "metadata": {
                "name": f"pretended-{number}",
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {"type": "kwok"},
            },
            "spec": {"taints": [{"key": "kwok", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "1000", "memory": "1Ti", "pods": "2000"}},
        }
        await here.kube.create(NODES, None, node)
        status = {"status": node["status"]}
        await here.kube.patch(NODES, None, node["metadata"]["name"], status, subresource="status")
    line = [*inside(here.cluster, ("-n",)), program, "--kubeconfig", str(here.cluster.inner_kubeconfig)]
    options = ["--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake", "--node-lease-duration-seconds=0"]
    return await asyncio.create_subprocess_exec(
        *line, *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )


async def wave(here: Place, name: str, count: int) -> dict[str, int]:
    """So many pods, an experiment for each, all applied at once; the verdicts once every one has ended."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def make(resource: Any, body: dict[str, Any]) -> None:
        async with slots:
            await here.kube.create(resource, here.namespace, body)

    await asyncio.gather(*(make(PODS, pretended_pod(f"{name}-{n}")) for n in range(count)))
    await all_running(here, name, count)
    await asyncio.gather(*(make(EXPERIMENTS, pod_delete(f"{name}-{n}")) for n in range(count)))
    while True:
        items, _ = await here.kube.list(EXPERIMENTS, here.namespace)
        ended = [i for i in items if (i.get("status") or {}).get("phase") == Phase.FINISHED]
        mine = [i["status"]["verdict"] for i in ended if i["metadata"]["name"].startswith(name)]
        if len(mine) == count:
            return dict(collections.Counter(mine))
        await asyncio.sleep(5)


async def all_running(here: Place, name: str, count: int) -> None:
    while True:
        items, _ = await here.kube.list(PODS, here.namespace, labels=f"wave={name}", fields="status.phase=Running")
        if len(items) >= count:
            return
        await asyncio.sleep(1)


def pretended_pod(name: str) -> dict[str, Any]:
    body = pod(name, labels={"target": name, "wave": name.rsplit("-", 1)[0]})
    body["spec"] |= {"tolerations": [{"operator": "Exists"}], "nodeSelector": {"type": "kwok"}}
    return body


def pod_delete(name: str) -> dict[str, Any]:
    return {
        "apiVersion": EXPERIMENTS.api_version,
        "kind": "FaultExperiment",
        "metadata": {"name": name},
        "spec": {
            "targets": [{"name": "pod", "pods": {"selector": {"matchLabels": {"target": name}}}}],
            "faults": [{"name": "kill", "target": "pod", "durationSeconds": 1, "podDelete": {"gracePeriodSeconds": 0}}],
            "checks": [{"name": "reachable"}],
            "steadyState": {"holdSeconds": 1},
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stored", type=int, default=1000)
    parser.add_argument("--burst", type=int, default=5000)
    asked = parser.parse_args()
    asyncio.run(main(asked.stored, asked.burst))
