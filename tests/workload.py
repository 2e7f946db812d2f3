"""Pods that tests break, and the plans that break them."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing

from bounceback.engine.model import AgentEnd, PodInfo
from bounceback.engine.naming import agent_name, injection_name
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import PODS
from bounceback.kube.watching import mirror
from bounceback.types.plan import Act, Direction, Drop, Flow, Order, Plan
from bounceback.types.told import Line, Told
from bounceback.vehicles.pods import pod_info
from tests.conftest import IMAGE

SERVE = """
import socket
s = socket.create_server(("", 8080))
while True:
    c, _ = s.accept()
    c.close()
"""
CALL = """
import socket, sys, time
while True:
    try: socket.create_connection((sys.argv[1], 8080), 0.2).close()
    except OSError: pass
    time.sleep(0.05)
"""


def pod(name: str, *command: str, image: str = IMAGE, labels: dict[str, str] | None = None, **spec: object) -> Json:
    """A pod that Pod Security's `restricted` takes, and that ends at once."""
    container: Json = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if command:
        container["command"] = list(command)
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **(labels or {})}},
        "spec": {
            "containers": [container],
            "securityContext": security,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            **spec,
        },
    }


async def running(kube: Kube, namespace: str, pods: Iterable[Json], seconds: float = 60) -> list[PodInfo]:
    """Make these pods and wait until all of them run; in the order given."""
    names = []
    for body in pods:
        await kube.create(PODS, namespace, body)
        names.append(body["metadata"]["name"])
    async with asyncio.timeout(seconds), aclosing(mirror(kube, PODS, namespace)) as told:
        async for found in told:
            infos = {info.name: info for info in map(pod_info, found)}
            if all(name in infos and infos[name].running for name in names):
                return [infos[name] for name in names]
    raise AssertionError("the mirror ended")


async def caller_and_server(
    kube: Kube, namespace: str, callers: Sequence[str] = ("caller",), labels: dict[str, str] | None = None
) -> list[PodInfo]:
    """Pods that connect to a server all the time, and that server last."""
    server = (await running(kube, namespace, [pod("server", "python3", "-c", SERVE)]))[0]
    calling = [pod(name, "python3", "-c", CALL, server.ips[0], labels=labels) for name in callers]
    return [*await running(kube, namespace, calling), server]


def plan_for(
    pods: Sequence[PodInfo],
    *,
    on_node: bool = False,
    act: Act | None = None,
    direction: Direction = Direction.BOTH,
    flows: tuple[Flow, ...] = (),
    duration: float = 3,
    start_before: float = 30,
    guarded: bool = False,
) -> Plan:
    """A partition (unless told otherwise) of these pods from their peers, from now on, as one agent's plan."""
    run, now = secrets.token_hex(8), time.time()
    orders = tuple(
        Order(
            injection=injection_name(run, "fault", each.uid),
            fault="fault",
            pod_namespace=each.namespace,
            pod_name=each.name,
            pod_uid=each.uid,
            act=act or Drop(),
            direction=direction,
            flows=flows,
            start_at=now,
            start_before=now + start_before,
            not_after=now + start_before + duration,
            duration=duration,
        )
        for each in pods
    )
    place = pods[0].node if on_node else pods[0].uid
    return Plan(run=run, agent=agent_name(run, place), on_node=on_node, orders=orders, guarded=guarded)


def to(*pods: PodInfo) -> tuple[Flow, ...]:
    """All traffic with these pods."""
    return tuple(Flow(f"{each.ips[0]}/32") for each in pods)


async def until(
    evidence: AsyncGenerator[Line | AgentEnd, None], told: Told, lines: list[Line | AgentEnd], count: int = 1
) -> None:
    """Read on, into `lines`, until so many lines of that kind have come."""
    async for each in evidence:
        lines.append(each)
        if sum(isinstance(one, Line) and one.told is told for one in lines) >= count:
            return
    raise AssertionError(f"ended without {told}: {lines}")


def kinds(lines: Iterable[Line | AgentEnd]) -> list[str]:
    """What was told, without how often it counted or beat."""
    often = (Told.HITS, Told.HEARTBEAT)
    return [str(each.told) for each in lines if isinstance(each, Line) and each.told not in often]
