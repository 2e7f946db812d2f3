"""The fields that say which things are hit."""

import pytest

from bounceback.api.problems import parse
from bounceback.faults.chosen import Chosen
from bounceback.types.choice import ALWAYS, Choice


def test_without_a_word_everything_is_hit() -> None:
    assert Chosen().choice() == ALWAYS


def test_what_a_user_writes_is_what_is_chosen() -> None:
    chosen, problems = parse(Chosen, {"probability": 50, "nth": 2, "firstN": 3, "seed": 7})
    assert problems == ()
    assert chosen is not None
    assert chosen.choice() == Choice(0.5, 2, 3, 7)


@pytest.mark.parametrize("percent", [-1, 101, 0.5, "50"])
def test_a_probability_that_is_no_share_is_refused_by_its_name(percent: object) -> None:
    _, (problem,) = parse(Chosen, {"probability": percent}, root=("spec", "faults", 0))
    assert str(problem).startswith("spec.faults[0].probability: must be ")
    assert "0" in problem.message
    assert "100" in problem.message


@pytest.mark.parametrize("field", ["nth", "firstN", "seed"])
def test_counts_do_not_go_below_nothing(field: str) -> None:
    _, (problem,) = parse(Chosen, {field: -1})
    assert problem.path[-1] == field
