"""Faults on nodes: only what a policy allows, no longer than it does, and nothing of it stays.

Here they are on a cluster of their own: its kubelet may be stopped, and its node drained.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import yaml

from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.client import APPLY_PATCH, Json
from bounceback.kube.resources import EXPERIMENTS, LEASES, NODES, PODS, POLICIES
from bounceback.types.outcome import Phase
from bounceback.types.selectors import LabelSelector
from bounceback.vehicles.node_access import node_access_manifest
from bounceback.vehicles.pods import list_pods
from tests.conftest import ACCOUNT, RBAC, ROOT
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, held_no_more, reached, until
from tests.survival.test_objects import ACTS_AS, DEPLOYMENTS, left_at_home, place
from tests.workload import pod, running

__all__ = ["place"]
OF_CLUSTER = {
    "ClusterRole": Resource(RBAC, "clusterroles", namespaced=False),
    "ClusterRoleBinding": Resource(RBAC, "clusterrolebindings", namespaced=False),
}
BUDGETS = Resource("policy/v1", "poddisruptionbudgets")
SEEN_BY = 60.0  # seconds in which a lease of the kubelet's, renewed each 10 s, is renewed on a busy machine


@pytest.fixture
async def allowed(kube: Kube, place: str) -> AsyncIterator[str]:
    """The namespace, whose account may change nodes."""
    async with granted(kube, place):
        yield place


@asynccontextmanager
async def granted(kube: Kube, place: str) -> AsyncIterator[None]:
    """That right; it goes again."""
    manifest = node_access_manifest(place, ACCOUNT)
    for body in manifest:
        name = body["metadata"]["name"]
        await kube.patch(OF_CLUSTER[body["kind"]], None, name, body, content_type=APPLY_PATCH, force=True)
    try:
        yield
    finally:
        await kube.delete(OF_CLUSTER["ClusterRoleBinding"], None, manifest[1]["metadata"]["name"])


@pytest.fixture
async def spare(kube: Kube) -> AsyncIterator[str]:
    """A node that nothing runs on: nobody but the test needs it."""
    name = f"spare-{secrets.token_hex(4)}"
    await kube.create(NODES, None, {"metadata": {"name": name, "labels": {"pool": name}}})
    try:
        yield name
    finally:
        await kube.delete(NODES, None, name)


@pytest.fixture
async def node(kube: Kube, home: str, make_operator: Callable[..., OperatorProcess]) -> str:
    """The only one there is that pods run on, and an operator that may act on it."""
    make_operator(more=ACTS_AS).start()
    (only,) = [each["metadata"]["name"] for each in (await kube.list(NODES))[0]]
    return str(only)


@pytest.fixture
async def policies(kube: Kube) -> AsyncIterator[Callable[..., Any]]:
    """Makes policies; they go with the test."""
    made: list[str] = []

    async def allow(namespace: str, node: str, *faults: str) -> str:
        name = f"policy-{secrets.token_hex(4)}"
        spec = {
            "experiments": {"namespaces": {"names": [namespace]}},
            "allow": {"nodes": {"names": [node], "faults": list(faults)}},
        }
        kinds = {"apiVersion": "bounceback.dev/v1alpha1", "kind": "FaultPolicy"}
        await kube.create(POLICIES, None, {**kinds, "metadata": {"name": name}, "spec": spec})
        made.append(name)
        return name

    yield allow
    for name in made:
        await forget(kube, name)


async def forget(kube: Kube, policy: str) -> None:
    try:
        await kube.delete(POLICIES, None, policy)
    except KubeError as error:
        if not error.gone:
            raise


def example(name: str) -> tuple[Json, Json]:
    """The targets and the faults of an experiment that users are given, one each."""
    spec = yaml.safe_load((ROOT / "examples" / name / "experiment.yaml").read_text())["spec"]
    (target,), (fault,) = spec["targets"], spec["faults"]
    return target, fault


async def make(kube: Kube, namespace: str, name: str, target: Json, fault: Json, **more: Any) -> None:
    spec = {
        "targets": [target],
        "faults": [fault],
        "checks": [{"name": "reachable"}],
        "steadyState": {"holdSeconds": 1, "timeoutSeconds": 30},
        **more,
    }
    kinds = {"apiVersion": "bounceback.dev/v1alpha1", "kind": "FaultExperiment"}
    await kube.create(EXPERIMENTS, namespace, {**kinds, "metadata": {"name": name}, "spec": spec})


def cordon(node: str, seconds: int) -> tuple[Json, Json]:
    """By the label that only this node has."""
    target = {"name": "node", "nodes": {"selector": {"matchLabels": {"pool": node}}}}
    return target, {"name": "cordon", "target": "node", "nodeCordon": {}, "durationSeconds": seconds}


async def cordoned(kube: Kube, node: str) -> bool:
    return bool((await kube.get(NODES, None, node))["spec"].get("unschedulable"))


async def test_a_node_is_touched_only_where_a_policy_allows_it_and_for_as_long(
    kube: Kube,
    home: str,
    allowed: str,
    spare: str,
    policies: Callable[..., Any],
    make_operator: Callable[..., OperatorProcess],
) -> None:
    make_operator(more=ACTS_AS).start()
    await make(kube, allowed, "refused", *cordon(spare, 5))
    status = await finished(kube, allowed, "refused")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "NotAllowed"), status
    assert f"no FaultPolicy allows nodeCordon on node {spare}" in status["ending"]["message"]
    assert "spec.faults[0].nodeCordon" in status["ending"]["message"]
    assert not status.get("injections")

    policy = await policies(allowed, spare, "nodeCordon")
    await make(kube, allowed, "cordoned", *cordon(spare, 15))
    seen = await until(kube, allowed, "cordoned", reached(Phase.ACTIVE))
    assert await cordoned(kube, spare), seen["status"]
    await kube.patch(NODES, None, spare, {"metadata": {"annotations": {"others": "too"}}})
    status = await finished(kube, allowed, "cordoned")
    (injection,) = status["injections"]
    assert (status["verdict"], status["axes"]["cleanup"], injection["hits"]) == ("Passed", "Clean", 1), status
    assert injection["object"]["name"] == spare
    body = await kube.get(NODES, None, spare)
    assert "unschedulable" not in body["spec"]
    assert body["metadata"]["annotations"]["others"] == "too"

    await held_no_more(kube, allowed, "cordoned")  # until then it holds the node
    await make(kube, allowed, "withdrawn", *cordon(spare, 600))
    seen = await until(kube, allowed, "withdrawn", reached(Phase.ACTIVE))
    assert await cordoned(kube, spare), seen["status"]
    await forget(kube, policy)
    status = await finished(kube, allowed, "withdrawn")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "NotAllowed"), status
    assert "what was allowed is withdrawn" in status["ending"]["message"]
    assert status["axes"]["cleanup"] == "Clean"
    assert not await cordoned(kube, spare)

    await policies(allowed, spare, "nodeCordon")
    await kube.patch(NODES, None, spare, {"spec": {"unschedulable": True}})
    await held_no_more(kube, allowed, "withdrawn")
    await make(kube, allowed, "of-others", *cordon(spare, 5))
    status = await finished(kube, allowed, "of-others")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "DoesNotFit"), status
    assert "cordoned already, by others" in status["ending"]["message"]
    assert await cordoned(kube, spare)
    for name in ("refused", "cordoned", "withdrawn", "of-others"):
        await held_no_more(kube, allowed, name)


async def test_without_the_right_or_against_a_budget_no_node_is_touched(
    kube: Kube, place: str, policies: Callable[..., Any], node: str
) -> None:
    await policies(place, node, "nodeDrain")
    target, fault = example("A6-node-drain")
    drain = {**target, "nodes": {"ofPods": WEB}}, {**fault, "durationSeconds": 5}
    await until_ready(kube, place, 1)

    async def refused(name: str, reason: str, *words: str) -> None:
        await make(kube, place, name, *drain)
        status = await finished(kube, place, name)
        assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", reason), status
        assert all(word in status["ending"]["message"] for word in words), status["ending"]
        assert not status.get("injections") and not await cordoned(kube, node)
        await held_no_more(kube, place, name)

    await refused("no-right", "Forbidden", "spec.serviceAccountName", f"`bounceback access {place} --nodes |")
    async with granted(kube, place):
        budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": WEB}}
        await kube.create(BUDGETS, place, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", **budget})
        await refused("kept", "BudgetForbids", "spec.faults[0].nodeDrain", "web-")


CALLING = """
import socket, sys, time
while True:
    try:
        socket.create_connection((sys.argv[1], 8080), 0.5).close()
    except OSError:
        pass
    time.sleep(0.1)
"""


async def test_a_nodes_own_network_is_hit_only_where_a_policy_allows_it(
    kube: Kube, allowed: str, policies: Callable[..., Any], node: str
) -> None:
    """A pod with hostNetwork calls the web, and is cut off from it."""
    async with asyncio.timeout(60):
        while not (web := await list_pods(kube, allowed, LabelSelector(match_labels={"app": "web"}))) or not web[0].ips:
            await asyncio.sleep(0.2)
    caller = pod("caller", "python3", "-c", CALLING, web[0].ips[0])
    caller["spec"]["hostNetwork"] = True
    await running(kube, allowed, [caller])
    target = {"name": "caller", "pods": {"selector": {"matchLabels": {"app": "caller"}}, "mode": "All"}}
    cut = {"name": "cut", "target": "caller", "durationSeconds": 5}
    peers = {"peers": [{"pods": {"selector": WEB}}]}
    aborted = {
        "alone": (peers, "NotAllowed", f"no FaultPolicy allows hostNetwork on node {node}"),
        "all-cut": ({}, "HostNetwork", "name the peers, or the node is cut off from everything"),
    }
    for name, (partition, reason, words) in aborted.items():
        await make(kube, allowed, name, target, {**cut, "networkPartition": partition})
        status = await finished(kube, allowed, name)
        assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", reason), status
        assert words in status["ending"]["message"] and not status.get("injections")
        await held_no_more(kube, allowed, name)
    policy = await policies(allowed, node, "hostNetwork")
    await make(kube, allowed, "cut", target, {**cut, "networkPartition": peers})
    status = await finished(kube, allowed, "cut")
    (injection,) = status["injections"]
    assert (status["verdict"], status["axes"]["cleanup"]) == ("Passed", "Clean"), status
    assert injection["hits"] and injection["hostNetwork"] and injection["rung"] == "Nft"
    await held_no_more(kube, allowed, "cut")

    await make(kube, allowed, "withdrawn", target, {**cut, "durationSeconds": 600, "networkPartition": peers})
    await until(kube, allowed, "withdrawn", reached(Phase.ACTIVE))
    await forget(kube, policy)
    status = await finished(kube, allowed, "withdrawn")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "NotAllowed"), status
    assert status["axes"]["cleanup"] == "Clean"
    await held_no_more(kube, allowed, "withdrawn")


async def test_a_drained_node_is_empty_and_takes_pods_again(
    kube: Kube, allowed: str, policies: Callable[..., Any], node: str
) -> None:
    """The example's fault on the only node there is: what takes the evicted pods' place has to wait for it."""
    await kube.patch(DEPLOYMENTS, allowed, "web", {"spec": {"replicas": 2}})
    before = await until_ready(kube, allowed, 2)
    await policies(allowed, node, "nodeDrain")
    target, fault = example("A6-node-drain")
    await make(kube, allowed, "drain", {**target, "nodes": {"ofPods": WEB}}, {**fault, "durationSeconds": 25})
    await until(kube, allowed, "drain", lambda status: status.get("injectionCounts", {}).get("hits") == 3)
    assert await cordoned(kube, node)
    assert not await ready(kube, allowed) & before, "they were not evicted"
    status = await finished(kube, allowed, "drain")
    assert (status["verdict"], status["axes"]["cleanup"]) == ("Passed", "Clean"), status
    assert status["targets"] == {target["name"]: 1}
    assert {i.get("pod") for i in status["injections"] if i.get("pod")} and not await cordoned(kube, node)
    await until_ready(kube, allowed, 2)
    await held_no_more(kube, allowed, "drain")


WEB = {"matchLabels": {"app": "web"}}


async def until_ready(kube: Kube, namespace: str, count: int) -> set[str]:
    """The UIDs of the web's pods once so many are."""
    async with asyncio.timeout(60):
        while len(found := await ready(kube, namespace)) < count:
            await asyncio.sleep(0.2)
    return found


async def ready(kube: Kube, namespace: str) -> set[str]:
    """The UIDs of the web's pods that are."""
    found, _ = await kube.list(PODS, namespace, labels="app=web")
    return {
        each["metadata"]["uid"]
        for each in found
        for condition in each["status"].get("conditions") or []
        if (condition["type"], condition["status"]) == ("Ready", "True") and "deletionTimestamp" not in each["metadata"]
    }


async def test_a_kubelet_stands_still_and_is_heard_of_again(
    kube: Kube, home: str, allowed: str, policies: Callable[..., Any], node: str
) -> None:
    """The example's fault, shorter. Meanwhile nobody can look; afterwards it is told what was."""
    await policies(allowed, node, "nodeNotReady")
    target, fault = example("A6-node-not-ready")
    await make(
        kube,
        allowed,
        "silent",
        {**target, "nodes": {"ofPods": {"matchLabels": {"app": "server"}}}},
        {**fault, "durationSeconds": 15},
    )
    await until(kube, allowed, "silent", reached(Phase.ACTIVE))
    with pytest.raises((TimeoutError, KubeError)):  # the kubelet is stopped half a second after it was told of
        for _ in range(10):
            async with asyncio.timeout(4):
                await kube.exec(allowed, "server", "main", ["true"], seconds=4)
            await asyncio.sleep(0.5)
    status = await finished(kube, allowed, "silent", seconds=120)
    (injection,) = status["injections"]
    assert (status["verdict"], status["axes"]["cleanup"]) == ("Passed", "Clean"), status
    assert injection["object"]["name"] == injection["node"] == node
    assert 10_000 <= injection["hits"] <= 17_000, injection  # the timer on the host may be 2 s late
    assert "stood still for" in injection["message"]
    renewed, began = (await lease(kube, node)), time.monotonic()
    while await lease(kube, node) == renewed:
        assert time.monotonic() - began < SEEN_BY, "the kubelet is not heard of"
        await asyncio.sleep(0.5)
    await held_no_more(kube, allowed, "silent")
    assert not [each for each in await left_at_home(kube, home) if "rollback" in each]


async def lease(kube: Kube, node: str) -> str:
    return str((await kube.get(LEASES, "kube-node-lease", node))["spec"]["renewTime"])
