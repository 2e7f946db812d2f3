"""Whatever the API offers to look and to judge with has been seen to pass a system and to fail another."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from bounceback.accounting.ledger import Model
from bounceback.api.probes import LOOKS, READINGS, Probe
from bounceback.api.status import Aspects
from bounceback.types.outcome import Expect
from tests import calibration
from tests.calibration import PAGE, PROJECT, SECTIONS, Pair

OFFERED = {
    "Probes": set(LOOKS),
    "Vantages": set(get_args(Probe.model_fields["vantage"].annotation)),
    "Signals": set(LOOKS),
    "Observations": set(READINGS),
    "Aspects": set(Aspects.model_fields),
    "Workloads": {str(model) for model in Model},
    "Outcomes": {str(expect) for expect in Expect},
}


@pytest.mark.parametrize("title", OFFERED)
def test_each_kind_has_a_system_that_must_pass_and_one_that_must_fail(title: str) -> None:
    entered = [pair.kind for pair in SECTIONS[title]]
    assert len(entered) == len(set(entered))
    assert set(entered) == OFFERED[title], "what the API offers is to be entered in tests/calibration.py, with both"


def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("pair", [pair for pairs in SECTIONS.values() for pair in pairs], ids=lambda pair: pair.kind)
def test_both_are_run_by_tests_that_exist(pair: Pair) -> None:
    assert pair.passes.system != pair.fails.system and pair.passes.expected != pair.fails.expected
    for side in (pair.passes, pair.fails):
        path, _, name = side.test.partition("::")
        assert name in functions(PROJECT / path), side.test


def test_the_page_is_what_make_generate_writes() -> None:
    assert PAGE.read_text() == calibration.page()
