"""Parts of what is seen of a client: how often it asks, and one request that it tries again and again."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

MOST_GAPS: Final = 32
"""Pauses that are kept of one series: the first ones, which say whether it grows."""
HOT: Final = 20
"""Tries of one request within a second that make it a hot loop."""
PATIENCE: Final = 60.0
"""Seconds after which a failed request that was not tried again is given up, or four times its longest pause so far."""
AWAITED: Final = 1.0
"""Seconds after a failure within which a client that does pause need not have come again."""
TOLERANCE: Final = 0.05
"""Seconds by which clocks and timers may differ from a wait that was asked for."""
_PARTS: Final = 10  # of a second


class Rate:
    """How many there were, and the most in any one second, to a tenth of it. A count takes no more than its time."""

    __slots__ = ("_begins", "_ends", "_part", "_peak", "total")

    def __init__(self) -> None:
        self.total = 0
        self._peak = 0
        self._part = -_PARTS
        self._ends = -math.inf  # when this part is over
        self._begins = [0] * _PARTS  # how many there had been when each of the last parts began

    @property
    def peak(self) -> int:
        return max(self._peak, self.total - self._begins[(self._part + 1) % _PARTS])

    def count(self, now: float) -> None:
        if now >= self._ends:
            self._move(int(now * _PARTS))
        self.total += 1

    def _move(self, part: int) -> None:
        self._peak = self.peak
        for begun in range(max(self._part, part - _PARTS) + 1, part + 1):
            self._begins[begun % _PARTS] = self.total
        self._part = part
        self._ends = (part + 1) / _PARTS


class Tally:
    """Requests of one verb for one resource."""

    __slots__ = ("by_us", "codes", "lost", "rate", "retries", "told_to_wait")

    def __init__(self) -> None:
        self.rate = Rate()
        self.codes: dict[int, int] = {}
        self.retries = 0
        self.by_us = 0
        self.lost = 0
        self.told_to_wait = 0

    def answered(self, code: int, by_us: bool, lost: bool) -> None:
        self.by_us += by_us
        if lost:
            self.lost += 1
        elif code:
            self.codes[code] = self.codes.get(code, 0) + 1

    def to_json(self) -> dict[str, Any]:
        return {
            "count": self.rate.total,
            "peakPerSecond": self.rate.peak,
            "retries": self.retries,
            "codes": {str(code): count for code, count in sorted(self.codes.items())},
            "lost": self.lost,
            "byUs": self.by_us,
        }


class Series:
    """One request that failed, with the pauses between its tries; or one watch, with those between its lives."""

    __slots__ = (
        "_recent",
        "_slowest",
        "_tally",
        "created",
        "failed_at",
        "gaps",
        "hot",
        "late",
        "listed",
        "lost",
        "since",
        "wait",
    )

    def __init__(self, tally: Tally, now: float) -> None:
        self._tally = tally
        self._recent: deque[float] = deque(maxlen=HOT)
        self._slowest = 0.0
        self.failed_at: float | None = None  # None: a try is under way
        self.wait = 0.0  # what it was told to wait, in seconds; 0: nothing
        self.gaps: list[float] = []
        self.late = 0.0  # seconds that we were late ourselves meanwhile, at the most
        self.hot = False
        self.created = False  # the API server has done it, and the client does not know
        self.since = now  # of a watch: when it was asked for
        self.lost = False  # of a watch: it ended as none should
        self.listed = False  # of a watch that ended: it was listed since

    def fail(self, now: float, retry_after: float | None) -> None:
        self.failed_at = now
        self.wait = retry_after or 0.0
        self._tally.told_to_wait += self.wait > 0

    def again(self, now: float, gap: float) -> bool:
        """Another try after that pause; whether it is with this one that it begins to be a hot loop."""
        self._slowest = max(self._slowest, gap)
        if len(self.gaps) < MOST_GAPS and not (self.wait and self.honors(gap)):
            self.gaps.append(gap)
        self._recent.append(now)
        began = not self.hot and len(self._recent) == HOT and now - self._recent[0] <= 1.0
        self.hot = self.hot or began
        return began

    def honors(self, gap: float) -> bool:
        return gap >= self.wait - TOLERANCE

    def is_awaited(self, now: float) -> bool:
        """It failed so recently that the client may be pausing still, as long as it has paused before."""
        return self.failed_at is not None and now - self.failed_at <= max(AWAITED, 2 * self._slowest, self.wait + 1)

    def is_given_up(self, now: float) -> bool:
        """So long after a failure nobody comes again."""
        patience = max(PATIENCE, 4 * self._slowest, self.wait + PATIENCE)
        return self.failed_at is not None and now - self.failed_at > patience
