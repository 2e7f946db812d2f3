"""When an order is due and when it is over: decisions from values, `now` is an argument.

A plan's times are UTC, because its operator is another machine. They are turned into this machine's boot-time clock
once, at the start: whatever steps the wall clock afterwards neither prolongs nor shortens a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from bounceback.types.instants import Instant
from bounceback.types.plan import Order

OVER: Final = "Duration"
"""Why an order ends that had all its time."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the boot-time clock."""

    start_at: float
    start_before: float
    not_after: float
    duration: float

    @classmethod
    def of(cls, order: Order, now: Instant) -> Times:
        """`now` is one reading of both clocks."""
        boot = now.nanos / 1e9 - now.utc
        return cls(order.start_at + boot, order.start_before + boot, order.not_after + boot, order.duration)


def begins(order: Order, given: Mapping[str, Any]) -> Order:
    """The order with times of its own (UTC seconds), none of which is later than its plan has it.

    Raises KeyError, TypeError or ValueError for anything but numbers.
    """
    return replace(
        order,
        start_at=min(order.start_at, float(given["startAt"])),
        start_before=min(order.start_before, float(given["startBefore"])),
        not_after=min(order.not_after, float(given["notAfter"])),
        waits=False,
    )


class Due(Enum):
    WAIT = "wait"
    APPLY = "apply"
    TOO_LATE = "too late"


def due(times: Times, now: float) -> Due:
    if now > times.start_before or now >= times.not_after:
        return Due.TOO_LATE
    return Due.APPLY if now >= times.start_at else Due.WAIT


def ends_at(times: Times, since: float) -> float:
    """When an order that is in force since `since` must be over."""
    return min(since + times.duration, times.not_after)


def over(times: Times, since: float, now: float) -> str | None:
    """Why the order ends now, or None."""
    if now >= times.not_after:
        return "NotAfter"
    return OVER if now >= since + times.duration else None
