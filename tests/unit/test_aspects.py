"""Each aspect of the recovery: a run that passes it, and one that fails it; performance: test_performance.py."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.engine.judge import judge
from bounceback.types.instants import Interval
from bounceback.types.outcome import Aspect, Mark, Verdict
from tests.unit.engine_values import at, check, experiment, finished, health, injection

SAID = {"detection": [{"name": "said", "tcp": {"host": "web", "port": 81}}], "budgets": {"detectSeconds": 2}}
KEPT = {
    "observations": [{"name": "orders", "http": {"url": "http://web/orders"}}],
    "invariants": [{"name": "kept", "expression": "after.orders.count >= before.orders.count"}],
}
DETECTED = Interval(at(1.4), at(1.6))
BACK = Interval(at(12.4), at(12.6))


def aspect(name: str, asked: dict[str, Any], *, after: int = 5, **marks: Interval | None) -> tuple[Aspect, Verdict]:
    named = {Mark(mark): interval for mark, interval in marks.items()}
    observed = {"before": {"healthy": {"orders": {"count": 5}}}, "after": {"healthy": {"orders": {"count": after}}}}
    status = finished([check(**asked)], marks=named).model_copy(update={"observed": observed})
    judged = judge(experiment(), status, [injection()], health())
    assert judged.aspects is not None and judged.verdict is not None
    return getattr(judged.aspects, name), judged.verdict


@pytest.mark.parametrize(
    ("name", "asked", "given", "expected"),
    [
        ("detection", SAID, {"Detected": DETECTED}, (Aspect.PASSED, Verdict.PASSED)),
        ("detection", SAID, {"Detected": None}, (Aspect.FAILED, Verdict.FAILED)),
        ("success", {}, {"Recovered": BACK}, (Aspect.PASSED, Verdict.PASSED)),
        ("success", {}, {"Recovered": None}, (Aspect.FAILED, Verdict.FAILED)),
        ("consistency", KEPT, {"after": 6}, (Aspect.PASSED, Verdict.PASSED)),
        ("consistency", KEPT, {"after": 4}, (Aspect.FAILED, Verdict.FAILED)),
        ("success", {"budgets": {"recoverSeconds": 2}}, {"Recovered": BACK}, (Aspect.PASSED, Verdict.PASSED)),
        ("success", {"budgets": {"recoverSeconds": 1}}, {"Recovered": BACK}, (Aspect.FAILED, Verdict.FAILED)),
        ("performance", {"budgets": {"recoverSeconds": 2}}, {"Recovered": BACK}, (Aspect.NOT_CHECKED, Verdict.PASSED)),
    ],
)
def test_an_aspect_passes_one_system_and_fails_another(
    name: str, asked: dict[str, Any], given: dict[str, Any], expected: tuple[Aspect, Verdict]
) -> None:
    assert aspect(name, asked, **given) == expected
