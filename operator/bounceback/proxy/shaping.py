"""How long, how fast, which: what the rules decide, from seeds and times alone. No I/O, no clock.

Times are in seconds of one monotonic clock. The dice of each way of each connection are two numbers, where those of
`random.Random` take 2.5 KiB.
"""

from __future__ import annotations

import math
from typing import Final

from bounceback.types.choice import drawn, stream
from bounceback.types.relay import Hold, Lose, Slice

WIDEST: Final = 4.0
"""Standard deviations at which the kernel's tables of distributions end (iproute2, netem/normal.c: 32767/8192)."""
PARETO_DEVIATION: Final = 0.75**0.5
DEFAULT_BURST: Final = 0.05
"""Seconds of its rate that a throttle lets through at once where no burst is given."""
LEAST_BURST: Final = 1514
"""One Ethernet frame, in bytes."""
LONGEST_RECOVERY: Final = 60.0
"""Seconds; RFC 6298, 2.5."""


class Dice:
    """Numbers that follow from a seed and from what they are for, one after the other."""

    __slots__ = ("_number", "_stream")

    def __init__(self, seed: int, *purpose: object) -> None:
        self._stream = stream(seed, "\0".join(map(str, purpose)))
        self._number = 0

    def uniform(self) -> float:
        """From 0 up to 1, without 1."""
        self._number += 1
        return drawn(self._stream, self._number)

    def below(self, end: int) -> int:
        """A whole number from 0, without `end`."""
        return int(self.uniform() * end)

    def normal(self) -> float:
        """Mean 0, deviation 1 (Box and Muller), within WIDEST."""
        found = math.sqrt(-2.0 * math.log(1.0 - self.uniform())) * math.cos(2.0 * math.pi * self.uniform())
        return max(-WIDEST, min(WIDEST, found))

    def pareto(self) -> float:
        """Mean 0, deviation 1: many a little below 0, few far above, up to WIDEST (shape 3)."""
        return min(WIDEST, (math.pow(1.0 - self.uniform(), -1.0 / 3.0) - 1.5) / PARETO_DEVIATION)


class Correlated:
    """Numbers from 0 to 1, evenly spread, that are the one before with a chance of `correlation` percent.

    So what is hit depends on the one before to that degree, and the share that is hit is still the one asked for;
    netem's way (get_crandom) has the first and not the second.
    """

    __slots__ = ("_last", "_repeats", "dice")

    def __init__(self, correlation: float, dice: Dice) -> None:
        self._repeats = correlation / 100.0
        self._last = -1.0
        self.dice = dice

    def next(self) -> float:
        if not self._repeats or self._last < 0 or self.dice.uniform() >= self._repeats:
            self._last = self.dice.uniform()
        return self._last


class Delays:
    """One delay after the other."""

    __slots__ = ("_hold", "_numbers")

    def __init__(self, hold: Hold, dice: Dice) -> None:
        self._hold = hold
        self._numbers = Correlated(hold.correlation, dice)

    def next(self) -> float:
        """Seconds, never below 0."""
        hold = self._hold
        delay = hold.delay_us / 1e6
        if hold.jitter_us:
            delay += hold.jitter_us / 1e6 * self._deviation()
        if hold.spike_probability and self._numbers.dice.uniform() < hold.spike_probability:
            delay *= hold.spike_multiplier
        return max(0.0, delay)

    def _deviation(self) -> float:
        """In jitters."""
        dice = self._numbers.dice
        match self._hold.distribution:
            case "normal":
                return dice.normal()
            case "pareto":
                return dice.pareto()
            case "paretonormal":
                return 0.25 * dice.normal() + 0.75 * dice.pareto()
            case _:
                return 2.0 * self._numbers.next() - 1.0


class Losses:
    """Whether one segment after the other is lost."""

    __slots__ = ("_bad", "_lose", "_numbers")

    def __init__(self, lose: Lose, dice: Dice) -> None:
        self._lose = lose
        self._numbers = Correlated(lose.correlation, dice)
        self._bad = False

    def next(self) -> bool:
        lose = self._lose
        if not lose.burst_begins:
            return self._numbers.next() < lose.probability
        dice = self._numbers.dice
        changes = lose.burst_ends if self._bad else lose.burst_begins
        if dice.uniform() < changes:
            self._bad = not self._bad
        return dice.uniform() < (lose.lost_in_burst if self._bad else lose.lost_outside)

    @property
    def dice(self) -> Dice:
        return self._numbers.dice

    def recovery(self) -> float:
        """Seconds until TCP has brought the next segment there; 0 if it is not lost."""
        pause, step = 0.0, self._lose.recovery_us / 1e6
        while pause < LONGEST_RECOVERY and self.next():
            pause += step
            step *= 2
        return min(pause, LONGEST_RECOVERY)


class Bucket:
    """A rate with a burst. Bytes take their place one after the other; nothing is lost by a late look at the clock."""

    __slots__ = ("_free", "_rate", "_slack")

    def __init__(self, rate: int, burst: int = 0) -> None:
        self._rate = rate
        self._slack = (burst or max(LEAST_BURST, rate * DEFAULT_BURST)) / rate
        self._free = -math.inf

    def take(self, size: int, ready: float) -> float:
        """When these bytes have passed, if they came at `ready` and nobody takes their place."""
        self._free = max(self._free, ready - self._slack) + size / self._rate
        return self._free

    def queue(self, ready: float) -> float:
        """Seconds that what comes at `ready` would wait for its turn."""
        return max(0.0, self._free - ready)

    @property
    def quantum(self) -> int:
        """Bytes to ask for at a time: what passes in 10 ms."""
        return max(64, min(65536, self._rate // 100))


def pieces(cut: Slice, length: int, dice: Dice) -> list[int]:
    """The lengths of what a segment is cut into; together they are `length`."""
    found: list[int] = []
    while length > 0:
        size = cut.size
        if cut.variation:
            size += dice.below(2 * cut.variation + 1) - cut.variation
        size = min(length, max(1, size))
        found.append(size)
        length -= size
    return found


def flipped(data: bytes, dice: Dice) -> bytes:
    """With one bit changed."""
    where = dice.below(len(data) * 8)
    changed = bytearray(data)
    changed[where // 8] ^= 1 << (where % 8)
    return bytes(changed)
