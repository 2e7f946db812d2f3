"""The timeline's moments, read off injections and health."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bounceback.api.status import InjectionStatus, MarkStatus, Moment
from bounceback.engine.evidence import DONE, on_our_clock
from bounceback.engine.health import Health
from bounceback.engine.samples import earliest, latest
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import Expect, Mark


def marks_of(
    injections: Sequence[InjectionStatus], health: Health, now: Instant
) -> Iterator[tuple[Mark, Interval, str]]:
    """(mark, interval on our clock, who saw it) for each moment that is known by now.

    Active is the first hit of all, Cleared the last revert of all, once all are done.
    """
    if active := _first(injections, [i.first_hit_at for i in injections], now):
        yield Mark.ACTIVE, *active
    if health.symptom is not None:
        yield Mark.FIRST_SYMPTOM, health.symptom, health.symptom_source
    if health.detected is not None:
        yield Mark.DETECTED, health.detected, health.detected_source
    done = all(i.state in DONE for i in injections)
    if done and (cleared := _last(injections, [i.cleared_at for i in injections], now)):
        yield Mark.CLEARED, *cleared


def in_force_since(injections: Sequence[InjectionStatus], now: Instant) -> Instant | None:
    """Not later than this was the first fault in force; symptoms count from here. On our clock."""
    first = _first(injections, [i.in_force_at for i in injections], now)
    return first[0].earliest if first else None


def kept_to(
    expect: Expect, injections: Sequence[InjectionStatus], marks: Sequence[MarkStatus], now: Instant
) -> Interval | None:
    """Until when the declared error state is to hold; None: that time has not come."""
    if expect is Expect.MANUAL:
        return next((m.interval() for m in marks if m.mark is Mark.REPAIR_BEGAN), None)
    return first_cleared(injections, now)


def first_cleared(injections: Sequence[InjectionStatus], now: Instant) -> Interval | None:
    """When the first of them was reverted: from here on the fault is not whole any more."""
    first = _first(injections, [i.cleared_at for i in injections], now)
    return first[0] if first else None


def _placed(
    injections: Sequence[InjectionStatus], moments: Sequence[Moment | None], now: Instant
) -> list[tuple[Interval, str]]:
    pairs = ((on_our_clock(i, moment, now), i.name) for i, moment in zip(injections, moments, strict=True))
    return [(interval, name) for interval, name in pairs if interval is not None]


def _first(
    injections: Sequence[InjectionStatus], moments: Sequence[Moment | None], now: Instant
) -> tuple[Interval, str] | None:
    """The earliest of several: not before the least lower bound, not after the least upper bound."""
    if not (placed := _placed(injections, moments, now)):
        return None
    least = earliest(*(interval.earliest for interval, _ in placed))
    most = earliest(*(interval.latest for interval, _ in placed))
    return Interval(least, most), next(name for interval, name in placed if interval.latest == most)


def _last(
    injections: Sequence[InjectionStatus], moments: Sequence[Moment | None], now: Instant
) -> tuple[Interval, str] | None:
    """The latest of several: not before the greatest lower bound, not after the greatest upper bound."""
    if not (placed := _placed(injections, moments, now)):
        return None
    least = latest(*(interval.earliest for interval, _ in placed))
    most = latest(*(interval.latest for interval, _ in placed))
    return Interval(least, most), next(name for interval, name in placed if interval.earliest == least)
