"""Experiments of the tests: made, watched, and what they left behind looked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from bounceback.drivers.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink
from bounceback.drivers.netns import Netns
from bounceback.drivers.targets import folders
from bounceback.engine.model import PodInfo
from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS, EXPERIMENTS, PODS, SECRETS
from bounceback.kube.watching import mirror
from bounceback.types.outcome import Phase
from tests.commands import Commands
from tests.workload import caller_and_server

CALLERS = {"matchLabels": {"role": "caller"}}


async def open_shop(kube: Kube, namespace: str) -> tuple[list[PodInfo], PodInfo]:
    """Two pods that call a server all the time, that server, and a check that it answers."""
    *callers, server = await caller_and_server(kube, namespace, ("caller-1", "caller-2"), {"role": "caller"})
    await make_check(kube, namespace, server.ips[0])
    return callers, server


async def let_go(kube: Kube, home: str, namespace: str) -> None:
    """What a run still holds whose operator was killed would hold its namespace, and its definition, for ever."""
    for resource, place in ((EXPERIMENTS, namespace), (SECRETS, home)):
        for item in await _there(kube, resource, place):
            if item["metadata"].get("finalizers"):
                with contextlib.suppress(KubeError):  # it may go meanwhile
                    await kube.patch(resource, place, item["metadata"]["name"], {"metadata": {"finalizers": None}})


async def _there(kube: Kube, resource: Resource, place: str) -> list[Json]:
    try:
        return (await kube.list(resource, place))[0]
    except KubeError as error:
        if error.unserved:  # a test removed the definition, and failed
            return []
        raise


async def held_no_more(kube: Kube, namespace: str, name: str, seconds: float = 120.0) -> None:
    """The finished experiment holds neither its targets nor its journal any more."""
    async with asyncio.timeout(seconds):
        while (await kube.get(EXPERIMENTS, namespace, name))["metadata"].get("finalizers"):
            await asyncio.sleep(0.1)


async def make_check(kube: Kube, namespace: str, host: str, name: str = "reachable", **spec: Any) -> None:
    """The server answers on its port, as the operator sees it."""
    probe = {"name": "server", "tcp": {"host": host, "port": 8080}, "periodMilliseconds": 100}
    body = {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": "RecoveryCheck",
        "metadata": {"name": name},
        "spec": {"probes": [probe], "recovered": {"stableSeconds": 1}, **spec},
    }
    await kube.create(CHECKS, namespace, body)


def partition(server: PodInfo, seconds: int = 5, **more: Any) -> Json:
    return {
        "name": "cut",
        "target": "callers",
        "durationSeconds": seconds,
        "networkPartition": {"peers": [{"cidr": f"{server.ips[0]}/32"}]},
        **more,
    }


async def make_experiment(kube: Kube, namespace: str, name: str, *faults: Json, **spec: Any) -> Json:
    body = {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": "FaultExperiment",
        "metadata": {"name": name},
        "spec": {
            "targets": [{"name": "callers", "pods": {"selector": CALLERS}}],
            "faults": list(faults),
            "checks": [{"name": "reachable"}],
            "steadyState": {"holdSeconds": 1, "timeoutSeconds": 30},
            **spec,
        },
    }
    return await kube.create(EXPERIMENTS, namespace, body)


async def until(kube: Kube, namespace: str, name: str, holds: Callable[[Json], bool], seconds: float = 120) -> Json:
    """The experiment as soon as its status is so, seen by a watch."""
    last: Json = {}
    try:
        async with asyncio.timeout(seconds), aclosing(mirror(kube, EXPERIMENTS, namespace)) as told:
            async for found in told:
                for each in found:
                    if each["metadata"]["name"] == name:
                        last = each
                        if holds(each.get("status") or {}):
                            return each
    except TimeoutError:
        pass
    raise AssertionError(f"not within {seconds:g} s; last seen: {json.dumps(last.get('status'), indent=1)[:4000]}")


async def finished(kube: Kube, namespace: str, name: str, seconds: float = 150) -> Json:
    """Its status once it is finished and let go of."""
    body = await until(kube, namespace, name, lambda status: status.get("phase") == Phase.FINISHED, seconds)
    return dict(body["status"])


def reached(phase: Phase) -> Callable[[Json], bool]:
    """That phase or a later one."""
    order = list(Phase)
    return lambda status: order.index(Phase(status.get("phase", Phase.PENDING))) >= order.index(phase)


def in_run(number: int, phase: Phase) -> Callable[[Json], bool]:
    """That phase of that one of repeated runs, or a later one."""
    there = reached(phase)

    def holds(status: Json) -> bool:
        now = (status.get("runs") or {}).get("number", 0)
        return now > number or (now == number and there(status))

    return holds


def network_state(pods: Iterable[PodInfo]) -> dict[str, list[str]]:
    """nft tables, qdiscs and links in each pod's network, as the kernel tells them; the pods run on this machine."""
    return {pod.name: _look(pod) for pod in pods}


def _look(pod: PodInfo) -> list[str]:
    netns = _network(pod)
    try:
        tables, routes = Netlink(netns, NETLINK_NETFILTER), Netlink(netns, NETLINK_ROUTE)
        try:
            found: list[object] = [*tables.tables(), *routes.qdiscs(), *routes.links()]
        finally:
            tables.close()
            routes.close()
    finally:
        netns.close()
    return sorted(map(str, found))


def _network(pod: PodInfo) -> Netns:
    """By the sandbox's own process: all others of a pod may end while they are looked at."""
    for folder in folders("/proc", pod.uid):
        try:
            return Netns.at("ns/net", folder)
        finally:
            os.close(folder)
    raise AssertionError(f"no process of {pod.name} was found")


async def agents_of(kube: Kube, namespace: str, pod: str) -> list[str]:
    """The ephemeral containers that the pod got."""
    body = await kube.get(PODS, namespace, pod)
    return [container["name"] for container in body["spec"].get("ephemeralContainers") or []]


async def run(kubeconfig: str, namespace: str, folder: Path, **spec: Any) -> tuple[int, str]:
    """`bounceback run --wait` on an experiment with these changes: its exit code, and all that it said."""
    body = {
        "apiVersion": EXPERIMENTS.api_version,
        "kind": "FaultExperiment",
        "metadata": {"name": "asked"},
        "spec": {
            "targets": [{"name": "callers", "pods": {"selector": CALLERS}}],
            "checks": [{"name": "reachable"}],
            "steadyState": {"holdSeconds": 1, "timeoutSeconds": 30},
            **spec,
        },
    }
    file = folder / "experiment.json"
    file.write_text(json.dumps(body))
    words = ("run", "-n", namespace, str(file), "--wait")
    done = await asyncio.to_thread(Commands.of(kubeconfig).bounceback, *words)
    return done.code, done.out + done.err
