"""What docs/recovery-checks.md shows is valid, each expression included."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.engine.cel import check_syntax, evaluate
from tests.spec_case import EXPERIMENT

PAGE = (Path(__file__).parent.parent.parent / "docs" / "recovery-checks.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def spec_of(block: str) -> dict[str, Any]:
    """A whole resource, or some fields of its spec; a check needs a probe or an invariant."""
    found: dict[str, Any] = yaml.safe_load(block)
    if "spec" in found:
        return dict(found["spec"])
    return found if "invariants" in found else {"probes": [{"name": "x", "tcp": {"host": "x", "port": 1}}], **found}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_examples_are_valid(block: str) -> None:
    fields = spec_of(block)
    if "repair" in fields:  # of the experiment that uses the check
        fields.pop("probes", None)
        FaultExperimentSpec.model_validate({**EXPERIMENT, "expect": "Manual", **fields})
        return
    spec = RecoveryCheckSpec.model_validate(fields)
    for path, expression, variables in spec.expressions():
        assert check_syntax(expression, variables) is None, path


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize(
    "expression",
    [
        "double(n) + 0.5 == 2.5",
        "!has(object.status.x)",
        "{'a': 1}.all(k, k == 'a')",
        "timestamp('2026-01-01T00:05:00Z') - timestamp('2026-01-01T00:00:00Z') == duration('5m')",
        "timestamp('2026-01-01T03:00:00Z').getHours() == 3",
        "quantity('1Gi') >= quantity('500Mi')",
        "dyn(n) == 2 && string(n) == '2' && int('2') == n && uint(n) == 2u && size(bytes('ab')) == 2",
        "objects.all(o, false)",
    ],
)
def test_what_the_page_says_of_expressions_holds(expression: str) -> None:
    assert evaluate(expression, {"n": 2, "object": {"status": {}}, "objects": []})
