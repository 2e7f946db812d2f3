"""Good and bad specs of startWhen: what has to come before a fault starts."""

from __future__ import annotations

from typing import Any, Final

from bounceback.api.collapse import CHECK_OF_COLLAPSE, RISING, WITHIN
from bounceback.api.start import CHECK_LISTED, LISTED_BEFORE, ONE_BEGINS, SAFE_AT_ONCE, WAYS
from tests.spec_case import Case, Change, having

ONE_START: Final = f"exactly one of {', '.join(WAYS)} must be given"
FAILING: Final = {"check": "web-healthy", "probe": "home", "forSeconds": 3}


def fault(name: str, when: Any = None, **more: Any) -> dict[str, Any]:
    waits = {} if when is None else {"startWhen": when}
    return {"name": name, "target": "web", "networkDelay": {"delayMilliseconds": 200}, **waits, **more}


def course(*faults: dict[str, Any], **more: Any) -> Change:
    return having(faults=list(faults), **more)


STARTS: Final = (
    Case("one after the other", "FaultExperiment", course(fault("slow"), fault("cut", {"cleared": "slow"}))),
    Case(
        "a chain",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"inForce": "slow"}, startAfterSeconds=5), fault("end", {"cleared": "cut"})),
    ),
    Case("when a probe fails", "FaultExperiment", course(fault("slow"), fault("cut", {"failing": FAILING}))),
    Case(
        "when any signal has come",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"detected": {"check": "web-healthy"}, "withinSeconds": 20})),
    ),
    Case("a start of no kind", "FaultExperiment", course(fault("slow"), fault("cut", {})), ONE_START, "spec.faults[1]"),
    Case(
        "a start of two kinds",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"cleared": "slow", "inForce": "slow"})),
        ONE_START,
        "spec.faults[1].startWhen",
    ),
    Case(
        "after a fault that is not there",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"cleared": "slwo"})),
        f"startWhen.cleared {LISTED_BEFORE}",
        "spec.faults",
    ),
    Case(
        "after itself",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"inForce": "cut"})),
        f"startWhen.inForce {LISTED_BEFORE}",
        "spec.faults",
    ),
    Case(
        "each after the other",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"cleared": "end"}), fault("end", {"cleared": "cut"})),
        f"startWhen.cleared {LISTED_BEFORE}",
        "spec.faults",
    ),
    Case(
        "nothing that begins by itself",
        "FaultExperiment",
        course(fault("slow", {"failing": FAILING})),
        ONE_BEGINS,
        "spec.faults",
    ),
    Case(
        "a check that the experiment has not",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"failing": {"check": "db-healthy"}})),
        CHECK_LISTED,
        "spec.faults",
    ),
    Case(
        "one after the other with FailSafe",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"cleared": "slow"}), expect="FailSafe"),
        SAFE_AT_ONCE,
        "spec.faults",
    ),
    Case(
        "at the same time with FailSafe",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"inForce": "slow"}), expect="FailSafe"),
    ),
    Case(
        "a wait for which there is no time",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"cleared": "slow", "withinSeconds": 65}), deadlineSeconds=100),
        "deadlineSeconds must be above the time that the faults",
        "spec.deadlineSeconds",
    ),
    Case(
        "a wait for which there is just time",
        "FaultExperiment",
        course(fault("slow"), fault("cut", {"cleared": "slow", "withinSeconds": 64}), deadlineSeconds=100),
    ),
    Case(
        "a wait for which there is no time in all runs",
        "FaultExperiment",
        course(
            fault("slow"),
            fault("cut", {"cleared": "slow", "withinSeconds": 64}),
            deadlineSeconds=150,
            runs={"count": 2},
        ),
        "deadlineSeconds must be above the time that the faults",
        "spec.deadlineSeconds",
    ),
)


def ramp(low: int = 10, high: int = 100, **more: Any) -> dict[str, Any]:
    return {"pattern": {"ramp": {"fromPercent": low, "toPercent": high, "steps": 5}}, **more}


COLLAPSES: Final = (
    Case(
        "a collapse is looked for",
        "FaultExperiment",
        course(fault("grow", **ramp(collapse={"check": "web-healthy", "probe": "home", "holdsPercent": 100}))),
    ),
    Case(
        "a collapse without a ramp",
        "FaultExperiment",
        course(fault("grow", collapse={"check": "web-healthy"})),
        RISING,
        "spec.faults[0].collapse",
    ),
    Case(
        "a collapse of what fades",
        "FaultExperiment",
        course(fault("fade", **ramp(100, 10, collapse={"check": "web-healthy"}))),
        RISING,
        "spec.faults[0].collapse",
    ),
    Case(
        "a strength that it never has",
        "FaultExperiment",
        course(fault("grow", **ramp(10, 50, collapse={"check": "web-healthy", "holdsPercent": 51}))),
        WITHIN,
        "spec.faults[0].collapse.holdsPercent",
    ),
    Case(
        "a collapse by a check that the experiment has not",
        "FaultExperiment",
        course(fault("grow", **ramp(collapse={"check": "db-healthy"}))),
        CHECK_OF_COLLAPSE,
        "spec.faults",
    ),
)
