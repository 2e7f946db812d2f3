"""Targets that are stopped, killed, evicted and replaced: nobody stays frozen, and the fault follows who comes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from bounceback.drivers.processes import of_pod
from bounceback.engine.model import PodInfo
from bounceback.kube import Kube, Resource
from bounceback.kube.client import Json
from bounceback.kube.resources import PODS
from bounceback.types.outcome import Phase
from tests.survival.operators import OperatorProcess
from tests.survival.runs import CALLERS, finished, make_experiment, reached, until
from tests.survival.together import together
from tests.workload import pod

pytestmark = pytest.mark.asyncio(loop_scope="module")
Shop = tuple[list[PodInfo], PodInfo]
DEPLOYMENTS = Resource("apps/v1", "deployments")
BUDGETS = Resource("policy/v1", "poddisruptionbudgets")
CREW = {"matchLabels": {"role": "crew"}}


async def crew(kube: Kube, namespace: str) -> list[Json]:
    """Two pods of a Deployment, whose containers share their processes."""
    body = pod("crew", "python3", "-c", "import time; time.sleep(3600)", labels={"role": "crew"})["spec"]
    template = {"metadata": {"labels": {"role": "crew"}}, "spec": {**body, "shareProcessNamespace": True}}
    spec = {"replicas": 2, "selector": CREW, "template": template}
    made = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "crew"}, "spec": spec}
    await kube.create(DEPLOYMENTS, namespace, made)
    async with asyncio.timeout(60):
        while len(found := [each for each in await members(kube, namespace) if _ready(each)]) < 2:
            await asyncio.sleep(0.2)
    return found


async def members(kube: Kube, namespace: str) -> list[Json]:
    return (await kube.list(PODS, namespace, labels="role=crew"))[0]


def on_crew(name: str, seconds: int, mode: str = "One", **fault: Any) -> tuple[Json, Json]:
    """The fault's entry, and the rest of the spec."""
    target = {"name": "crew", "pods": {"selector": CREW, "mode": mode}}
    return {"name": name, "target": "crew", "durationSeconds": seconds, **fault}, {"targets": [target]}


def stopped(uid: str) -> bool:
    """Any process of that pod is, as this machine's kernel has it."""
    return any(each.state() == "T" for each in of_pod(uid))


async def eventually(holds: Callable[[], bool], seconds: float) -> None:
    """At a look that began within that time."""
    end = time.monotonic() + seconds
    looked = time.monotonic()
    while not holds():
        assert looked < end
        await asyncio.sleep(0.02)
        looked = time.monotonic()


@together
async def test_a_freeze_follows_to_the_pod_that_takes_the_targets_place(
    kube: Kube, namespace: str, shop: Shop, make_operator: Callable[[], OperatorProcess]
) -> None:
    there = await crew(kube, namespace)
    first, second = make_operator(), make_operator()
    first.start()
    fault, spec = on_crew("still", 40, followReplacements=True, processSignal={"signal": "Freeze"})
    await make_experiment(kube, namespace, "followed", fault, **spec)
    seen = await until(kube, namespace, "followed", reached(Phase.ACTIVE))
    (injection,) = seen["status"]["injections"]
    await eventually(lambda: stopped(injection["podUid"]), 20)
    (bystander,) = [each["metadata"]["uid"] for each in there if each["metadata"]["uid"] != injection["podUid"]]
    await kube.delete(PODS, namespace, injection["pod"], grace=0)
    seen = await until(kube, namespace, "followed", lambda status: len(status.get("injections") or []) == 2)
    first.kill()
    second.start()
    status = await finished(kube, namespace, "followed", 120)
    assert len(status["injections"]) == 2, status["injections"]
    one, two = status["injections"]
    assert status["axes"] | {"recovery": ""} == {
        "injection": "Proven",
        "recovery": "",
        "consistency": "Passed",
        "cleanup": "Clean",
    }, status
    assert (one["replacedBy"], two["replaces"]) == (two["pod"], one["name"])
    assert two["podUid"] != bystander
    assert two["hits"] >= 1
    assert two["gapMilliseconds"] >= 0, "the first agent may have seen its pod go only after the second one was there"
    assert not any(stopped(each["metadata"]["uid"]) for each in await members(kube, namespace))


@together
async def test_an_agent_that_is_killed_leaves_nobody_frozen(
    kube: Kube, home: str, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    callers, _ = shop
    fault = {"name": "still", "target": "callers", "durationSeconds": 60, "processSignal": {"signal": "Freeze"}}
    targets = [{"name": "callers", "pods": {"selector": CALLERS}}]
    await make_experiment(kube, namespace, "lost", fault, targets=targets)
    await eventually(lambda: all(stopped(each.uid) for each in callers), 60)
    (agent,) = (await kube.list(PODS, home, labels="bounceback.dev/role=agent"))[0]
    for process in of_pod(agent["metadata"]["uid"]):
        if process.container == "agent":
            os.kill(process.number, signal.SIGKILL)
    await eventually(lambda: not any(stopped(each.uid) for each in callers), 2)
    status = await finished(kube, namespace, "lost")
    assert {injection["reason"] for injection in status["injections"]} == {"AgentLost"}
    assert status["axes"]["cleanup"] == "Clean"


@together
async def test_a_container_that_is_killed_is_started_again_and_that_is_counted(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    await crew(kube, namespace)
    fault, spec = on_crew("killed", 5, mode="All", containerKill={})
    await make_experiment(kube, namespace, "restarted", fault, **spec)
    status = await finished(kube, namespace, "restarted")
    assert status["verdict"] == "Passed", status
    assert [injection["reason"] for injection in status["injections"]] == ["Done", "Done"]
    assert [injection["hits"] for injection in status["injections"]] == [1, 1]
    assert "SIGKILL to python3" in status["injections"][0]["message"]
    assert all(injection["restarts"] <= 1 for injection in status["injections"])


@together
async def test_a_budget_forbids_an_eviction_before_anything_is_touched(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    before = {each["metadata"]["uid"] for each in await crew(kube, namespace)}
    budget = {"metadata": {"name": "crew"}, "spec": {"minAvailable": 2, "selector": CREW}}
    await kube.create(BUDGETS, namespace, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", **budget})
    fault, spec = on_crew("evicted", 10, podEvict={"gracePeriodSeconds": 0})
    await make_experiment(kube, namespace, "forbidden", fault, **spec)
    status = await finished(kube, namespace, "forbidden")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "BudgetForbids"), status
    assert status["ending"]["message"].startswith("spec.faults[0].podEvict: a PodDisruptionBudget forbids")
    assert {each["metadata"]["uid"] for each in await members(kube, namespace)} == before
    # One of two may go at a time: the other waits until the first one's replacement is ready.
    await kube.patch(BUDGETS, namespace, "crew", {"spec": {"minAvailable": 1}})
    fault, spec = on_crew("evicted", 60, mode="All", podEvict={"gracePeriodSeconds": 0})
    await make_experiment(kube, namespace, "allowed", fault, **spec)
    status = await finished(kube, namespace, "allowed", 120)
    assert (status["verdict"], status["axes"]["injection"]) == ("Passed", "Proven"), status
    assert [injection["hits"] for injection in status["injections"]] == [1, 1]
    assert not {each["metadata"]["uid"] for each in await members(kube, namespace)} & before
    await kube.patch(BUDGETS, namespace, "crew", {"spec": {"minAvailable": 2}})
    fault, spec = on_crew("evicted", 10, podEvict={"gracePeriodSeconds": 0, "respectBudgets": False})
    await make_experiment(kube, namespace, "forced", fault, **spec)
    status = await finished(kube, namespace, "forced")
    assert (status["verdict"], status["axes"]["injection"]) == ("Passed", "Proven"), status


def _ready(body: Json) -> bool:
    conditions = body.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
