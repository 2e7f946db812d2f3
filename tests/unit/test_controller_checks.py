"""A check says of itself whether it can be used."""

from __future__ import annotations

import pytest

from bounceback.api.check_status import CheckResult, RecoveryCheckStatus
from bounceback.controller.checks import looked_at, problem_of
from bounceback.types.outcome import Verdict

NOW = "2026-01-01T00:00:00Z"
GOOD = {"probes": [{"name": "home", "tcp": {"host": "web", "port": 80}}]}


def kubernetes(expression: str) -> dict[str, object]:
    look = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "expression": expression}
    return {"probes": [{"name": "ready", "kubernetes": look}]}


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (GOOD, ""),
        (kubernetes("object.status.readyReplicas == 2"), ""),
        (kubernetes("object.status. == 2"), "spec.probes[0].kubernetes.expression"),
        (kubernetes("thing.status == 2"), "there is no variable thing"),
        ({}, "probes"),
    ],
)
def test_what_must_be_changed_is_named(spec: dict[str, object], told: str) -> None:
    problem = problem_of(spec)
    assert told in problem
    assert bool(problem) == bool(told)


def test_an_invalid_check_is_stalled_and_a_mended_one_is_not() -> None:
    broken = looked_at(RecoveryCheckStatus(), "spec.probes: must not be empty", 1, NOW)
    states = {c.type: (c.status, c.reason) for c in broken.conditions}
    assert states == {"Stalled": ("True", "Invalid"), "Ready": ("False", "Invalid"), "Reconciling": ("False", "Looked")}
    mended = {c.type: c.status for c in looked_at(broken, "", 2, NOW).conditions}
    assert mended == {"Stalled": "False", "Ready": "Unknown", "Reconciling": "False"}


def test_the_last_result_stays_what_ready_says() -> None:
    result = CheckResult(experiment="e", uid="u", verdict=Verdict.PASSED, finished_at=NOW)
    before = RecoveryCheckStatus(results=[result])
    assert "Ready" not in {c.type for c in looked_at(before, "", 2, NOW).conditions}
