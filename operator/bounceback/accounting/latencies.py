"""Latencies, as counts in classes: bounded memory, percentiles that are at most 1 % too high."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

EXACT_BITS: Final = 8
HALF: Final = 1 << (EXACT_BITS - 1)
LARGEST: Final = (1 << 40) - 1  # microseconds: twelve days
CLASSES: Final = (40 - EXACT_BITS) * HALF + (1 << EXACT_BITS)


class Latencies:
    """Microseconds below 256 each have a class of their own; above, 128 classes share each power of two."""

    def __init__(self) -> None:
        self._counts = array("Q", [0]) * CLASSES
        self.count = 0
        self.longest = 0  # nanoseconds

    def add(self, nanoseconds: int) -> None:
        self.count += 1
        if nanoseconds > self.longest:
            self.longest = nanoseconds
        microseconds = nanoseconds // 1000
        if microseconds < 0:
            microseconds = 0
        shift = microseconds.bit_length() - EXACT_BITS
        if shift <= 0:
            self._counts[microseconds] += 1
        else:
            self._counts[min(shift * HALF + (microseconds >> shift), CLASSES - 1)] += 1

    def merge(self, other: Latencies) -> None:
        """Have also what the other has."""
        for index, count in enumerate(other._counts):
            if count:
                self._counts[index] += count
        self.count += other.count
        self.longest = max(self.longest, other.longest)

    def percentiles(self, shares: Sequence[float]) -> list[float]:
        """Seconds that this percentage of all were not above, for each share in ascending order; 0 without any."""
        found: list[float] = []
        passed = 0
        classes = enumerate(self._counts)
        index = 0
        for share in shares:
            rank = max(1, -(-self.count * share // 100))
            while passed < rank and self.count:
                index, count = next(classes)
                passed += count
            found.append(min(_upper(index), self.longest / 1000) / 1e6 if self.count else 0.0)
        return found


def _upper(index: int) -> int:
    """The largest number of microseconds in the class."""
    if index < 2 * HALF:
        return index
    shift = index // HALF - 1
    return ((index - shift * HALF + 1) << shift) - 1
