"""Probes that look from elsewhere: their samples come from a prober pod, and are put on our clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bounceback.api.probes import Probe
from bounceback.engine.samples import History, Sample
from bounceback.types.instants import Instant, Interval
from bounceback.types.prober import Said

NOBODY: Final = "vantage: Pod is for experiments: no prober pod looks for a check by itself"


@dataclass(frozen=True, slots=True)
class Reading:
    """Another machine's clock, read between two readings of ours."""

    asked: Instant
    there: Instant
    answered: Instant

    def ours(self, moment: Instant) -> Interval:
        """When that was here: exact where both are the same boot's. Boot-time clocks neither step nor stop."""
        if moment.boot == self.asked.boot:
            return Interval.at(moment)
        since = moment.since(self.there)
        return Interval(self.asked.plus(since), self.answered.plus(since))


class Remote:
    """The history of one probe, as the prober's lines tell it. What was known before is not told again."""

    def __init__(self, history: History, changed: Callable[[], None]) -> None:
        self.history = history
        self.problem: str | None = None
        self._changed = changed
        self._known = history.newest_start

    async def run(self, phase: float) -> None:
        """Whoever listens to the prober tells it."""

    def hear(self, line: Mapping[str, Any], clock: Reading) -> None:
        """Raises KeyError, TypeError or ValueError for a line that is none."""
        match Said(line["said"]):
            case Said.PROBLEM:
                self.tell(line["problem"])
            case Said.SAMPLE | Said.NO_SAMPLE:
                start = clock.ours(Instant.from_json(line["start"])).earliest
                end = clock.ours(Instant.from_json(line["end"])).latest
                if self._known is not None and start.since(self._known) <= 0:
                    return
                if line["said"] == Said.NO_SAMPLE:
                    self.history.begin(start)
                    self.history.lose(start, end)
                    return
                self.tell(None)
                if self.history.add(Sample(start, end, line["wrong"] is None, line["wrong"] or "")):
                    self._changed()

    def tell(self, problem: str | None) -> None:
        if self.problem != problem:
            self.problem = problem
            self._changed()


class Outpost(Protocol):
    """Where probes with vantage: Pod look from."""

    async def look(self, probes: Mapping[str, Probe], remotes: Mapping[str, Remote]) -> None:
        """For as long as it is not cancelled; by key, the probe and who is told what it saw."""
