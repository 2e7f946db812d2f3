"""When a fault that comes in a pattern is there, and how strong: in turns, at random, or growing by steps.

Standard library only: the agent imports this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any


@dataclass(frozen=True, slots=True)
class OnOff:
    """There for `on` seconds, then not there for `off` seconds, again and again."""

    on: float
    off: float
    kind: str = field(default="onOff", init=False)


@dataclass(frozen=True, slots=True)
class Intermittent:
    """There and not there for times drawn evenly between two bounds (seconds); the same seed, the same times."""

    on: tuple[float, float]
    off: tuple[float, float]
    seed: int = 0
    kind: str = field(default="intermittent", init=False)


@dataclass(frozen=True, slots=True)
class Ramp:
    """From one share of its strength to another (above 0, at most 1), in steps of equal length over its duration."""

    start: float
    end: float
    steps: int
    kind: str = field(default="ramp", init=False)


Pattern = OnOff | Intermittent | Ramp


@dataclass(frozen=True, slots=True)
class Step:
    """From `at` on, in seconds since it was in force, the fault has this share of its strength; 0: it is not there."""

    at: float
    share: float


def steps(pattern: Pattern, duration: float) -> Iterator[Step]:
    """In order, the first at 0 with a share above 0, all before `duration` (seconds)."""
    match pattern:
        case Ramp():
            for n in range(pattern.steps):
                part = n / (pattern.steps - 1) if pattern.steps > 1 else 1.0
                yield Step(duration * n / pattern.steps, pattern.start + (pattern.end - pattern.start) * part)
        case OnOff():
            yield from _turns(repeat((pattern.on, pattern.off)), duration)
        case Intermittent():
            yield from _turns(_drawn(pattern), duration)


def _drawn(pattern: Intermittent) -> Iterator[tuple[float, float]]:
    import random  # brings hashlib along, and that OpenSSL: most agents have no use for it

    dice = random.Random(pattern.seed)
    while True:
        yield dice.uniform(*pattern.on), dice.uniform(*pattern.off)


def _turns(lengths: Iterable[tuple[float, float]], duration: float) -> Iterator[Step]:
    at = 0.0
    for on, off in lengths:
        for share, length in ((1.0, on), (0.0, off)):
            if at >= duration:
                return
            yield Step(at, share)
            at += length


def pattern_from(data: Mapping[str, Any] | None) -> Pattern | None:
    """From what `dataclasses.asdict` and JSON made of it. Raises KeyError for anything else."""
    if data is None:
        return None
    match data["kind"]:
        case "onOff":
            return OnOff(data["on"], data["off"])
        case "intermittent":
            return Intermittent(tuple(data["on"]), tuple(data["off"]), data["seed"])
        case "ramp":
            return Ramp(data["start"], data["end"], data["steps"])
        case other:
            raise KeyError(other)
