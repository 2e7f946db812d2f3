"""How long from Planned to the first hit, and how many requests: one target by each vehicle, and many on one node.

    python -m benchmarks.injection [--runs 15] [--targets 50]

Brings up a development cluster of its own, runs the operator as a process inside its network, and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.place import Place, place
from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.resources import EXPERIMENTS
from tests.survival.runs import finished, make_check, make_experiment, partition
from tests.workload import CALL, SERVE, pod, running

PROMISED_ONE, PROMISED_MANY, PROMISED_REQUESTS = 1.5, 5.0, 3.0


async def main(runs: int, targets: int) -> None:
    async with place("benchmark", Path(tempfile.mkdtemp())) as here:
        (server,) = await running(here.kube, here.namespace, [pod("server", "python3", "-c", SERVE)])
        await make_check(here.kube, here.namespace, server.ips[0])
        print("| what | promised | measured |\n|---|---|---|")
        for vehicle in ("Sidecar", "NodePod"):
            seconds = [await one(here, server, vehicle, number) for number in range(runs)]
            told = f"p50 {statistics.median(seconds):.2f} s, max {max(seconds):.2f} s ({runs} runs)"
            print(f"| Planned to first hit, one target, {vehicle} | p50 <= {PROMISED_ONE} s | {told} |", flush=True)
        await many(here, server, targets)


async def one(here: Place, server: PodInfo, vehicle: str, number: int) -> float:
    """A fresh caller each time: a pod keeps its ephemeral containers."""
    name = f"{vehicle.lower()}-{number}"
    await callers(here.kube, here.namespace, server, [name], name)
    status = await experiment(here, server, name, vehicle)
    return activation(status)


async def many(here: Place, server: PodInfo, targets: int) -> None:
    names = [f"many-{number}" for number in range(targets)]
    await callers(here.kube, here.namespace, server, names, "many")
    before = here.operator.requests()
    status = await experiment(here, server, "many", "NodePod", seconds=15)
    each = (here.operator.requests() - before) / targets
    last = max(i["firstHitAt"]["nanos"] for i in status["injections"])
    planned = next(m for m in status["marks"] if m["mark"] == "Planned")["earliest"]["nanos"]
    seconds = (last - planned) / 1e9
    print(f"| Planned to first hit on the last of {targets}, one NodePod | <= {PROMISED_MANY} s | {seconds:.2f} s |")
    print(f"| API requests for each of {targets} targets, the whole run | <= {PROMISED_REQUESTS} | {each:.2f} |")


async def callers(kube: Kube, namespace: str, server: PodInfo, names: Sequence[str], role: str) -> None:
    pods = [pod(name, "python3", "-c", CALL, server.ips[0], labels={"role": role}) for name in names]
    await running(kube, namespace, pods, seconds=300)


async def experiment(here: Place, server: PodInfo, role: str, vehicle: str, seconds: int = 2) -> dict[str, Any]:
    """Its status; the run must have been a true one."""
    fault = partition(server, seconds=seconds, vehicle=vehicle)
    pods = {"selector": {"matchLabels": {"role": role}}}
    await make_experiment(here.kube, here.namespace, role, fault, targets=[{"name": "callers", "pods": pods}])
    status = await finished(here.kube, here.namespace, role, seconds=120)
    assert status["verdict"] == "Passed", status["findings"]
    await here.kube.delete(EXPERIMENTS, here.namespace, role)
    return status


def activation(status: dict[str, Any]) -> float:
    return float(status["figures"]["activation"]["milliseconds"]) / 1000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--targets", type=int, default=50)
    asked = parser.parse_args()
    asyncio.run(main(asked.runs, asked.targets))
