"""Verdicts on the check that was used: every one is kept, whoever ends at the same time."""

from __future__ import annotations

import asyncio

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.status import CheckCopy, FaultExperimentStatus
from bounceback.controller.results import KEPT, Results
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import CHECKS
from bounceback.types.outcome import Verdict
from tests.survival.runs import make_check

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("api")]


@pytest.fixture
async def check(kube: Kube, namespace: str) -> CheckCopy:
    await make_check(kube, namespace, "192.0.2.1")
    body = await kube.get(CHECKS, namespace, "reachable")
    spec = RecoveryCheckSpec.model_validate(body["spec"])
    return CheckCopy(name="reachable", uid=body["metadata"]["uid"], generation=1, spec=spec)


def experiment(namespace: str, number: int) -> Json:
    return {"metadata": {"name": f"run-{number}", "uid": f"uid-{number}", "namespace": namespace}}


def passed(check: CheckCopy) -> FaultExperimentStatus:
    return FaultExperimentStatus(verdict=Verdict.PASSED, checks=[check], finished_at="2026-01-01T00:00:00Z")


async def test_runs_that_end_together_write_once_each(kubeconfig: str, namespace: str, check: CheckCopy) -> None:
    asked: list[tuple[str, int]] = []
    async with Kube.connected(kubeconfig, lambda verb, _, status: asked.append((verb, status))) as kube:
        results = Results(kube)
        await asyncio.gather(*(results.publish(experiment(namespace, n), passed(check)) for n in range(KEPT)))
        kept = (await kube.get(CHECKS, namespace, "reachable"))["status"]["results"]
    assert {result["experiment"] for result in kept} == {f"run-{n}" for n in range(KEPT)}
    assert asked.count(("PUT", 200)) == KEPT
    assert ("PUT", 409) not in asked


async def test_what_others_write_meanwhile_is_kept(kube: Kube, namespace: str, check: CheckCopy) -> None:
    """As an operator of an earlier term could."""
    one, other = Results(kube), Results(kube)
    writers = [(one, n) if n % 2 else (other, n) for n in range(10)]
    await asyncio.gather(*(results.publish(experiment(namespace, n), passed(check)) for results, n in writers))
    kept = (await kube.get(CHECKS, namespace, "reachable"))["status"]["results"]
    assert len(kept) == 10


async def test_a_check_of_the_same_name_is_another_one(kube: Kube, namespace: str, check: CheckCopy) -> None:
    before = check.model_copy(update={"uid": "of an earlier one"})
    await Results(kube).publish(experiment(namespace, 1), passed(before))
    assert not (await kube.get(CHECKS, namespace, "reachable")).get("status", {}).get("results")
    await Results(kube).publish(experiment(namespace, 1), passed(check.model_copy(update={"name": "gone"})))
