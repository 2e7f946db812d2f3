"""The operator with many experiments: memory with finished ones stored, and thousands applied at once.

    python -m benchmarks.scale [--stored 1000] [--burst 5000]

What each experiment is: a podDelete of a target of its own, taken through the whole run with a true verdict at its end:
rights asked for, target chosen and locked, a TCP probe of a real server every 500 ms, steady for 1 s, written ahead in
status and journal, the pod deleted by a real request in the account's name and seen to go by a watch, stable for 1 s,
judged, result published on the check, journal removed. Only the targets are not real: nothing runs in them. They are
Pod objects bound to a Node that no kubelet serves, with a status that this program writes, so that two cores suffice.

Exits 1 when something that was promised is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.place import HOME, Place, place
from bounceback.api import FINALIZER
from bounceback.kube.client import Json
from bounceback.kube.resources import EXPERIMENTS, NODES, PODS, SECRETS
from bounceback.types.outcome import Phase, Verdict
from bounceback.vehicles.journal import LABEL
from bounceback.vehicles.pods import in_bytes
from tests.conftest import ROOT
from tests.survival.runs import make_check
from tests.workload import SERVE, pod, running

MEMORY = 150  # MiB
PRETENDED = "pretended"
AT_ONCE = 50
SETTLED = 15.0
"""Seconds after which an operator that has just started has read all there is."""
PATIENCE = 2400.0
"""Seconds in which a wave must end."""


@dataclass
class Table:
    missed: bool = False

    def __post_init__(self) -> None:
        print("| what | promised | measured |\n|---|---|---|", flush=True)

    def row(self, what: str, promised: str, measured: str, kept: bool = True) -> None:
        self.missed |= not kept
        print(f"| {what} | {promised} | {measured}{'' if kept else ' **missed**'} |", flush=True)


@dataclass
class Wave:
    """What became of one wave."""

    seconds: float
    verdicts: collections.Counter[str] = field(default_factory=collections.Counter)
    lost: list[str] = field(default_factory=list)  # not finished, without a verdict, or not let go of
    hits: collections.Counter[int] = field(default_factory=collections.Counter)  # how often each target was hit


async def main(stored: int, burst: int) -> bool:
    """Whether all that was promised was kept."""
    async with place("scale-benchmark", Path(tempfile.mkdtemp())) as here:
        (server,) = await running(here.kube, here.namespace, [pod("server", "python3", "-c", SERVE)])
        slow = {"name": "server", "tcp": {"host": server.ips[0], "port": 8080}, "periodMilliseconds": 500}
        await make_check(here.kube, here.namespace, server.ips[0], probes=[slow])
        await here.kube.create(NODES, None, {"metadata": {"name": PRETENDED}})
        table = Table()
        await with_stored(here, table, stored)
        await at_once(here, table, burst)
        return not table.missed


async def with_stored(here: Place, table: Table, count: int) -> None:
    done = await wave(here, "stored", count)
    told = f"{here.operator.resident():.0f} MiB (peak {here.operator.peak():.0f})"
    kept = here.operator.peak() <= MEMORY and not done.lost
    table.row(f"memory, {count} finished experiments stored, after it ran them", f"<= {MEMORY} MiB", told, kept)
    here.operator.stop()
    here.operator.start()
    await asyncio.sleep(SETTLED)
    told = f"{here.operator.resident():.0f} MiB (peak {here.operator.peak():.0f})"
    kept = here.operator.peak() <= MEMORY
    table.row(f"memory, {count} finished experiments stored, started anew", f"<= {MEMORY} MiB", told, kept)


async def at_once(here: Place, table: Table, count: int) -> None:
    requests, cpu = here.operator.requests_by_method(), here.operator.cpu_seconds()
    done = await wave(here, "burst", count)
    made = here.operator.requests_by_method() - requests
    ends = ", ".join(f"{number} {verdict}" for verdict, number in sorted(done.verdicts.items()))
    ended = f"{ends} in {done.seconds:.0f} s ({count / done.seconds:.1f} a second)"
    whole = sum(done.verdicts.values()) == count
    table.row(f"{count} experiments applied at once, all ended", "all", ended, whole)
    lost = f"{len(done.lost)} {' '.join(done.lost[:5])}".strip()
    table.row("lost: without an end, a verdict, or held after it", "0", lost, not done.lost)
    hits = ", ".join(f"{number} {times} times" for times, number in sorted(done.hits.items()))
    table.row("each target hit", "once", hits, set(done.hits) == {1})
    left, _ = await here.kube.list(SECRETS, HOME, labels=LABEL)
    table.row("journals left", "0", str(len(left)), not left)
    each = ", ".join(f"{method} {number / count:.1f}" for method, number in made.most_common())
    table.row("API requests for each", "stated", f"{sum(made.values()) / count:.1f} ({each})")
    table.row("CPU of the operator for each", "", f"{(here.operator.cpu_seconds() - cpu) / count * 1000:.0f} ms")
    told = f"{here.operator.resident():.0f} MiB (peak {here.operator.peak():.0f})"
    limit = chart_limit()
    table.row(f"memory with {count} at once", f"<= {limit:.0f} MiB", told, here.operator.peak() <= limit)


def chart_limit() -> float:
    """MiB beyond which the kernel would end the operator where the chart installed it."""
    values = yaml.safe_load((ROOT / "helm" / "bounceback" / "values.yaml").read_text())
    return in_bytes(values["resources"]["limits"]["memory"]) / 2**20


async def wave(here: Place, name: str, count: int) -> Wave:
    """So many targets, then an experiment for each, all applied at once; what became of them once all have ended."""
    names = [f"{name}-{number}" for number in range(count)]
    await in_parallel(pretend_pod(here, each) for each in names)
    before, began = here.operator.finished(), time.monotonic()
    await in_parallel(here.kube.create(EXPERIMENTS, here.namespace, pod_delete(each)) for each in names)
    while here.operator.finished() < before + count or here.operator.under_way():
        if time.monotonic() - began > PATIENCE:
            break
        await asyncio.sleep(1)
    done = Wave(time.monotonic() - began)
    unheard = set(names)
    async for body in experiments(here):
        if body["metadata"]["name"] in unheard:
            unheard.remove(body["metadata"]["name"])
            count_in(done, body)
    done.lost += sorted(unheard)
    return done


def count_in(done: Wave, body: Json) -> None:
    status, held = body.get("status") or {}, FINALIZER in (body["metadata"].get("finalizers") or [])
    if status.get("phase") == Phase.FINISHED and status.get("verdict") in list(Verdict):
        done.verdicts[status["verdict"]] += 1
    if held or status.get("phase") != Phase.FINISHED or status.get("verdict") not in list(Verdict):
        done.lost.append(body["metadata"]["name"])
    done.hits[(status.get("injectionCounts") or {}).get("hits", 0)] += 1


async def experiments(here: Place) -> AsyncIterator[Json]:
    """All of them, page by page: together they are larger than this program should be."""
    query = {"limit": "200"}
    while True:
        page = await here.kube.request("GET", EXPERIMENTS, here.namespace, query=query)
        for body in page["items"]:
            yield body
        if not page["metadata"].get("continue"):
            return
        query["continue"] = page["metadata"]["continue"]


async def in_parallel(work: Iterable[Awaitable[object]]) -> None:
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(each: Awaitable[object]) -> None:
        async with slots:
            await each

    await asyncio.gather(*(one(each) for each in work))


async def pretend_pod(here: Place, name: str) -> None:
    """A target that runs as far as anyone can tell; only deletion without grace ends it, for want of a kubelet."""
    body = pod(name, labels={"target": name}, nodeName=PRETENDED, tolerations=[{"operator": "Exists"}])
    await here.kube.create(PODS, here.namespace, body)
    await here.kube.patch(PODS, here.namespace, name, {"status": {"phase": "Running"}}, subresource="status")


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
    sys.exit(0 if asyncio.run(main(asked.stored, asked.burst)) else 1)
