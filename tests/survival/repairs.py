"""A system that stays in its trouble until it is repaired (expect: Manual), and experiments on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from bounceback.api.status import FaultExperimentStatus
from bounceback.engine.repairing import REPAIRED_ANNOTATION
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import EXPERIMENTS, JOBS
from bounceback.types.outcome import Phase, RepairState
from bounceback.vehicles.access import access_manifest
from tests.conftest import ACCOUNT, OPERATOR, apply
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, make_check, make_experiment, partition, until
from tests.workload import SERVE, pod, running

CAREFUL = """
import http.server, json, socket, sys, threading, time

state = {"alarm": False, "repairs": 0}

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if state["alarm"] else 200)
        self.end_headers()
        self.wfile.write(json.dumps(state).encode())

    def do_POST(self):
        state.update(alarm=False, repairs=state["repairs"] + 1)
        self.do_GET()

    def log_message(self, *words):
        pass

def watch():
    failed = 0
    while True:
        try:
            socket.create_connection((sys.argv[1], 8080), 1).close()
            failed = 0
        except OSError:
            failed += 1
        if failed == 2:
            state["alarm"] = True
        time.sleep(0.1)

threading.Thread(target=watch, daemon=True).start()
http.server.ThreadingHTTPServer(("", 8080), Answers).serve_forever()
"""
"""Once cut off from its server it says so, and stays out of service until it is repaired; it counts how often."""
REPAIR = """
import sys, time, urllib.request
time.sleep(2)
print(urllib.request.urlopen(sys.argv[1], data=b"", timeout=30).read().decode(), flush=True)
"""


def repair_runs(status: Json) -> bool:
    return bool((status.get("repair") or {}).get("state") == RepairState.RUNNING)


async def repair_once_though_killed(
    kube: Kube, namespace: str, make_operator: Callable[..., OperatorProcess], way: str
) -> None:
    """The operator dies as soon as it is written down that the repair runs."""
    await apply(kube, access_manifest(namespace, ACCOUNT, namespace, OPERATOR, objects=["jobs.batch"]))
    (server,) = await running(kube, namespace, [pod("server", "python3", "-c", SERVE)])
    careful = pod("careful", "python3", "-c", CAREFUL, server.ips[0], labels={"role": "caller"})
    (system,) = await running(kube, namespace, [careful])
    url = f"http://{system.ips[0]}:8080/"
    await make_check(
        kube,
        namespace,
        system.ips[0],
        probes=[{"name": "serves", "http": {"url": url}, "periodMilliseconds": 200}],
        detection=[{"name": "alarm", "http": {"url": url, "expectStatus": 0, "expression": "json.alarm"}}],
        errorState=[{"name": "says-so", "http": {"url": url, "expectStatus": 503}}],
    )
    ways: dict[str, Any] = {
        "job": {"job": {"template": pod("x", "python3", "-c", REPAIR, url)["spec"]}},
        "byHand": {"byHand": {"instruction": "Tell it that all is well."}},
    }
    repair = {**ways[way], "afterSeconds": 1}
    first = make_operator("operator-0")
    first.start()
    await make_experiment(kube, namespace, "repaired", partition(server, seconds=6), expect="Manual", repair=repair)
    await until(kube, namespace, "repaired", repair_runs)
    first.kill()
    make_operator("operator-0").start()
    if way == "byHand":
        await by_hand(kube, namespace)
    status = FaultExperimentStatus.model_validate(await finished(kube, namespace, "repaired"))
    assert status.repair is not None
    assert status.repair.state is RepairState.DONE, status.repair
    assert await told(kube, namespace) == {"alarm": False, "repairs": 1}
    assert {finding.reason for finding in status.findings} <= {"ObservationGap", "ReturnUndecided"}, status.findings
    if way == "job":
        assert '"repairs": 1' in status.repair.log
        async with asyncio.timeout(60):
            while (await kube.list(JOBS, namespace))[0]:
                await asyncio.sleep(0.2)


async def by_hand(kube: Kube, namespace: str) -> None:
    """What counts is the repair's name, and no other word."""
    name = (await kube.get(EXPERIMENTS, namespace, "repaired"))["status"]["repair"]["name"]
    await say(kube, namespace, "yes")
    await asyncio.sleep(1)
    assert (await kube.get(EXPERIMENTS, namespace, "repaired"))["status"]["phase"] == Phase.REPAIRING
    await told(kube, namespace, ", data=b''")
    await say(kube, namespace, name)


async def say(kube: Kube, namespace: str, word: str) -> None:
    annotations = {REPAIRED_ANNOTATION: word}
    await kube.patch(EXPERIMENTS, namespace, "repaired", {"metadata": {"annotations": annotations}})


async def told(kube: Kube, namespace: str, more: str = "") -> Json:
    """What the system answers, asked from within its pod."""
    ask = f"from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8080/'{more}).read().decode())"
    code, output, errors = await kube.exec(namespace, "careful", "main", ["python3", "-c", ask])
    assert code == 0, errors
    answer: Json = json.loads(output)
    return answer
