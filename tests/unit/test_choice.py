"""Which of the things that match are hit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.types.choice import ALWAYS, Choice, drawn

DRAWN = [0.649704, 0.549374, 0.604235]  # the first three of seed 7


def hit(choice: Choice, count: int) -> list[int]:
    return [number for number in range(1, count + 1) if choice.decide(number)]


def test_without_conditions_everything_is_hit() -> None:
    assert hit(ALWAYS, 5) == [1, 2, 3, 4, 5]


def test_every_third() -> None:
    assert hit(Choice(nth=3), 10) == [3, 6, 9]


def test_the_first_two_and_then_no_more() -> None:
    choice = Choice(first_n=2)
    assert hit(choice, 10) == [1, 2]
    assert [choice.over(number) for number in (1, 2, 3)] == [False, False, True]


def test_conditions_hold_together() -> None:
    assert hit(Choice(nth=2, first_n=5), 10) == [2, 4]


def test_no_share_is_no_hit() -> None:
    assert hit(Choice(probability=0.0), 1000) == []


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2_147_483_647])
def test_the_share_is_what_was_asked(share: float, seed: int) -> None:
    count = 20_000
    deviation = math.sqrt(share * (1 - share) / count)
    assert abs(len(hit(Choice(share, seed=seed), count)) / count - share) < 4 * deviation


def test_the_same_seed_makes_the_same_decisions_everywhere() -> None:
    """Fixed numbers: what was drawn on another machine, or by an earlier version, must come again."""
    assert hit(Choice(0.3, seed=7), 20) == hit(Choice(0.3, seed=7), 20)
    assert [round(drawn(7, number), 6) for number in (1, 2, 3)] == DRAWN


def test_seeds_that_lie_side_by_side_have_nothing_in_common() -> None:
    """One seed a target is made by counting; their draws must not be each other's, shifted."""
    first, second = ([drawn(seed, number) for number in range(1, 200)] for seed in (1, 2))
    assert not set(first) & set(second)


@given(st.integers(), st.integers(min_value=1))
def test_a_draw_is_a_share(seed: int, number: int) -> None:
    assert 0 <= drawn(seed, number) < 1
