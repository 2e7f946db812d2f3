"""When operations are due: seconds from the beginning of the load, in order. Pure.

Latency counts from these moments and not from when somebody was free to begin: a system that is slow makes operations
wait, and leaving that out (coordinated omission) would flatter it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count, repeat

from bounceback.api.workload import Load


def due(load: Load, seconds: float) -> Iterator[float]:
    """Of a load that is not closed; ends before `seconds`."""
    if load.open is not None:
        return steady(load.open.per_second, seconds)
    if load.ramp is not None:
        return ramp(load.ramp.from_per_second, load.ramp.to_per_second, seconds)
    if load.burst is not None:
        bursts = waves(load.burst.size, load.burst.every_seconds, seconds)
        if not load.burst.per_second:
            return bursts
        return heapq.merge(bursts, steady(load.burst.per_second, seconds))
    if load.herd is not None:
        return waves(load.herd.clients, load.herd.every_seconds, seconds)
    raise ValueError("a closed load has no schedule: an operation follows the answer to the one before")


def workers(load: Load) -> int:
    """How many operations may be under way at a time."""
    if load.closed is not None:
        return load.closed.clients
    if load.herd is not None:
        return load.herd.clients
    paced = load.open or load.ramp or load.burst
    return paced.connections if paced is not None else 1


def steady(per_second: int, seconds: float) -> Iterator[float]:
    for n in count():
        if (moment := n / per_second) >= seconds:
            return
        yield moment


def ramp(first: int, last: int, seconds: float) -> Iterator[float]:
    """The nth one is due when the rate, summed up over time, is n: first t + (last - first) t² / (2 seconds)."""
    growth = (last - first) / seconds
    for n in count():
        root = first * first + 2 * growth * n
        if root < 0:
            return
        moment = 2 * n / (first + root**0.5)  # the form that is exact for a growth of 0, too
        if moment >= seconds:
            return
        yield moment


def waves(size: int, every: int, seconds: float) -> Iterator[float]:
    for n in count():
        if n * every >= seconds:
            return
        yield from repeat(float(n * every), size)
