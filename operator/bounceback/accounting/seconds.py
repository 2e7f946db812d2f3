"""What ended in each second of a load, in so few words that a line of a log takes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bounceback.accounting.ledger import Outcome

SHARE_BITS: Final = 5
HALF: Final = 1 << SHARE_BITS
NANOS: Final = 1_000_000_000


def class_of(nanoseconds: int) -> int:
    """Microseconds below 64 each have a class of their own; above, 32 classes share each power of two: 3 % wide."""
    microseconds = max(0, nanoseconds // 1000)
    shift = microseconds.bit_length() - SHARE_BITS - 1
    return microseconds if shift <= 0 else shift * HALF + (microseconds >> shift)


def upper(index: int) -> float:
    """Seconds that nothing in the class was above."""
    if index < 2 * HALF:
        return (index + 1) / 1e6
    shift = index // HALF - 1
    return ((index - shift * HALF + 1) << shift) / 1e6


@dataclass
class Second:
    """Operations that ended in it. Latencies are those of answers, and of what was waited for in vain: what failed
    at once would flatter the system."""

    number: int  # since the load began
    acknowledged: int = 0  # reads, too
    failed: int = 0
    unknown: int = 0
    latencies: Counter[int] = field(default_factory=Counter)  # by class

    def add(self, outcome: Outcome, nanoseconds: int) -> None:
        if outcome is Outcome.ACKNOWLEDGED:
            self.acknowledged += 1
        elif outcome is Outcome.FAILED:
            self.failed += 1
            return
        else:
            self.unknown += 1
        self.latencies[class_of(nanoseconds)] += 1

    def join(self, other: Second) -> None:
        """Have also what ended in the other."""
        self.acknowledged += other.acknowledged
        self.failed += other.failed
        self.unknown += other.unknown
        self.latencies.update(other.latencies)

    def to_json(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "acknowledged": self.acknowledged,
            "failed": self.failed,
            "unknown": self.unknown,
            "latencies": {str(index): count for index, count in sorted(self.latencies.items())},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Second:
        """Raises KeyError, TypeError or ValueError."""
        latencies = Counter({int(index): int(count) for index, count in data["latencies"].items()})
        number, acknowledged = int(data["number"]), int(data["acknowledged"])
        return cls(number, acknowledged, int(data["failed"]), int(data["unknown"]), latencies)


class Seconds:
    """Of a load that goes on; each is given once it is over."""

    def __init__(self) -> None:
        self._began: int | None = None
        self._open = Second(0)

    def begin(self, now: int) -> None:
        """`now` in nanoseconds."""
        self._began = now

    def add(self, outcome: Outcome, nanoseconds: int) -> None:
        self._open.add(outcome, nanoseconds)

    def over(self, now: int) -> list[Second]:
        """Those that have passed since the last time: the first with what was added, others with nothing."""
        if self._began is None:
            return []
        current = (now - self._began) // NANOS
        passed: list[Second] = []
        while self._open.number < current:
            passed.append(self._open)
            self._open = Second(self._open.number + 1)
        return passed


def percentile(latencies: Counter[int], share: float) -> float | None:
    """Seconds that this percentage of all were not above; None without any."""
    rank, passed = max(1, -(-latencies.total() * share // 100)), 0
    for index in sorted(latencies):
        passed += latencies[index]
        if passed >= rank:
            return upper(index)
    return None
