"""The Job that repairs, at a real cluster: it runs once whoever takes it over, and how it ended is told rightly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import RepairStatus
from bounceback.controller.leader import NotLeaderError
from bounceback.controller.repairing import RUN_LABEL, Repairing, check_repair
from bounceback.engine.naming import repair_name
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS, JOBS, PODS
from bounceback.types.outcome import RepairState
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.errors import Refused
from tests.conftest import ACCOUNT, OPERATOR, apply, until_known
from tests.spec_case import EXPERIMENT
from tests.workload import pod

pytestmark = pytest.mark.cluster

PATIENCE = 120
"""Seconds for what takes two on an idle machine."""


def manual(template: Json, seconds: int = PATIENCE) -> FaultExperimentSpec:
    repair = {"job": {"template": template}, "timeoutSeconds": seconds}
    return FaultExperimentSpec.model_validate({**EXPERIMENT, "expect": "Manual", "repair": repair})


def python(text: str, **fields: Any) -> Json:
    template: Json = pod("x", "python3", "-c", text, **fields)["spec"]
    return template


class Repair:
    """One run's repair, as any number of operators come to see to it. What owns the Job is a ConfigMap here."""

    def __init__(self, acting: Kube, owner: Json, spec: FaultExperimentSpec) -> None:
        self.acting, self.owner, self.spec = acting, owner, spec
        self.uid, self.namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
        self.status = RepairStatus(name=repair_name(self.uid))

    @classmethod
    async def of(cls, kube: Kube, namespace: str, acting: Kube, spec: FaultExperimentSpec) -> Repair:
        owner = await kube.create(CONFIG_MAPS, namespace, {"metadata": {"generateName": "run-"}})
        return cls(acting, {"apiVersion": "v1", "kind": "ConfigMap", **owner}, spec)

    def operator(self, may_act: Any = lambda: None) -> Repairing:
        return Repairing(self.acting, self.owner, self.spec, may_act, lambda: None)

    async def made(self) -> Repairing:
        """With its UID written down."""
        operator = self.operator()
        await operator.make(self.status)
        self.status = self.status.model_copy(update={"uid": operator.task.uid, "state": RepairState.RUNNING})
        return operator

    async def ended(self) -> Repairing:
        operator = await self.made()
        await operator.see_through(self.status)
        return operator

    async def job(self) -> Json:
        return await self.acting.get(JOBS, self.namespace, self.status.name)

    async def pods(self) -> list[Json]:
        return (await self.acting.list(PODS, self.namespace, labels=f"{RUN_LABEL}={self.uid}"))[0]


async def test_a_repair_runs_once_whoever_sees_to_it_and_ends_as_it_did(
    kube: Kube, acting: Kube, namespace: str
) -> None:
    template = python("print('password=letmein'); print('renewed', flush=True)")
    with pytest.raises(Refused, match=r"create jobs\.batch.*--objects jobs\.batch"):
        await check_repair(acting, namespace, "uid", manual(template))
    await apply(kube, access_manifest(namespace, ACCOUNT, namespace, OPERATOR, objects=["jobs.batch"]))
    await until_known(acting, namespace, JOBS)
    await check_repair(acting, namespace, "uid", manual(template))
    with pytest.raises(Refused, match=r"spec\.repair\.job\.template: the API server does not take the Job"):
        await check_repair(acting, namespace, "uid", manual({"containers": [{"name": "no-image"}]}))
    async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as tasks:
        for play in (_taken_over, _fails, _too_slow, _never_starts, _deleted, _of_others):
            tasks.create_task(play(kube, acting, namespace))


async def _taken_over(kube: Kube, acting: Kube, namespace: str) -> None:
    """By one operator after the other, and by two at once."""
    repair = await Repair.of(kube, namespace, acting, manual(python("print('password=letmein'); print('renewed')")))

    def overtaken() -> None:
        raise NotLeaderError("another leads")

    with pytest.raises(NotLeaderError):
        await repair.operator(overtaken).make(repair.status)
    first, second = await repair.made(), repair.operator()
    await second.make(repair.status)
    assert second.task.uid == first.task.uid == (await repair.job())["metadata"]["uid"]
    await asyncio.sleep(1)
    assert (await repair.job())["spec"]["suspend"] is True
    assert await repair.pods() == [], "what is suspended does not run"
    await asyncio.gather(first.see_through(repair.status), second.see_through(repair.status))
    third = repair.operator()
    await third.see_through(repair.status)
    for operator in (first, second, third):
        assert (operator.task.ended, operator.task.reason) == (RepairState.DONE, "Completed")
        assert operator.task.log == "password=***\nrenewed\n"
    assert first.task.begun and first.task.ended_at
    assert first.task.ended_at.latest.since(first.task.begun.earliest) > 0
    assert len(await repair.pods()) == 1, "it ran once"
    await first.remove(repair.status)
    await second.remove(repair.status)
    while await repair.pods():
        await asyncio.sleep(0.2)


async def _fails(kube: Kube, acting: Kube, namespace: str) -> None:
    template = python("print('no such host', flush=True); raise SystemExit(3)")
    task = (await (await Repair.of(kube, namespace, acting, manual(template))).ended()).task
    assert (task.ended, task.reason) == (RepairState.FAILED, "ExitCode")
    assert task.message == "it ended with exit code 3; it wrote last: no such host"


async def _too_slow(kube: Kube, acting: Kube, namespace: str) -> None:
    """A busy machine may be too slow to start it at all, and that is told apart."""
    template = python("print('trying', flush=True); import time; time.sleep(3600)")
    task = (await (await Repair.of(kube, namespace, acting, manual(template, 8))).ended()).task
    ends = {(RepairState.FAILED, "TimedOut"), (RepairState.NOT_RUN, "NeverStarted")}
    assert (task.ended, task.reason) in ends


async def _never_starts(kube: Kube, acting: Kube, namespace: str) -> None:
    template = python("pass", image="registry.invalid/none:1")
    task = (await (await Repair.of(kube, namespace, acting, manual(template, 6))).ended()).task
    assert (task.ended, task.reason) == (RepairState.NOT_RUN, "NeverStarted")


async def _deleted(kube: Kube, acting: Kube, namespace: str) -> None:
    """Nobody makes another one."""
    repair = await Repair.of(kube, namespace, acting, manual(python("import time; time.sleep(3600)")))
    operator = await repair.made()
    await kube.delete(JOBS, namespace, repair.status.name)
    while repair.status.name in [each["metadata"]["name"] for each in (await kube.list(JOBS, namespace))[0]]:
        await asyncio.sleep(0.1)
    await operator.see_through(repair.status)
    assert (operator.task.ended, operator.task.reason) == (RepairState.UNKNOWN, "Deleted")
    await repair.operator().make(RepairStatus(name=repair.status.name))
    stale = repair.operator()
    await stale.see_through(repair.status)
    assert (stale.task.ended, stale.task.reason) == (RepairState.UNKNOWN, "Deleted"), "another of its name is let be"
    assert (await repair.job())["spec"]["suspend"] is True


async def _of_others(kube: Kube, acting: Kube, namespace: str) -> None:
    repair = await Repair.of(kube, namespace, acting, manual(python("pass")))
    body = {
        "metadata": {"name": repair.status.name},
        "spec": {"suspend": True, "template": {"spec": python("pass", restartPolicy="Never")}},
    }
    await kube.create(JOBS, namespace, body)
    operator = repair.operator()
    await operator.make(repair.status)
    assert "already, and it is not ours" in operator.task.refused
    await operator.remove(repair.status)
    assert await repair.job(), "what is not ours is not ours to delete"
