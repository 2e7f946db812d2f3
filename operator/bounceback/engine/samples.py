"""Samples of one probe, and what is kept of them: runs of equal state, and when nobody was looking.

A sample says that the system was healthy, or was not, at some moment between its start and its end. Samples overlap
when answers are slow and end in any order; they are kept in the order of their starts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from bounceback.types.instants import Instant, Interval

STORED_VERSION: Final = 1
MOST_RUNS: Final = 256
MOST_STORED_RUNS: Final = 8
MOST_GAPS: Final = 20
MOST_MESSAGES: Final = 5
LONGEST_MESSAGE: Final = 200
LATENESS: Final = 1.0
"""Seconds beyond its timeout that an answer may take to be told: the event loop may be busy."""


def earliest(*instants: Instant) -> Instant:
    first, *rest = instants
    for other in rest:
        if other.since(first) < 0:
            first = other
    return first


def latest(*instants: Instant) -> Instant:
    last, *rest = instants
    for other in rest:
        if other.since(last) > 0:
            last = other
    return last


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the system."""

    start: Instant
    end: Instant
    healthy: bool
    message: str = ""  # what went wrong, in a line

    @property
    def latency(self) -> float:
        """Seconds."""
        return self.end.since(self.start)


@dataclass(frozen=True, slots=True)
class Run:
    """Samples of equal state that follow each other in the order of their starts."""

    healthy: bool
    count: int
    first: Sample
    last: Sample
    soonest: Instant  # the earliest end of any of them: the state held at some moment before
    after_gap: bool = False  # nobody was looking between the run before and this one

    @classmethod
    def of(cls, sample: Sample, after_gap: bool) -> Run:
        return cls(sample.healthy, 1, sample, sample, sample.end, after_gap)

    def with_sample(self, sample: Sample) -> Run:
        return replace(self, count=self.count + 1, last=sample, soonest=earliest(self.soonest, sample.end))


class History:
    """What one probe saw, in bounded memory however long it looks.

    Say `begin` before each look and `add` (or `abandon`) after it: what is still under way limits what is known, and
    starts that lie further apart than two periods and a timeout are a gap. Without `begin`, `add` implies it.
    `ordered`: looks never overlap, so that the order of their starts is the order of what they saw (a watch).
    """

    def __init__(self, period: float, timeout: float, *, threshold: int = 1, ordered: bool = False) -> None:
        self.period = period
        self.timeout = timeout
        self.threshold = threshold  # this many failures in a row are a symptom
        self.ordered = ordered
        self.samples = 0
        self.healthy_samples = 0
        self.messages: list[str] = []  # of the first failures, each one once
        self.latest_failure = ""
        self.keep: Callable[[Sample], None] | None = None  # is given each sample as it comes
        self._settled: list[Run] = []  # nothing that is still under way can fall among these
        self._recent: list[Sample] = []  # by start
        self._gaps: list[Interval] = []
        self._under_way: list[Instant] = []  # starts of looks without an answer yet
        self._newest_start: Instant | None = None
        self._newest_end: Instant | None = None
        self._resumed_from: Instant | None = None  # set while nobody has looked since a restart
        self._view: tuple[Run, ...] | None = None

    @property
    def stall_seconds(self) -> float:
        """Starts further apart than this are a gap."""
        return 2 * self.period + self.timeout

    @property
    def runs(self) -> tuple[Run, ...]:
        """All that was seen, in order."""
        if self._view is None:
            runs = list(self._settled)
            for sample in self._recent:
                self._append(runs, sample)
            self._view = tuple(runs)
        return self._view

    @property
    def gaps(self) -> tuple[Interval, ...]:
        """When nobody was looking, from one start to the next; a stall that has not ended yet is not among them."""
        return tuple(self._gaps)

    @property
    def resumed_from(self) -> Instant | None:
        """After a restart, until the first look: the end of what was known before."""
        return self._resumed_from

    @property
    def first_start(self) -> Instant | None:
        """When the first sample that has an answer began."""
        return self.runs[0].first.start if self.runs else None

    @property
    def newest_start(self) -> Instant | None:
        """When the newest look began, whether answered or not."""
        return self._newest_start

    @property
    def oldest_under_way(self) -> Instant | None:
        """All looks that began before this are answered; None where all are."""
        return self._under_way[0] if self._under_way else None

    def begin(self, start: Instant) -> None:
        """A look begins; starts come in order."""
        self._note_start(start)
        self._under_way.append(start)

    def abandon(self, start: Instant) -> None:
        """The look that began then will have no answer: it was never carried out."""
        self._under_way.remove(start)

    def lose(self, start: Instant, end: Instant) -> None:
        """The look that began then came to nothing through our own fault: from then to `end` nobody was looking."""
        self._under_way.remove(start)
        self._add_gap(Interval(start, end))

    def add(self, sample: Sample) -> bool:
        """Put the sample where it started; whether the state differs from that of the one before it."""
        if sample.start in self._under_way:
            self._under_way.remove(sample.start)
        else:
            self._note_start(sample.start)
        if self.keep is not None:
            self.keep(sample)
        self._count(sample)
        self._newest_end = _newer(self._newest_end, sample.end)
        self._view = None
        if self._settled and _before(sample.start, self._settled[-1].last.start):
            self._add_gap(Interval(sample.start, sample.end))  # too late to say between which of the others it was
            return False
        at = _place(self._recent, sample.start)
        self._recent.insert(at, sample)
        before = self._recent[at - 1] if at else self._settled[-1].last if self._settled else None
        self._settle()
        return before is None or before.healthy != sample.healthy

    def forget(self, before: Instant) -> None:
        """Runs and gaps that were over by then are not asked for any more; the healthy one that held then stays."""
        held = [n for n, run in enumerate(self._settled) if run.healthy and run.first.start.since(before) <= 0]
        if held and held[-1] > 0:
            del self._settled[: held[-1]]
            self._view = None
        self._gaps = [gap for gap in self._gaps if gap.latest.since(before) > 0]

    def gap_between(self, one: Instant, other: Instant) -> bool:
        """Whether looking began again somewhere after the one and not after the other."""
        return any(g.latest.since(one) > 0 and g.latest.since(other) <= 0 for g in self._gaps)

    def _count(self, sample: Sample) -> None:
        self.samples += 1
        self.healthy_samples += sample.healthy
        if not sample.healthy:
            self.latest_failure = sample.message[:LONGEST_MESSAGE]
            if len(self.messages) < MOST_MESSAGES and self.latest_failure not in self.messages:
                self.messages.append(self.latest_failure)

    def _note_start(self, start: Instant) -> None:
        before, self._newest_start = self._newest_start, _newer(self._newest_start, start)
        if self._resumed_from is not None:
            self._add_gap(Interval(earliest(self._resumed_from, start), start))
            self._resumed_from = None
        elif before is not None and start.since(before) > self.stall_seconds:
            self._add_gap(Interval(before, start))
        elif before is not None and start.since(before) < 0:
            self._narrow_gaps(start)

    def _narrow_gaps(self, start: Instant) -> None:
        """Somebody did look in what seemed to be a gap: the answer was only late."""
        for gap in self._gaps:
            if gap.earliest.since(start) < 0 < gap.latest.since(start):
                parts = (Interval(gap.earliest, start), Interval(start, gap.latest))
                at = self._gaps.index(gap)
                self._gaps[at : at + 1] = [part for part in parts if part.width > self.stall_seconds]
                return

    def _add_gap(self, gap: Interval) -> None:
        """Gaps that overlap are one; of too many, those that are closest to each other are given up for one as well."""
        self._view = None
        apart = []
        for other in self._gaps:
            if gap.latest.since(other.earliest) <= 0 or other.latest.since(gap.earliest) <= 0:
                apart.append(other)
            else:
                gap = Interval(earliest(gap.earliest, other.earliest), latest(gap.latest, other.latest))
        at = bisect_right(apart, 0.0, key=lambda other: other.earliest.since(gap.earliest))
        self._gaps = [*apart[:at], gap, *apart[at:]]
        if len(self._gaps) > MOST_GAPS:
            _, at = min((b.earliest.since(a.latest), n) for n, (a, b) in enumerate(pairwise(self._gaps)))
            one, other = self._gaps[at : at + 2]
            self._gaps[at : at + 2] = [Interval(one.earliest, other.latest)]

    def _settle(self) -> None:
        """Fold into runs what no late answer can fall among any more."""
        assert self._newest_end is not None
        bound = self._newest_end.plus(-self.timeout - LATENESS)
        if self._under_way:
            bound = earliest(bound, self._under_way[0])
        while self._recent and self._recent[0].start.since(bound) < 0:
            self._append(self._settled, self._recent.pop(0))
        if len(self._settled) > MOST_RUNS:
            self._settled, lost = condensed(self._settled, MOST_RUNS)
            for gap in lost:
                self._add_gap(gap)

    def _append(self, runs: list[Run], sample: Sample) -> None:
        last = runs[-1] if runs else None
        gap = last is not None and bool(self._gaps) and self.gap_between(last.last.start, sample.start)
        gap = gap or (last is not None and last.last.start.boot != sample.start.boot)
        if last is None or gap or last.healthy != sample.healthy:
            runs.append(Run.of(sample, gap))
        else:
            runs[-1] = last.with_sample(sample)

    def to_json(self, most_runs: int = MOST_STORED_RUNS, most_messages: int = MOST_MESSAGES) -> dict[str, Any]:
        """A few hundred bytes, whatever was seen: times in whole microseconds, rounded away from each other."""
        runs, lost = condensed(self.runs, most_runs)
        seen = [sample.start for run in runs for sample in (run.first, run.last)]
        until = self.oldest_under_way or self.resumed_from or self._newest_start
        clocks = _Clocks([*seen, *([until] if until else [])])
        return {
            "version": STORED_VERSION,
            "period": self.period,
            "timeout": self.timeout,
            "threshold": self.threshold,
            "ordered": self.ordered,
            "samples": [self.samples, self.healthy_samples],
            "messages": self.messages[:most_messages],
            "clocks": clocks.to_json(),
            "runs": [_run_to_json(run, clocks) for run in runs],
            "gaps": [[clocks.floor(g.earliest), clocks.ceil(g.latest)] for g in (*self._gaps, *lost)],
            "until": clocks.floor(until) if until else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> History:
        """Go on from there; what happens between its last look and the next one is a gap.

        Raises ValueError for what another version stored.
        """
        if data.get("version") != STORED_VERSION:
            raise ValueError(f"a history of version {data.get('version')!r}; this operator reads {STORED_VERSION}")
        history = cls(data["period"], data["timeout"], threshold=data["threshold"], ordered=data["ordered"])
        history.samples, history.healthy_samples = data["samples"]
        history.messages = list(data["messages"])
        clocks = _Clocks.from_json(data["clocks"])
        history._settled = [_run_from_json(run, clocks) for run in data["runs"]]
        for start, end in data["gaps"]:
            history._add_gap(Interval(clocks.read(start), clocks.read(end)))
        if data["until"] is not None:
            history._resumed_from = history._newest_start = clocks.read(data["until"])
        return history


def condensed(runs: Sequence[Run], limit: int) -> tuple[list[Run], list[Interval]]:
    """At most `limit` runs, the first and the last ones unchanged, and what had to be forgotten as gaps.

    A system that goes up and down too often to keep each change counts as failing from the first to the last of these.
    """
    kept, lost = list(runs), []
    middle = limit // 2
    while len(kept) > limit:
        failing = [n for n in range(middle, len(kept)) if not kept[n].healthy][:2]
        if len(failing) == 2:
            at, end = failing
            one, other = kept[at], kept[end]
            soonest = earliest(one.soonest, other.soonest)
            kept[at : end + 1] = [replace(one, count=one.count + other.count, last=other.last, soonest=soonest)]
        else:
            del kept[middle]
            kept[middle] = replace(kept[middle], after_gap=True)
            lost.append(Interval(kept[middle - 1].last.start, kept[middle].first.start))
    return kept, lost


def _newer(newest: Instant | None, moment: Instant) -> Instant:
    """The later of them; what another boot's clock said was before a restart, whatever the wall clocks say."""
    return moment if newest is None or newest.boot != moment.boot else latest(newest, moment)


def _before(one: Instant, other: Instant) -> bool:
    return one.boot == other.boot and one.since(other) < 0


def _place(samples: Sequence[Sample], start: Instant) -> int:
    """Where a sample with this start belongs; behind those that started at the same time."""
    if samples and samples[-1].start.since(start) <= 0:
        return len(samples)
    return bisect_right(samples, 0.0, key=lambda sample: sample.start.since(start))


class _Clocks:
    """Moments as microseconds since a reading of the same machine's clock."""

    def __init__(self, instants: Iterable[Instant]) -> None:
        self._bases: dict[str, Instant] = {}
        for instant in instants:
            base = self._bases.get(instant.boot)
            if base is None or instant.nanos < base.nanos:
                self._bases[instant.boot] = instant

    def floor(self, instant: Instant) -> list[int]:
        number, nanos = self._delta(instant)
        return [number, nanos // 1000]

    def ceil(self, instant: Instant) -> list[int]:
        number, nanos = self._delta(instant)
        return [number, -(-nanos // 1000)]

    def read(self, moment: Sequence[int]) -> Instant:
        base = list(self._bases.values())[moment[0]]
        return Instant(base.boot, base.nanos + moment[1] * 1000, base.utc + moment[1] / 1e6)

    def to_json(self) -> list[list[Any]]:
        return [[base.boot, base.nanos, round(base.utc, 6)] for base in self._bases.values()]

    @classmethod
    def from_json(cls, data: list[list[Any]]) -> _Clocks:
        return cls(Instant(boot, nanos, utc) for boot, nanos, utc in data)

    def _delta(self, instant: Instant) -> tuple[int, int]:
        base = self._bases.setdefault(instant.boot, instant)
        return list(self._bases).index(instant.boot), instant.nanos - base.nanos


def _run_to_json(run: Run, clocks: _Clocks) -> list[Any]:
    times = [clocks.floor(run.first.start), clocks.ceil(run.first.end)]
    times += [clocks.floor(run.last.start), clocks.ceil(run.last.end), clocks.ceil(run.soonest)]
    return [int(run.healthy), run.count, int(run.after_gap), *times]


def _run_from_json(data: Sequence[Any], clocks: _Clocks) -> Run:
    healthy, count, after_gap, *times = data
    a, b, c, d, soonest = (clocks.read(time) for time in times)
    first, last = Sample(a, b, bool(healthy)), Sample(c, d, bool(healthy))
    return Run(bool(healthy), count, first, last, soonest, bool(after_gap))
