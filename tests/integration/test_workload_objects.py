"""Workloads on objects of a real API server: left alone, cleaned up by somebody, set back by somebody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bounceback.accounting.account import Account, Flaw, judge
from bounceback.accounting.checking import check
from bounceback.accounting.ledger import Model
from bounceback.api.workload import Workload
from bounceback.kube import Kube
from bounceback.kube.client import MERGE_PATCH
from bounceback.kube.resources import CONFIG_MAPS
from bounceback.types.outcome import Verdict
from bounceback.workload.running import Run
from bounceback.workload.systems import system_of
from tests.commands import Commands


def workload(commands: Commands, namespace: str, model: Model, **changes: Any) -> Workload:
    few = {"load": {"closed": {"clients": 4}}, "mostOperations": 200, "seconds": 3600, "settleSeconds": 0}
    place = {"namespace": namespace, "kubeconfig": str(commands.kubeconfig)}
    place |= changes.pop("kubernetes", {})
    return Workload.model_validate(
        {"model": model, "kubernetes": place, "keys": 4, "timeoutMilliseconds": 20_000} | few | changes
    )


async def carried_out(asked: Workload, run: int = 1) -> Account:
    running = Run(asked, system_of(asked), run)
    await running.live()
    return check(asked.model, running.course.ledger)


@pytest.mark.parametrize("model", [Model.SET, Model.REGISTER])
async def test_objects_that_are_left_alone_pass(commands: Commands, namespace: str, model: Model) -> None:
    account = await carried_out(workload(commands, namespace, model))
    assert (account.failed, account.unknown) == (0, 0)
    assert account.acknowledged > 100
    assert judge(account).verdict is Verdict.PASSED


async def test_values_are_numbers_where_the_kind_has_them(commands: Commands, namespace: str) -> None:
    """At a fixed rate; and what the API server refuses is failed, with its words."""
    numbered = {"apiVersion": "apps/v1", "kind": "ControllerRevision", "field": "revision", "text": False}
    load: dict[str, Any] = {"load": {"open": {"perSecond": 30, "connections": 4}}, "seconds": 1}
    sound = {**numbered, "rest": {"data": {"of": "bounceback"}}}
    account = await carried_out(workload(commands, namespace, Model.REGISTER, kubernetes=sound, **load))
    assert account.acknowledged > 0 and judge(account).verdict is Verdict.PASSED
    asked = workload(commands, namespace, Model.REGISTER, kubernetes=numbered, mostOperations=20)
    run = Run(asked, system_of(asked), 2)
    await run.live()
    account = check(asked.model, run.course.ledger)
    assert account.acknowledged == account.unknown == 0 < account.failed
    assert "data: Required value" in run.course.trouble
    assert judge(account).verdict is Verdict.INCONCLUSIVE


async def test_somebody_who_cleans_up_is_told(commands: Commands, namespace: str, kube: Kube) -> None:
    asked = workload(commands, namespace, Model.SET, mostOperations=150)
    run = Run(asked, system_of(asked), 1)
    living = asyncio.create_task(run.live())
    gone = 0
    while gone < 5:
        found, _ = await kube.list(CONFIG_MAPS, namespace, labels="bounceback.dev/workload")
        for each in found[: 5 - gone]:
            await kube.delete(CONFIG_MAPS, namespace, each["metadata"]["name"])
            gone += 1
    await living
    account = check(asked.model, run.course.ledger)
    assert account.count(Flaw.LOST) == 5
    assert judge(account).verdict is Verdict.FAILED


async def test_somebody_who_sets_values_back_is_told(commands: Commands, namespace: str, kube: Kube) -> None:
    asked = workload(commands, namespace, Model.REGISTER, keys=1, settleSeconds=20, load={"closed": {"clients": 1}})
    run = Run(asked, system_of(asked), 1)
    living = asyncio.create_task(run.live())
    old: str | None = None
    while run.course.ledger.read_back_from is None and not run.course.was_full:
        found, _ = await kube.list(CONFIG_MAPS, namespace, labels="bounceback.dev/workload")
        if found and old is None:
            old = found[0]["data"]["value"]
        await asyncio.sleep(0.02)
    (only, *_), _ = await kube.list(CONFIG_MAPS, namespace, labels="bounceback.dev/workload")
    back = {"data": {"value": old}}
    await kube.patch(CONFIG_MAPS, namespace, only["metadata"]["name"], back, content_type=MERGE_PATCH)
    await living
    account = check(asked.model, run.course.ledger)
    assert account.count(Flaw.LOST) > 10
    assert judge(account).verdict is Verdict.FAILED
