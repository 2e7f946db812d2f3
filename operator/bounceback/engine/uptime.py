"""Time accounted for: every millisecond was up, down, uncertain or unknown.

An outage is down from its first symptom to its recovery, whatever it looked like in between; at some moment within
the intervals of these two it went down and came back, so they are uncertain. Unknown is when a probe was not answered
for, unless another one is known to have failed meanwhile: one that fails is enough for the system to be down.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final, TypeVar

from bounceback.api.check_status import Slice, Times, Window
from bounceback.engine.samples import History
from bounceback.engine.timeline import stretches
from bounceback.types.instants import Instant, Interval

SLICES: Final = 24
"""A window is made of so many, and moves on by one at a time."""
MOST_SLICES: Final = 64
AnyTimes = TypeVar("AnyTimes", bound=Times)


class Kind(StrEnum):
    """The fields of Times."""

    UP = "up_milliseconds"
    DOWN = "down_milliseconds"
    UNCERTAIN = "uncertain_milliseconds"
    UNKNOWN = "unknown_milliseconds"


@dataclass(frozen=True, slots=True)
class Piece:
    """From one millisecond after `base` to another."""

    start: int
    end: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Probed:
    """One probe's history, with the failures in a row that are a symptom."""

    history: History
    threshold: int


Down = tuple[Interval, Interval | None]
"""When an outage began, and when it ended, if it has."""


def pieces(probes: Sequence[Probed], outages: Iterable[Down], base: Instant, end: Instant, now: Instant) -> list[Piece]:
    """From `base` to `end`, without a hole, as it is known at `now`."""
    length = max(0, round(end.since(base) * 1000))

    def within(spans: Iterable[tuple[Instant, Instant]]) -> list[tuple[int, int]]:
        cut = ((_clamp(a.since(base), length), _clamp(b.since(base), length)) for a, b in spans)
        return [(a, b) for a, b in cut if a < b]

    unseen = within(span for each in probes for span in _unseen(each.history, base, now))
    failing = within(span for each in probes for span in _failing(each, now))
    known = list(outages)
    uncertain = within(span for began, ended in known for span in _edges(began, ended))
    down = within((began.earliest, ended.latest if ended else end) for began, ended in known)
    edges = sorted({0, length, *(moment for span in (*unseen, *failing, *uncertain, *down) for moment in span)})
    found: list[Piece] = []
    for start, stop in pairwise(edges):

        def holds(spans: Sequence[tuple[int, int]], start: int = start) -> bool:
            return any(a <= start < b for a, b in spans)

        if holds(unseen) and not holds(failing):
            kind = Kind.UNKNOWN
        elif holds(uncertain):
            kind = Kind.UNCERTAIN
        else:
            kind = Kind.DOWN if holds(down) else Kind.UP
        if found and found[-1].kind is kind:
            found[-1] = Piece(found[-1].start, stop, kind)
        else:
            found.append(Piece(start, stop, kind))
    return found


def proven_from(history: History) -> Instant | None:
    """When it was first seen healthy: what a probe says that never was is nothing to judge a system by."""
    return next((run.first.start for run in history.runs if run.healthy), None)


def unseen_since(history: History, now: Instant) -> Instant | None:
    """From when on nobody has looked, or nobody could; None where somebody does."""
    runs = history.runs
    if not runs:
        return now
    last = runs[-1].last.start
    silent = history.resumed_from is not None or now.since(last) > history.stall_seconds
    return last if silent else None


def _unseen(history: History, base: Instant, now: Instant) -> Iterator[tuple[Instant, Instant]]:
    """Until it was first healthy, around each gap, and after the last answer where that is too long ago."""
    proven = proven_from(history)
    if proven is None:
        yield base, now
        return
    if proven.since(base) > 0:
        yield base, proven
    for one, other in pairwise(history.runs):
        if other.after_gap:
            yield one.last.start, other.first.start
    if (since := unseen_since(history, now)) is not None:
        yield since, now


def _failing(probed: Probed, now: Instant) -> Iterator[tuple[Instant, Instant]]:
    """When it is known to have failed; not what came before it was ever healthy."""
    states = stretches(probed.history, probed.threshold)
    proven = next((n for n, stretch in enumerate(states) if stretch.healthy), len(states))
    for stretch in states[proven:]:
        if stretch.healthy:
            continue
        for part in stretch.parts:
            yield part.first.start, part.last.end
        if stretch is states[-1] and unseen_since(probed.history, now) is None:
            yield stretch.parts[-1].last.end, now  # it fails until somebody sees that it does not


def _edges(began: Interval, ended: Interval | None) -> Iterator[tuple[Instant, Instant]]:
    """Where one is not over before the other begins, the system may not have been down at any given moment."""
    if ended is None:
        yield began.earliest, began.latest
    elif ended.earliest.since(began.latest) <= 0:
        yield began.earliest, ended.latest
    else:
        yield began.earliest, began.latest
        yield ended.earliest, ended.latest


def _clamp(seconds: float, most: int) -> int:
    return min(max(0, round(seconds * 1000)), most)


def added(times: AnyTimes, found: Iterable[Piece]) -> AnyTimes:
    """With the lengths of these pieces."""
    more: dict[str, int] = {}
    for piece in found:
        more[piece.kind] = more.get(piece.kind, getattr(times, piece.kind)) + piece.end - piece.start
    return times.model_copy(update=more)


def into_slices(
    slices: Sequence[Slice], found: Iterable[Piece], base: Instant, window_hours: int, began: Sequence[float] = ()
) -> list[Slice]:
    """With these pieces, each in the slices that it lies in, and outages that began then (UTC); what is old goes."""
    length = window_hours * 3600 / SLICES
    by_start = {each.utc: each for each in slices}

    def slice_of(utc: float) -> Slice:
        start = math.floor(utc / length) * length
        return by_start.setdefault(start, Slice(utc=start))

    for piece in found:
        at = piece.start
        while at < piece.end:
            here = slice_of(base.utc + at / 1000)
            until = min(piece.end, max(at + 1, math.ceil((here.utc + length - base.utc) * 1000)))
            by_start[here.utc] = added(here, [Piece(at, until, piece.kind)])
            at = until
    for utc in began:
        here = slice_of(utc)
        by_start[here.utc] = here.model_copy(update={"outages": here.outages + 1})
    kept = sorted(by_start.values(), key=lambda each: each.utc)
    oldest = kept[-1].utc - window_hours * 3600 if kept else 0.0
    return [each for each in kept if each.utc > oldest][-MOST_SLICES:]


def window_of(slices: Sequence[Slice], lasting: Sequence[Piece], since: Instant) -> Window:
    """The slices together, and what is not settled yet."""
    first = max(slices[0].utc, since.utc) if slices else since.utc
    window = Window(
        since=datetime.fromtimestamp(first, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        outages=sum(each.outages for each in slices),
        **{kind: sum(getattr(each, kind) for each in slices) for kind in Kind},
    )
    window = added(window, lasting)
    return window.model_copy(update={"availability_percent": availability(window)})


def availability(times: Times) -> str:
    """99.95 ±0.01: up of what is known, in percent, rounded so that the truth is inside; "" where nothing is."""
    if not times.known:
        return ""
    least = 100 * times.up_milliseconds / times.known
    most = 100 * (times.up_milliseconds + times.uncertain_milliseconds) / times.known
    middle = round((least + most) / 2, 3)
    error = math.ceil(max(most - middle, middle - least) * 1000 - 1e-6) / 1000
    shown = f"{middle:.3f}".rstrip("0").rstrip(".")
    return f"{shown} ±{error:g}" if error else shown


def sums(found: Iterable[Piece]) -> Mapping[Kind, int]:
    """Milliseconds of each."""
    total = dict.fromkeys(Kind, 0)
    for piece in found:
        total[piece.kind] += piece.end - piece.start
    return total
