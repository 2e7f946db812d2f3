"""How the delays of an act are spread, as a table that netem draws from: values from values, nothing else.

netem delays a packet by mu + sigma * entry / 8192, the entry drawn evenly from a table of up to 16384 numbers of 16
bits (`tabledist` in net/sched/sch_netem.c). mu must not be 0, and sigma is a 31-bit number of nanoseconds. A table
holds any mixture exactly, to a part in 8192: packets that are not delayed, those that are, and spikes.

There is a table for every spread, the even one too: `tc qdisc change` does not take a table away again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bounceback.types.plan import Netem

SIZE: Final = 8192  # tc says no more than nearly 16,384 in one message
SCALE: Final = 8192
WIDEST_NS: Final = 2**31 - 1
_LARGEST: Final = 32_767
_PARETO_MEAN, _PARETO_DEVIATION = 1.5, 0.75**0.5  # of shape 3, from 1 upwards


@dataclass(frozen=True, slots=True)
class Spread:
    """mu and sigma in nanoseconds, and the table; an empty one: always mu."""

    mu: int
    sigma: int = 0
    entries: tuple[int, ...] = ()

    def text(self) -> str:
        """As tc reads it from a file NAME.dist."""
        return "\n".join(str(entry) for entry in self.entries) + "\n"


def of(act: Netem) -> Spread:
    """Raises ValueError where the longest and the shortest delay are more than 17.1 s apart."""
    if not act.jitter_us and act.delayed_percent >= 100 and not act.spike_percent:
        return Spread(act.delay_us * 1000)
    if act.delayed_percent >= 100 and not act.spike_percent and act.jitter_us * 1000 <= WIDEST_NS:
        mu, sigma = act.delay_us * 1000, act.jitter_us * 1000  # so that `tc qdisc show` shows what was asked for
        return Spread(mu, sigma, _table(act.distribution, max(-mu / sigma, -_LARGEST / SCALE)))
    values = delays(act)
    low, high = min(values), max(values)
    mu = max(1000, round((low + high) / 2))
    sigma = max(1, -(-round(max(high - mu, mu - low)) * SCALE // _LARGEST))
    if sigma > WIDEST_NS:
        raise ValueError("the longest and the shortest delay must not be more than 17.1 s apart")
    return Spread(mu, sigma, tuple(_entry((value - mu) / sigma) for value in values))


@lru_cache(maxsize=1)
def _table(distribution: str, lowest: float) -> tuple[int, ...]:
    """Of deviations, in jitters, none below `lowest`. Kept: a delay that changes step by step keeps its table."""
    return tuple(_entry(max(lowest, part)) for part in _parts(_SHAPES[distribution](), SIZE))


def _entry(deviation: float) -> int:
    return max(-_LARGEST, min(_LARGEST, round(deviation * SCALE)))


def delays(act: Netem, size: int = SIZE) -> list[float]:
    """So many equally likely delays in nanoseconds."""
    delayed = round(size * act.delayed_percent / 100)
    spiked = round(delayed * act.spike_percent / 100)
    spikes = [act.spike_factor * value for value in _plain(act, spiked)]
    return [0.0] * (size - delayed) + _plain(act, delayed - spiked) + spikes


def _plain(act: Netem, count: int) -> list[float]:
    """The middles of `count` equal parts of the spread, in nanoseconds; no delay is below 0."""
    shape = _SHAPES[act.distribution]() if act.jitter_us else _none
    return [max(0.0, act.delay_us * 1000 + act.jitter_us * 1000 * part) for part in _parts(shape, count)]


def _parts(shape: Callable[[float], float], count: int) -> Iterator[float]:
    return (shape((n + 0.5) / count) for n in range(count))


# Inverse distribution functions. The three named ones have mean 0 and standard deviation 1 and are cut off at 4 of
# them, as those that come with iproute2 are.


def _none(_: float) -> float:
    return 0.0


def _uniform() -> Callable[[float], float]:
    return lambda part: 2 * part - 1


def _normal() -> Callable[[float], float]:
    from statistics import NormalDist  # costs more to import than all else here

    return NormalDist().inv_cdf


def _pareto() -> Callable[[float], float]:
    longest = _LARGEST / SCALE
    return lambda part: min(longest, ((1 - part) ** (-1 / 3) - _PARETO_MEAN) / _PARETO_DEVIATION)


def _pareto_normal() -> Callable[[float], float]:
    """A quarter of the one and three quarters of the other."""
    normal, pareto = _normal(), _pareto()
    return lambda part: 0.25 * normal(part) + 0.75 * pareto(part)


_SHAPES: Final[dict[str, Callable[[], Callable[[float], float]]]] = {
    "": _uniform,
    "normal": _normal,
    "pareto": _pareto,
    "paretonormal": _pareto_normal,
}
