"""What reports say of workloads: a row each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bounceback.api.workload_status import WorkloadStatus
from bounceback.report.redact import redact
from bounceback.report.subject import Subject

PACES: Final = ("check", "when", "seconds", "per second", "p50", "p99")
WORKLOADS: Final = ("check", "model", "result", "acknowledged", "failed", "unknown", "found")


def workload_rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    for each in subject.status.workloads:
        counts = (f"{number:,}" for number in (each.acknowledged, each.failed, each.unknown))
        yield each.check, str(each.model), str(each.result or "Inconclusive"), *counts, told(each)


def pace_rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    """How fast the system was before, during and after the fault."""
    for each in subject.status.workloads:
        if (found := each.performance) is None:
            continue
        for when, pace in (("before", found.before), ("during", found.during), ("after", found.after)):
            times = (_milliseconds(pace.p50_milliseconds), _milliseconds(pace.p99_milliseconds))
            yield each.check, when, str(pace.seconds), f"{pace.per_second:,.1f}", *times


def pace_words(subject: Subject) -> Iterator[str]:
    """What was asked of that, and what came of it."""
    for each in subject.status.workloads:
        if (found := each.performance) is not None:
            yield f"{each.check}: {found.result or 'NotChecked'}: {redact(found.message)}"


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f} ms"


def told(status: WorkloadStatus) -> str:
    """What was found, without what looks like a credential."""
    return redact(status.message)
