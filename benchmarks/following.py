"""How long it takes to kill many pods at once, and to follow the fault to those that take their places.

    python -m benchmarks.following [--pods 50]

Brings up a development cluster of its own, with a Deployment of pods that do nothing (the image of sandboxes), and the
operator as a process. What is timed begins when the injections are planned, and ends when the last of the pods was seen
to go (podDelete) or its process was sent the signal (processSignal). To follow is ours from when a pod that took a
place runs until an injection for it is planned; how soon there is one is the cluster's.

Exits 1 when something that was promised is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import aclosing
from pathlib import Path

from benchmarks.place import Place, place
from bounceback.kube import Kube, Resource
from bounceback.kube.client import Json
from bounceback.kube.resources import EXPERIMENTS, PODS
from bounceback.kube.watching import mirror
from bounceback.types.outcome import Phase
from dev.layout import PAUSE_IMAGE
from tests.survival.runs import held_no_more, make_check, make_experiment
from tests.workload import SERVE, pod, running

PROMISED = 5.0
LASTS = 30
DEPLOYMENTS = Resource("apps/v1", "deployments")
CROWD = {"matchLabels": {"role": "crowd"}}
Faults = dict[str, Json]
FAULTS: Faults = {
    "processSignal KILL": {"processSignal": {"signal": "KILL"}},
    "podDelete": {"podDelete": {"gracePeriodSeconds": 0}},
}


async def main(pods: int) -> int:
    missed = 0
    async with place("following", Path(tempfile.mkdtemp())) as here:
        (server,) = await running(here.kube, here.namespace, [pod("server", "python3", "-c", SERVE)])
        await make_check(here.kube, here.namespace, server.ips[0])
        print("| what | promised | measured | |\n|---|---|---|---|")
        for number, (name, fault) in enumerate(FAULTS.items()):
            await crowd(here, pods)
            missed += await killed(here, f"killed-{number}", name, fault, pods)
    return missed


async def killed(here: Place, experiment: str, name: str, fault: Json, pods: int) -> int:
    entry = {"name": "kill", "target": "crowd", "durationSeconds": LASTS, "followReplacements": True, **fault}
    target = {"name": "crowd", "pods": {"selector": CROWD, "mode": "All"}}
    namespaced = (here.kube, here.namespace, experiment)
    there: dict[str, float] = {}
    watching = asyncio.create_task(watch(here.kube, here.namespace, there))
    await make_experiment(*namespaced, entry, targets=[target], expect="Recover", recoveryTimeoutSeconds=60)
    await until_followed(*namespaced, pods)
    await here.kube.patch(EXPERIMENTS, here.namespace, experiment, {"spec": {"cancel": True}})
    await held_no_more(*namespaced)
    watching.cancel()
    status = (await here.kube.get(EXPERIMENTS, here.namespace, experiment))["status"]
    first = [each for each in status["injections"] if not each.get("replaces")]
    planned = min(each["plannedUtc"] for each in first)
    hit = [each["firstHitAt"]["utc"] - planned for each in first if "firstHitAt" in each]
    kept = len(hit) == pods and max(hit) <= PROMISED
    print(f"| {pods} pods by {name}: planned to the last one hit | <= {PROMISED:g} s | {told(hit)} | {held(kept)} |")
    later = [each for each in status["injections"] if each.get("replaces")]
    waited = [each["plannedUtc"] - there.get(each["podUid"], each["plannedUtc"]) for each in later]
    if later:
        good = max(waited) <= PROMISED
        what = f"{len(waited)} pods that took their places: seen to run to planned"
        print(f"| {what} | <= {PROMISED:g} s | {told(waited)} | {held(good)} |")
        kept &= good
    await here.kube.delete(EXPERIMENTS, here.namespace, experiment)
    return not kept


def told(seconds: list[float]) -> str:
    return f"p50 {statistics.median(seconds):.2f} s, last of {len(seconds)} {max(seconds):.2f} s" if seconds else "none"


def held(kept: bool) -> str:
    return "held" if kept else "MISSED"


async def crowd(here: Place, pods: int) -> None:
    """So many of them are ready, and no others are there."""
    body = pod("crowd", labels={"role": "crowd"}, image=PAUSE_IMAGE)["spec"]
    template = {"metadata": {"labels": {"role": "crowd"}}, "spec": body}
    spec = {"replicas": pods, "selector": CROWD, "template": template}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "crowd"}, "spec": spec}
    if not (await here.kube.list(DEPLOYMENTS, here.namespace))[0]:
        await here.kube.create(DEPLOYMENTS, here.namespace, made)
    async with asyncio.timeout(600), aclosing(mirror(here.kube, PODS, here.namespace, labels="role=crowd")) as seen:
        async for found in seen:
            if len(found) == pods and all(map(is_running, found)):
                return


async def watch(kube: Kube, namespace: str, there: dict[str, float]) -> None:
    """When each pod of the crowd was first seen to run (UTC), by UID."""
    async with aclosing(mirror(kube, PODS, namespace, labels="role=crowd")) as seen:
        async for found in seen:
            for each in filter(is_running, found):
                there.setdefault(each["metadata"]["uid"], time.time())


async def until_followed(kube: Kube, namespace: str, name: str, pods: int) -> None:
    """All of them were hit, and as many that took their places are planned; or the fault's time is over."""
    async with aclosing(mirror(kube, EXPERIMENTS, namespace)) as seen:
        async for found in seen:
            status = next((each.get("status") or {} for each in found if each["metadata"]["name"] == name), {})
            injections = status.get("injections") or []
            over = status.get("phase") in (Phase.RECOVERING, Phase.VERIFYING, Phase.FINISHED)
            if over or sum(bool(each.get("replaces")) for each in injections) >= pods:
                return


def is_running(body: Json) -> bool:
    return body["status"].get("phase") == "Running" and "deletionTimestamp" not in body["metadata"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pods", type=int, default=50)
    sys.exit(bool(asyncio.run(main(parser.parse_args().pods))))
