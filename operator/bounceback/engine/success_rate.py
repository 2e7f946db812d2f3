"""Do runs pass as often as is asked? What can be said of a rate after so many that passed and so many that failed.

At the end the Wilson score interval (E. B. Wilson, JASA 22, 1927; two-sided) decides: wholly at or above what is asked,
Passed; wholly below, Failed; else Inconclusive. Near 0 and 1 that interval is too narrow for few runs, so what it says
must also be improbable by the binomial distribution itself if it were wrong.

Before the end an answer counts where nothing that can still come changes it, or where the mixture likelihood ratio
speaks for it: under the asked rate its mean is 1 however long one looks, so by Ville's inequality (1939) it ever
reaches 1/e with probability e at the most. Looking after every run thus costs nothing of what is promised: the whole,
every look included, tells a system at the asked rate Passed, or Failed, with probability 1 - confidence at the most.
That is what tests/unit/test_success_rate.py computes, exactly and for many plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, fsum, lgamma, log, sqrt
from statistics import NormalDist
from typing import Final

from bounceback.types.outcome import Judgement

EARLY_SHARE: Final = 0.2
"""The part of the allowed error that looks before the end may use; the rest is for the end."""
MOST_NEEDED: Final = 5000
"""Runs; more than that are not counted out for anybody."""


@dataclass(frozen=True, slots=True)
class Asked:
    """That share of runs must pass, and that is how sure the answer must be; both above 0 and below 1."""

    rate: float
    confidence: float

    @property
    def error(self) -> float:
        return 1 - self.confidence


def wilson(passed: int, runs: int, confidence: float) -> tuple[float, float]:
    """The two-sided score interval of the rate; 0 to 1 where nothing has run."""
    if runs == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    rate = passed / runs
    middle = (rate + z2 / (2 * runs)) / (1 + z2 / runs)
    half = sqrt(z2 * (rate * (1 - rate) / runs + z2 / (4 * runs * runs))) / (1 + z2 / runs)
    low = 0.0 if passed == 0 else max(0.0, middle - half)  # exact at the ends, where rounding is not
    return low, 1.0 if passed == runs else min(1.0, middle + half)


def at_the_end(asked: Asked, passed: int, failed: int) -> Judgement:
    """What these runs say when there will be no more of them."""
    runs = passed + failed
    low, high = wilson(passed, runs, asked.confidence)
    chance = asked.error * (1 - EARLY_SHARE)
    if low >= asked.rate and _at_most(failed, runs, 1 - asked.rate) <= chance:
        return Judgement.PASSED
    if high < asked.rate and _at_most(passed, runs, asked.rate) <= chance:
        return Judgement.FAILED
    return Judgement.INCONCLUSIVE


def by_now(asked: Asked, passed: int, failed: int, left: int) -> Judgement | None:
    """The answer, if it is certain with `left` runs still to come; None: go on.

    Each further pass only raises the interval and each further failure only lowers it, so the best and the worst
    that can come tell for all between them; runs that are not counted lie there, too.
    """
    if (early := _ahead_of_time(asked, passed, failed)) is not None:
        return early
    best, worst = at_the_end(asked, passed + left, failed), at_the_end(asked, passed, failed + left)
    if worst is Judgement.PASSED or best is Judgement.FAILED or not left:
        return worst if worst is Judgement.PASSED else best
    if best is not Judgement.PASSED and worst is not Judgement.FAILED:
        return Judgement.INCONCLUSIVE
    return None


def runs_needed(asked: Asked) -> int:
    """The fewest that can support the asked rate: if all of them pass."""
    return next(runs for runs in range(1, MOST_NEEDED) if at_the_end(asked, runs, 0) is Judgement.PASSED)


def runs_needed_like(asked: Asked, passed: int, failed: int) -> int | None:
    """How many would support it if they went on as these did; None: not even MOST_NEEDED would."""
    share = failed / (passed + failed)
    for runs in range(passed + failed, MOST_NEEDED):
        failing = -int(-runs * share // 1)
        if at_the_end(asked, runs - failing, failing) is Judgement.PASSED:
            return runs
    return None


def _ahead_of_time(asked: Asked, passed: int, failed: int) -> Judgement | None:
    """The likelihood of what was seen, mean over all rates, to its likelihood at the asked rate."""
    mean = lgamma(passed + 1) + lgamma(failed + 1) - lgamma(passed + failed + 2)
    ratio = mean - passed * log(asked.rate) - failed * log(1 - asked.rate)
    if ratio < -log(asked.error * EARLY_SHARE):
        return None
    return Judgement.PASSED if passed > asked.rate * (passed + failed) else Judgement.FAILED


def _at_most(number: int, of: int, rate: float) -> float:
    """The probability that no more than `number` of so many come out, each with this rate."""
    every = lgamma(of + 1)
    return fsum(
        exp(every - lgamma(k + 1) - lgamma(of - k + 1) + k * log(rate) + (of - k) * log(1 - rate))
        for k in range(number + 1)
    )
