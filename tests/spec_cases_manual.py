"""Good and bad specs of expect: Manual and its repair."""

from __future__ import annotations

from typing import Any, Final

from bounceback.api.experiment import MANUAL_IS_FELT, REPAIR_NEEDED, REPAIR_UNUSED, REPAIRED_ONCE
from tests.spec_case import Case, Change, having

JOB: Final = {"job": {"template": {"containers": [{"name": "renew", "image": "tools"}]}}}
BY_HAND: Final = {"byHand": {"instruction": "Renew the certificate."}}
ONE_REPAIR: Final = "exactly one of job, byHand must be given"


def manual(repair: Any, **more: Any) -> Change:
    return having(expect="Manual", repair=repair, **more)


MANUAL: Final = (
    Case("a repair by a Job", "FaultExperiment", manual({**JOB, "afterSeconds": 5, "timeoutSeconds": 60})),
    Case("a repair by hand", "FaultExperiment", manual(BY_HAND)),
    Case("Manual without a repair", "FaultExperiment", having(expect="Manual"), REPAIR_NEEDED, "spec.repair"),
    Case("a repair that nobody asks for", "FaultExperiment", having(repair=JOB), REPAIR_UNUSED, "spec.repair"),
    Case("a repair of no kind", "FaultExperiment", manual({"afterSeconds": 5}), ONE_REPAIR, "spec.repair"),
    Case("a repair of two kinds", "FaultExperiment", manual(JOB | BY_HAND), ONE_REPAIR, "spec.repair"),
    Case(
        "Manual again and again",
        "FaultExperiment",
        manual(JOB, runs={"count": 2}),
        REPAIRED_ONCE,
        "spec.runs",
    ),
    Case(
        "Manual that nobody may feel",
        "FaultExperiment",
        manual(JOB, impact="Forbidden"),
        MANUAL_IS_FELT,
        "spec.impact",
    ),
    Case(
        "a repair for which there is no time",
        "FaultExperiment",
        manual({**JOB, "afterSeconds": 10, "timeoutSeconds": 55}, deadlineSeconds=100),
        "and the repair after them",
        "spec.deadlineSeconds",
    ),
    Case(
        "a repair for which there is just time",
        "FaultExperiment",
        manual({**JOB, "afterSeconds": 10, "timeoutSeconds": 54}, deadlineSeconds=100),
    ),
)
