"""What can be said of a rate: against tables, and against the probability that it is wrong, computed exactly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import comb

import pytest

from bounceback.engine.success_rate import Asked, at_the_end, by_now, runs_needed, runs_needed_like, wilson
from bounceback.types.outcome import Judgement

PASSED, FAILED, INCONCLUSIVE = Judgement.PASSED, Judgement.FAILED, Judgement.INCONCLUSIVE


@pytest.mark.parametrize(
    ("passed", "runs", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3; 1-29 of them mirrored
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (28, 29, 0.8282, 0.9939),
        (20, 20, 0.8389, 1.0000),
    ],
)
def test_the_interval_is_that_of_the_published_table(passed: int, runs: int, low: float, high: float) -> None:
    assert wilson(passed, runs, 0.95) == pytest.approx((low, high), abs=5e-5)


def test_nothing_is_known_before_the_first_run() -> None:
    assert wilson(0, 0, 0.95) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("percent", "confidence", "needed"),
    [(50, 95, 5), (80, 95, 16), (90, 90, 25), (90, 95, 35), (95, 95, 73), (99, 95, 381), (70, 80, 6), (1, 50, 1)],
)
def test_so_many_must_pass_to_support_a_rate(percent: int, confidence: int, needed: int) -> None:
    asked = Asked(percent / 100, confidence / 100)
    assert runs_needed(asked) == needed
    assert at_the_end(asked, needed, 0) is PASSED
    assert at_the_end(asked, needed - 1, 0) is INCONCLUSIVE


def test_one_failure_asks_for_more_runs_and_too_many_for_no_number_of_them() -> None:
    asked = Asked(0.9, 0.95)
    assert at_the_end(asked, 34, 1) is INCONCLUSIVE
    like = runs_needed_like(asked, 34, 1)
    assert like is not None and like > 35
    failing = -(-like // 35)
    assert at_the_end(asked, like - failing, failing) is PASSED
    assert runs_needed_like(asked, 9, 1) is None


@pytest.mark.parametrize(
    ("passed", "failed", "left", "answer"),
    [
        (0, 0, 35, None),
        (34, 0, 1, None),  # 34 of 35 would not do
        (35, 0, 0, PASSED),
        (38, 0, 0, PASSED),
        (49, 0, 2, None),
        (52, 0, 0, PASSED),
        (57, 0, 1, PASSED),  # 57 of 58 does, too
        (0, 3, 32, FAILED),  # nobody has to see 32 more
        (8, 1, 2, INCONCLUSIVE),  # two more decide nothing, whatever they bring
        (0, 1, 34, None),
    ],
)
def test_no_more_runs_than_it_takes(passed: int, failed: int, left: int, answer: Judgement | None) -> None:
    assert by_now(Asked(0.9, 0.95), passed, failed, left) is answer


def plans() -> Iterator[tuple[float, float, int]]:
    for confidence in (0.5, 0.8, 0.9, 0.95, 0.99):
        for rate in (0.01, 0.2, 0.5, 0.7, 0.9, 0.95, 0.99):
            for count in (1, 2, 3, 5, 8, 12, 35):
                yield rate, confidence, count


def told(asked: Asked, count: int, rate: float) -> dict[Judgement, float]:
    """How probable each answer is, exactly, by all that can happen, with a look after every run."""
    found = dict.fromkeys(Judgement, 0.0)
    open_ = {0: 1.0}  # by how many have passed: the probability to have come here
    for made in range(count + 1):
        after: dict[int, float] = {}
        for passed, chance in open_.items():
            answer = by_now(asked, passed, made - passed, count - made)
            if answer is not None:
                found[answer] += chance
                continue
            after[passed + 1] = after.get(passed + 1, 0.0) + chance * rate
            after[passed] = after.get(passed, 0.0) + chance * (1 - rate)
        open_ = after
    assert not open_, "it always comes to an answer"
    return found


def test_a_system_at_the_asked_rate_is_told_wrongly_no_oftener_than_promised() -> None:
    for rate, confidence, count in plans():
        found = told(Asked(rate, confidence), count, rate)
        assert max(found[PASSED], found[FAILED]) <= 1 - confidence, (rate, confidence, count, found)


@pytest.mark.parametrize(("rate", "confidence", "count"), [(0.9, 0.95, 35), (0.65, 0.8, 5), (0.5, 0.9, 12)])
def test_a_better_system_is_told_passed_no_less_often(rate: float, confidence: float, count: int) -> None:
    found = [told(Asked(rate, confidence), count, percent / 100) for percent in range(2, 100, 7)]
    for worse, better in pairwise(found):
        assert worse[PASSED] <= better[PASSED] + 1e-9 and better[FAILED] <= worse[FAILED] + 1e-9


def test_what_is_certain_before_the_end_is_what_the_end_would_have_said() -> None:
    """Every way in which the rest could have gone, runs that are not counted among them."""
    asked = Asked(0.7, 0.8)
    for made in range(9):
        for passed in range(made + 1):
            answer = by_now(asked, passed, made - passed, 8 - made)
            ends = {
                at_the_end(asked, passed + a, made - passed + b) for a in range(9 - made) for b in range(9 - made - a)
            }
            if len(ends) == 1:
                assert answer in ends
            elif answer is INCONCLUSIVE:
                raise AssertionError("an answer that was still open was given up")


def test_a_further_pass_never_lowers_the_interval_and_a_further_failure_never_raises_it() -> None:
    for runs in range(1, 40):
        for passed in range(runs + 1):
            now = wilson(passed, runs, 0.9)
            better, worse = wilson(passed + 1, runs + 1, 0.9), wilson(passed, runs + 1, 0.9)
            assert worse[0] <= now[0] <= better[0] and worse[1] <= now[1] <= better[1]


def test_the_tail_is_that_of_the_binomial_distribution() -> None:
    from bounceback.engine.success_rate import _at_most

    for number in range(11):
        by_counting = sum(comb(10, k) * 0.3**k * 0.7 ** (10 - k) for k in range(number + 1))
        assert _at_most(number, 10, 0.3) == pytest.approx(by_counting)
