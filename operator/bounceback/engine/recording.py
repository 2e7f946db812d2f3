"""What a run saw and heard, whole: every sample, and every line that agents told; bounded, and counted beyond that.

A status keeps runs of equal samples (samples.py). These are the samples themselves, for the evidence: 14 bytes each.
They are held in memory until the run is over, so that an operator that goes on in another's place has only its own.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from bounceback.engine.samples import History, Sample
from bounceback.types.instants import Instant
from bounceback.types.told import Line, Told

SAMPLES_OF_OPERATOR: Final = 2_000_000
SAMPLES_OF_RUN: Final = 500_000
LINES_OF_OPERATOR: Final = 100_000
LINES_OF_RUN: Final = 30_000
COUNTS_OF_RUN: Final = 20_000
"""Lines with mere counts: the rest of the room is for those that tell of changes."""
MOST_MESSAGES: Final = 500
LONGEST_MESSAGE: Final = 300
HEALTHY: Final = 0
OTHER: Final = MOST_MESSAGES + 1
"""What a failing sample says that came after so many different messages."""
LONGEST_TAKEN: Final = 2**32 - 1


class Room:
    """How much may still be held, counted in samples or lines: by this run, and within that of all runs."""

    def __init__(self, most: int, within: Room | None = None) -> None:
        self._most = most
        self._within = within
        self._taken = 0

    @property
    def taken(self) -> int:
        return self._taken

    def take(self) -> bool:
        if self._taken >= self._most or (self._within is not None and not self._within.take()):
            return False
        self._taken += 1
        return True

    def give_back(self, number: int | None = None) -> None:
        """So much of what was taken, or all of it."""
        number = self._taken if number is None else number
        if self._within is not None:
            self._within.give_back(number)
        self._taken -= number


class Recording:
    """The samples of one probe, in the order in which their answers came."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._base: Instant | None = None
        self._starts = array("q")  # microseconds since the base
        self._took = array("I")  # microseconds
        self._said = array("H")  # HEALTHY, or the number of the message
        self._numbers: dict[str, int] = {}  # of messages, counted from 1
        self.left_out = 0

    def __len__(self) -> int:
        return len(self._said)

    @property
    def messages(self) -> list[str]:
        """What `said` counts from 1."""
        return list(self._numbers)

    def add(self, sample: Sample) -> None:
        if not self._room.take():
            self.left_out += 1
            return
        self._base = self._base or sample.start
        self._starts.append(round(sample.start.since(self._base) * 1e6))
        self._took.append(min(LONGEST_TAKEN, max(0, round(sample.latency * 1e6))))
        self._said.append(HEALTHY if sample.healthy else self._number(sample.message[:LONGEST_MESSAGE]))

    def chunks(self, since: Instant | None, size: int) -> Iterator[dict[str, list[int]]]:
        """Columns of at most so many samples; their starts in microseconds since then, or since the first of them."""
        base = round(self._base.since(since) * 1e6) if self._base and since else 0
        for at in range(0, len(self), size):
            yield {
                "startMicroseconds": [base + start for start in self._starts[at : at + size]],
                "tookMicroseconds": self._took[at : at + size].tolist(),
                "said": self._said[at : at + size].tolist(),
            }

    def _number(self, message: str) -> int:
        number = self._numbers.get(message)
        if number is None and len(self._numbers) >= MOST_MESSAGES:
            return OTHER
        return number or self._numbers.setdefault(message, len(self._numbers) + 1)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One probe of one check, with what it saw: in short, and whole."""

    check: str
    section: str  # probes, detection, errorState, or category: whether a signal named the trouble rightly
    name: str
    kind: str
    history: History
    recording: Recording


class AgentLines:
    """What agents and their guards told, by the name of each; a log that is read again takes its own place."""

    def __init__(self, room: Room | None = None) -> None:
        self._room = room or Room(LINES_OF_RUN)
        self.left_out = 0
        self._lines: dict[tuple[str, bool], list[str]] = {}

    def begin(self, agent: str, guard: bool) -> None:
        """Its log is read from the start."""
        self._room.give_back(len(self._lines.pop((agent, guard), ())))

    def add(self, agent: str, guard: bool, line: Line) -> None:
        if line.told is Told.HEARTBEAT:
            return  # tells that it lives, and nothing of the fault
        full = line.told is Told.HITS and self._room.taken >= COUNTS_OF_RUN
        if full or not self._room.take():
            self.left_out += 1
            return
        self._lines.setdefault((agent, guard), []).append(line.to_json())

    def __iter__(self) -> Iterator[tuple[str, bool, str]]:
        """The agent, whether it is its guard, and the line as it was written."""
        for (agent, guard), lines in self._lines.items():
            for line in lines:
                yield agent, guard, line
