"""Which of the things that match are hit: shared by every rule of the relay, of the DNS handler and of the TLS one.

A decision is a function of the choice and of how many things matched before, never of time or of a generator's state:
the same seed and the same traffic make the same decisions, on any machine and after any restart. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MASK: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class Choice:
    """Of the things that match, numbered from 1: those that pass all three tests.

    Among them every `nth` (0: all), as long as the number is not above `first_n` (0: for ever), and of those the
    share `probability` (0 to 1), by dice that `seed` decides.
    """

    probability: float = 1.0
    nth: int = 0
    first_n: int = 0
    seed: int = 0

    def decide(self, number: int) -> bool:
        """Whether the thing with this number is hit."""
        if self.first_n and number > self.first_n:
            return False
        if self.nth and number % self.nth:
            return False
        return self.probability >= 1 or drawn(self.seed, number) < self.probability

    def over(self, number: int) -> bool:
        """Whether neither this one nor any later one is hit."""
        return bool(self.first_n) and number > self.first_n


ALWAYS: Final = Choice()


def drawn(seed: int, number: int) -> float:
    """The number-th draw of a seed: evenly spread over 0 <= x < 1, independent of its neighbours and of other seeds.

    SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014), entered at any place.
    """
    return (_mixed(_mixed(seed) + number * _GAMMA) >> 11) / (1 << 53)  # as many bits as a float holds


def _mixed(value: int) -> int:
    value = (value + _GAMMA) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
