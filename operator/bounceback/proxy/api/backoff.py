"""From the pauses between tries of the same request to how a client backs off.

Pauses are in seconds, in the order in which they were made. Pure; standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

IMMEDIATE: Final = 0.05
"""Pauses up to this are none: a busy machine makes as much of its own."""
BUSY: Final = 0.16
"""What a machine that is busy with others makes of none, most of the time."""
HICCUP: Final = 1.0
"""What such a machine adds to a quarter of the pauses, or a little more. It never takes anything away."""
TIGHT: Final = 0.2**2
"""Variance of the logarithms of pauses up to HICCUP around what they should be, from which on growth may be chance."""
TURNS: Final = 4
"""Times that a pause may wait for a turn on the machine: ours and the client's, to answer, to connect, to ask."""
UNSEEN: Final = 2
"""Times as long as the longest wait that we saw of our own may be the client's: ours are few in a short time."""
LEAST: Final = 3
"""Pauses that it takes to tell one way from another."""
GROWTH: Final = 2.5
"""Times that the pauses must grow: those of a constant one with jitter differ by up to 2 (wait.Jitter of
k8s.io/apimachinery makes d of d..2d at the jitter of 1 that its callers use)."""
FACTORS: Final = (1.15, 12.0)
"""What pauses grow by from one to the next where that is exponential."""
NOISE: Final = 0.05**2
"""Variance of the logarithm of a pause that says nothing: 5 %."""


class BackoffKind(StrEnum):
    """How pauses follow each other."""

    NONE = "None"  # nothing was tried again
    IMMEDIATE = "Immediate"
    CONSTANT = "Constant"
    EXPONENTIAL = "Exponential"  # to a longest one, maybe
    UNKNOWN = "Unknown"  # too few to tell, or without a rule that we know


@dataclass(frozen=True, slots=True)
class Backoff:
    """How a client backs off, as far as so many pauses tell."""

    kind: BackoffKind
    gaps: int = 0
    first: float = 0.0  # seconds, of the first pause
    longest: float = 0.0
    factor: float | None = None  # from one pause to the next, of exponential ones
    jitter: bool = False  # the pauses are spread around what they would be without
    late: float = 0.0  # seconds that we were late ourselves meanwhile, at the most

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"kind": str(self.kind), "gaps": self.gaps}
        if self.gaps:
            found |= {"firstSeconds": round(self.first, 4), "longestSeconds": round(self.longest, 4)}
        if self.kind in (BackoffKind.CONSTANT, BackoffKind.EXPONENTIAL):
            found["jitter"] = self.jitter
        if self.factor is not None:
            found["factor"] = round(self.factor, 2)
        if self.late:
            found["lateSeconds"] = round(self.late, 4)
        return found


def fitted(gaps: Sequence[float], late: float = 0.0) -> Backoff:
    """The way that explains the pauses best; between two that do, the simpler one.

    `late`: seconds by which who measured them was late meanwhile, at the most. What such a machine may have made of no
    pause at all is Unknown.
    """
    found = _fitted(gaps, late)
    return replace(found, late=late) if gaps else found


def _fitted(gaps: Sequence[float], late: float) -> Backoff:
    found = _told(gaps, late)
    if found.kind is BackoffKind.CONSTANT and min(gaps[1:] or gaps) <= late:
        return Backoff(BackoffKind.UNKNOWN, found.gaps, found.first, found.longest)
    return found


def _told(gaps: Sequence[float], late: float) -> Backoff:
    """A first try that comes at once is no part of it: many clients try a second connection before they wait."""
    if not gaps:
        return Backoff(BackoffKind.NONE)
    found = (len(gaps), gaps[0], max(gaps))
    if max(gaps) <= IMMEDIATE:
        return Backoff(BackoffKind.IMMEDIATE, *found)
    if len(gaps) < LEAST:
        return Backoff(BackoffKind.UNKNOWN, *found)
    if len(gaps) > LEAST and gaps[0] <= IMMEDIATE and gaps[1] > 4 * max(gaps[0], IMMEDIATE / 4):
        rest = _fitted(gaps[1:], late)
        if rest.kind is not BackoffKind.UNKNOWN:
            return Backoff(rest.kind, *found, factor=rest.factor, jitter=rest.jitter)
    if _spread(gaps) < GROWTH:
        return Backoff(BackoffKind.CONSTANT, *found, jitter=_scattered(gaps, [middle(gaps)] * len(gaps)))
    later = gaps[1:]
    if len(later) >= LEAST and gaps[0] < min(later) and _spread(later) <= 1.5:
        return Backoff(BackoffKind.CONSTANT, *found, jitter=_scattered(later, [middle(later)] * len(later)))
    fit = _growth(gaps)
    if fit is not None and sorted(gaps)[-2] > IMMEDIATE:  # what rests on one long pause alone is none
        if not _is_beyond_noise(gaps, fit, late):
            return Backoff(BackoffKind.UNKNOWN, *found)
        return Backoff(BackoffKind.EXPONENTIAL, *found, factor=fit.factor, jitter=_jitter_of_growth(gaps))
    kind = _but_for_hiccups(gaps)
    is_scattered = kind is BackoffKind.CONSTANT and _scattered(gaps, [middle(gaps)] * len(gaps))
    return Backoff(kind, *found, jitter=is_scattered)


def _is_beyond_noise(gaps: Sequence[float], fit: _Fit, late: float) -> bool:
    """Two pauses are longer than those that a busy machine makes, or else one is, and all are where they should be."""
    made = TURNS * UNSEEN * late
    return sorted(gaps)[-2] > max(HICCUP, made) or (max(gaps) >= max(1.5 * BUSY, made) and fit.error < TIGHT)


def _but_for_hiccups(gaps: Sequence[float]) -> BackoffKind:
    """Of pauses that do not grow: what they are where a busy machine made a few of them longer, and some a little."""
    ordered = sorted(gaps)
    usual = ordered[: len(gaps) * 3 // 4]
    if usual[-1] <= BUSY and ordered[len(gaps) // 4] <= IMMEDIATE:
        return BackoffKind.IMMEDIATE
    if ordered[-1] - middle(gaps) <= HICCUP and (usual[-1] <= BUSY or _spread(usual) < 2):
        return BackoffKind.CONSTANT
    return BackoffKind.UNKNOWN


@dataclass(frozen=True, slots=True)
class _Fit:
    """Pauses that grow by a factor up to some place, and stay as they are from there on."""

    score: float  # the Bayesian information criterion: less is better
    factor: float
    expected: list[float]
    error: float  # variance of the logarithms around those expected


def _growth(gaps: Sequence[float]) -> _Fit | None:
    """How they grow, if growth explains them better than staying the same does."""
    logs = [math.log(max(gap, IMMEDIATE / 25)) for gap in gaps]  # 2 ms: below that it is the machine that counts
    fit = _best_fit(logs)
    if fit is None or not FACTORS[0] <= fit.factor <= FACTORS[1]:
        return None
    grown = math.exp(max(fit.expected) - fit.expected[0])
    return fit if grown >= GROWTH and fit.score + 2 < _score(logs, [_mean(logs)] * len(logs), 1) else None


def _best_fit(logs: Sequence[float]) -> _Fit | None:
    """Over all places where the growth may end."""
    fits = []
    for end in range(LEAST, len(logs) + 1):
        begin, slope = _line(logs[:end])
        expected = [begin + slope * n for n in range(end)]
        if rest := logs[end:]:
            level = _mean(rest)
            if level < expected[-1] - 0.1:
                continue  # they fall again
            expected += [level] * len(rest)
        if slope > 0:
            score, error = _score(logs, expected, 4 if rest else 2), _error(logs, expected)
            fits.append(_Fit(score, math.exp(slope), expected, error))
    return min(fits, key=lambda fit: fit.score, default=None)


def _line(values: Sequence[float]) -> tuple[float, float]:
    """Where the straight line of least squares begins, and its slope."""
    center, mean = (len(values) - 1) / 2, _mean(values)
    weight = sum((n - center) ** 2 for n in range(len(values)))
    slope = sum((n - center) * value for n, value in enumerate(values)) / weight
    return mean - slope * center, slope


def _score(logs: Sequence[float], expected: Sequence[float], parameters: int) -> float:
    return len(logs) * math.log(_error(logs, expected) + NOISE) + parameters * math.log(len(logs))


def _error(logs: Sequence[float], expected: Sequence[float]) -> float:
    return _mean([(log - value) ** 2 for log, value in zip(logs, expected, strict=True)])


def _jitter_of_growth(gaps: Sequence[float]) -> bool:
    """Judged by the pauses that are long beside what a busy machine adds to them."""
    long = [gap for gap in gaps if gap >= 2 * IMMEDIATE]
    if len(long) < LEAST or (fit := _best_fit([math.log(gap) for gap in long])) is None:
        return False
    return _scattered(long, [math.exp(value) for value in fit.expected])


def _scattered(gaps: Sequence[float], expected: Sequence[float]) -> bool:
    """A quarter of them or more lie farther from where they should than timers and a network explain: 20 ms and 1 %."""
    off = sum(abs(gap - value) > 0.02 + 0.01 * value for gap, value in zip(gaps, expected, strict=True))
    return off * 4 >= len(gaps)


def _spread(gaps: Sequence[float]) -> float:
    return max(gaps) / max(min(gaps), 1e-9)


def middle(values: Iterable[float]) -> float:
    """The median, of an even number the upper one: the standard library's brings 2 MiB of numbers along."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
