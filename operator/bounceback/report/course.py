"""When each fault starts, what became of those that wait, and where a system collapsed as one grew."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.engine.collapse import CONFIDENCE
from bounceback.engine.success_rate import wilson
from bounceback.report.subject import Subject
from bounceback.report.words import seconds

STARTS: Final = ("fault", "start", "why")
LEVELS: Final = ("fault", "strength", "healthy", "success")


def starts(entry: FaultTiming) -> str:
    """When it begins: at once, 5 s after slow is cleared."""
    when, wait = entry.start_when, seconds(entry.start_after_seconds) if entry.start_after_seconds else ""
    if when is None:
        return f"after {wait}" if wait else "at once"
    limit = f"within {seconds(when.within_seconds)}"
    return f"{wait} after {when.words} ({limit})" if wait else f"when {when.words} ({limit})"


def course(spec: FaultExperimentSpec) -> Iterator[str]:
    """A line for each fault, where one of them waits for something."""
    if any(entry.start_when for entry in spec.faults):
        for entry in spec.faults:
            yield f"{entry.name} starts {starts(entry)}, lasts {seconds(entry.duration_seconds)}"


def start_rows(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """As STARTS says."""
    return ((start.fault, str(start.state), start.message) for start in subject.status.starts)


def level_rows(subject: Subject) -> Iterator[tuple[str, str, str, str]]:
    """As LEVELS says."""
    for found in subject.status.collapses:
        for level in found.levels:
            low, high = wilson(level.healthy, level.samples, CONFIDENCE)
            share = f"{floor(100 * low)} to {ceil(100 * high)} %"
            yield found.fault, f"{level.percent} %", f"{level.healthy:,} of {level.samples:,} samples", share


def collapses(subject: Subject) -> Iterator[str]:
    """grow: collapsed above 40 % of its strength, and at 60 % at the latest: ..."""
    return (f"{found.fault}: {found.message}" for found in subject.status.collapses)
