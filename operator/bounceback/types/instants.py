"""Moments and the intervals that they lie in.

A moment is read from one machine's boot-time clock, which neither steps nor stops in suspend (clock_gettime(2),
CLOCK_BOOTTIME), together with that boot's id and UTC, which are for people and for other machines.
Standard library only: the agent imports this.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NANOS = 1_000_000_000
WALL_CLOCKS_AGREE = 1.0
"""Seconds to which two machines' UTC is taken to agree: what is measured from one's clock to another's is as unsure."""


@functools.cache
def boot_id() -> str:
    """The id of this machine's boot (random(4)): equal ids mean that boot-time clocks can be compared."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True, slots=True)
class Instant:
    """One reading of the clocks: `nanos` since boot, `utc` seconds since the epoch."""

    boot: str
    nanos: int
    utc: float

    @classmethod
    def now(cls) -> Instant:
        return cls(boot_id(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time())

    def plus(self, seconds: float) -> Instant:
        return Instant(self.boot, self.nanos + round(seconds * NANOS), self.utc + seconds)

    def since(self, earlier: Instant) -> float:
        """Seconds from `earlier` to this; by the boot-time clock where both saw the same boot, else by UTC."""
        if self.boot == earlier.boot:
            return (self.nanos - earlier.nanos) / NANOS
        return self.utc - earlier.utc

    def rfc3339(self) -> str:
        return datetime.fromtimestamp(self.utc, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @staticmethod
    def parse(rfc3339: str) -> float:
        """UTC seconds since the epoch."""
        return datetime.fromisoformat(rfc3339).timestamp()

    def to_json(self) -> dict[str, Any]:
        return {"boot": self.boot, "nanos": self.nanos, "utc": self.utc}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Instant:
        return cls(str(data["boot"]), int(data["nanos"]), float(data["utc"]))


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened lies between the two; both are readings of the same clock."""

    earliest: Instant
    latest: Instant

    @classmethod
    def at(cls, moment: Instant) -> Interval:
        return cls(moment, moment)

    def later(self, seconds: float) -> Interval:
        return Interval(self.earliest.plus(seconds), self.latest.plus(seconds))

    @property
    def width(self) -> float:
        """Seconds."""
        return self.latest.since(self.earliest)


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time known to lie between two figures, in seconds."""

    least: float
    most: float

    @classmethod
    def between(cls, start: Interval, end: Interval) -> Span:
        """From `start` to `end`; never below zero, because effects do not precede their causes.

        Where that was read from two machines' clocks it is wider by WALL_CLOCKS_AGREE each way; where these
        clocks contradict each other, it is anything up to what either says.
        """
        least = end.earliest.since(start.latest) - _unsure(start.latest, end.earliest)
        most = end.latest.since(start.earliest) + _unsure(start.earliest, end.latest)
        if most < max(0.0, least):
            least, most = 0.0, max(least, most)
        return cls(max(0.0, least), max(0.0, most))

    @property
    def middle(self) -> float:
        return (self.least + self.most) / 2

    @property
    def error(self) -> float:
        """Half the width: middle ± error."""
        return (self.most - self.least) / 2


def _unsure(one: Instant, other: Instant) -> float:
    return 0.0 if one.boot == other.boot else WALL_CLOCKS_AGREE
