"""Which of the things that match are hit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.types.choice import ALWAYS, Choice, Chooser, drawn, stream


def hit(choice: Choice, count: int, name: str = "rule") -> list[int]:
    chooser = Chooser(choice, name)
    return [number for number in range(1, count + 1) if chooser.next()]


def test_without_conditions_everything_is_hit() -> None:
    assert hit(ALWAYS, 5) == [1, 2, 3, 4, 5]
    assert ALWAYS.everything


def test_every_third() -> None:
    assert hit(Choice(nth=3), 10) == [3, 6, 9]


def test_the_first_two_and_then_no_more() -> None:
    assert hit(Choice(first_n=2), 10) == [1, 2]


def test_conditions_hold_together_and_the_first_are_those_that_are_hit() -> None:
    assert hit(Choice(nth=2, first_n=3), 10) == [2, 4, 6]
    assert len(hit(Choice(0.2, first_n=3), 1000)) == 3


def test_no_share_is_no_hit() -> None:
    assert hit(Choice(probability=0.0), 1000) == []


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, 2_147_483_647])
def test_the_share_is_what_was_asked(share: float, seed: int) -> None:
    count = 20_000
    deviation = math.sqrt(share * (1 - share) / count)
    assert abs(len(hit(Choice(share, seed=seed), count)) / count - share) < 4 * deviation


def test_the_same_seed_makes_the_same_decisions_everywhere() -> None:
    """Fixed numbers: what was hit on another machine, or by an earlier version, must be hit again."""
    assert hit(Choice(0.3, seed=7), 20) == [2, 4, 5, 9, 11, 15, 17, 20]


def test_a_larger_share_hits_what_a_smaller_one_does_and_more() -> None:
    assert set(hit(Choice(0.1, seed=7), 1000)) < set(hit(Choice(0.3, seed=7), 1000))


def test_two_rules_with_one_seed_do_not_hit_the_same() -> None:
    one, other = (set(hit(Choice(0.5), 2000, name)) for name in ("slow", "lost"))
    assert 400 < len(one & other) < 600


def test_seeds_that_lie_side_by_side_have_nothing_in_common() -> None:
    """One seed a target is made by counting; their draws must not be each other's, shifted."""
    first, second = ([drawn(stream(seed, ""), number) for number in range(1, 200)] for seed in (1, 2))
    assert not set(first) & set(second)


@given(st.integers(0, (1 << 64) - 1), st.integers(min_value=1))
def test_a_draw_is_a_share(stream: int, number: int) -> None:
    assert 0 <= drawn(stream, number) < 1
