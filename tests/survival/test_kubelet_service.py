"""A kubelet that a node's systemd runs, stopped by an experiment: it is started again, whoever is left to do so.

The node is a further one, of the tests' cluster: systemd is its process 1.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bounceback.drivers.processes import Process, of_pod
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import EXPERIMENTS, NODES, PODS
from bounceback.types.told import Told
from dev.cluster import is_ready
from dev.state import Cluster
from tests.conftest import run_dev
from tests.survival.conftest import NAME as CLUSTER
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, held_no_more
from tests.survival.systemd_node import NAME, SystemdNode, joined
from tests.survival.test_nodes import SEEN_BY, allowed, lease, make, policies
from tests.survival.test_objects import ACTS_AS, place

__all__ = ["allowed", "place", "policies"]
BEGINS = 60.0
"""Seconds until the kubelet is stopped: the experiment is looked at, and its pod started."""
GUARDED = 2.0
"""Seconds after an agent's death."""


@pytest.fixture(scope="module")
def systemd(kubeconfig: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdNode]:
    image = Path(run_dev("dev.image", "build"))
    with joined(Cluster(CLUSTER), image, tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture
async def host(
    systemd: SystemdNode, allowed: str, policies: Callable[..., Any], make_operator: Callable[..., OperatorProcess]
) -> SystemdNode:
    """The node, an operator that may act on it, and a policy that lets it."""
    make_operator(more=ACTS_AS).start()
    await policies(allowed, NAME, "nodeNotReady")
    return systemd


async def stop(kube: Kube, namespace: str, host: SystemdNode, seconds: int) -> str:
    """It is stopped for that time by an experiment, and is gone; the name of the injection."""
    target = {"name": "host", "nodes": {"names": [NAME]}}
    fault = {"name": "stopped", "target": "host", "nodeNotReady": {"mode": "Stop"}, "durationSeconds": seconds}
    await make(kube, namespace, "experiment", target, fault)
    await becomes(host, "inactive", BEGINS)
    status = (await kube.get(EXPERIMENTS, namespace, "experiment"))["status"]
    return str(status["injections"][0]["name"])


async def becomes(host: SystemdNode, state: str, seconds: float) -> None:
    """The kubelet's service, within that time."""
    end = time.monotonic() + seconds
    while (now := host.of_kubelet("ActiveState")) != state:
        assert time.monotonic() < end, now
        await asyncio.sleep(0.2)


async def ended(kube: Kube, namespace: str) -> tuple[Json, Json]:
    """The status of the experiment, and of its injection."""
    status = await finished(kube, namespace, "experiment")
    await held_no_more(kube, namespace, "experiment")
    (injection,) = status["injections"]
    return status, injection


def went_well(status: Json) -> None:
    """As far as a machine that stands still now and then can tell."""
    assert status["verdict"] in ("Passed", "Inconclusive"), status
    assert {finding["reason"] for finding in status["findings"]} <= {"ObservationGap"}, status
    assert (status["axes"]["injection"], status["axes"]["cleanup"]) == ("Proven", "Clean")


async def agents(kube: Kube, home: str, host: SystemdNode) -> dict[str, Process]:
    """The agent and its guard, by container, as this machine sees them, once the agent has told that it hit."""
    (pod,) = (await kube.list(PODS, home, labels="bounceback.dev/role=agent"))[0]
    uid = pod["metadata"]["uid"]
    async with asyncio.timeout(BEGINS):
        while f'"told":"{Told.HITS}"' not in host.log_of(uid, "agent"):  # which nobody can ask the kubelet for
            await asyncio.sleep(0.1)
    return {each.container: each for each in reversed(of_pod(uid)) if each.container}


async def test_it_is_stopped_for_its_time_and_another_one_begins(kube: Kube, allowed: str, host: SystemdNode) -> None:
    before, heard = host.of_kubelet("MainPID"), await lease(kube, NAME)
    name = await stop(kube, allowed, host, 8)
    assert host.systemctl("is-active", f"bounceback-{name}.timer") == "active"
    status, injection = await ended(kube, allowed)
    went_well(status)
    assert injection["node"] == injection["object"]["name"] == NAME
    assert 6_000 <= injection["hits"] <= 12_000, injection  # systemd's own timer is 2 s later than the 8
    assert "kubelet.service was stopped for" in injection["message"]
    assert host.of_kubelet("ActiveState") == "active"
    assert host.of_kubelet("MainPID") not in ("0", before)
    assert not host.timers()
    async with asyncio.timeout(SEEN_BY):
        while await lease(kube, NAME) == heard:
            await asyncio.sleep(0.5)


async def test_its_guard_starts_it_when_the_agent_is_killed(
    kube: Kube, home: str, allowed: str, host: SystemdNode
) -> None:
    await stop(kube, allowed, host, 60)
    agent = (await agents(kube, home, host))["agent"]
    os.kill(agent.number, signal.SIGKILL)
    await becomes(host, "active", GUARDED)
    status, injection = await ended(kube, allowed)
    assert (status["verdict"], status["axes"]["cleanup"]) == ("Inconclusive", "Clean"), status["findings"]
    assert "FaultTooShort" in {each["reason"] for each in status["findings"]}
    assert injection["reason"] == "AgentLost"
    assert not host.timers()


@pytest.mark.slow
async def test_its_systemd_starts_it_though_everybody_is_dead(
    kube: Kube, home: str, allowed: str, host: SystemdNode
) -> None:
    """Long enough for the cluster to lose the node."""
    await stop(kube, allowed, host, 60)
    found = await agents(kube, home, host)
    assert set(found) == {"agent", "agent-guard"}
    os.kill(found["agent"].number, signal.SIGSTOP)  # or it would put things right for want of a guard
    for each in ("agent-guard", "agent"):
        os.kill(found[each].number, signal.SIGKILL)
    async with asyncio.timeout(SEEN_BY):
        while is_ready(await kube.get(NODES, None, NAME)):
            await asyncio.sleep(0.5)
    assert host.of_kubelet("ActiveState") == "inactive"
    await becomes(host, "active", SEEN_BY)
    status, injection = await ended(kube, allowed)
    went_well(status)
    assert injection["reason"] == "AgentLost", "what it told was read once its kubelet was back"
    assert not host.timers()
    async with asyncio.timeout(SEEN_BY):
        while not is_ready(await kube.get(NODES, None, NAME)):
            await asyncio.sleep(0.5)
