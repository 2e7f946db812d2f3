"""What reports say of workloads: a row each, and the same for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import Field

from bounceback.api.workload_status import PerformanceStatus, WorkloadStatus
from bounceback.report.redact import redact
from bounceback.report.subject import Subject
from bounceback.types.fields import Model
from bounceback.types.outcome import Judgement

PACES: Final = ("check", "when", "seconds", "per second", "p50", "p99")
WORKLOADS: Final = ("check", "model", "result", "acknowledged", "failed", "unknown", "found")


class RecordWorkload(Model):
    """The workload of one check, and its account."""

    check: str = Field(description="The check.")
    model: str = Field(description="What the system promises to be.")
    result: Judgement = Field(description="Its outcome.")
    message: str = Field(description="For people.")
    acknowledged: int = Field(description="Writes that the system said were done.")
    failed: int = Field(description="Writes that certainly had no effect.")
    unknown: int = Field(description="Writes without an answer that says.")
    flaws: dict[str, int] = Field(description="How often each flaw was found that its model can show.")
    allowed: list[str] = Field(default_factory=list, description="Those that its check allows.")
    performance: PerformanceStatus | None = Field(
        None, description="How fast the system was, and when it was so again."
    )


def record_workloads(subject: Subject) -> Iterator[RecordWorkload]:
    for each in subject.status.workloads:
        yield RecordWorkload(
            check=each.check,
            model=str(each.model),
            result=each.result or Judgement.INCONCLUSIVE,
            message=told(each),
            acknowledged=each.acknowledged,
            failed=each.failed,
            unknown=each.unknown,
            flaws={str(f.flaw): f.count for f in each.flaws},
            allowed=[str(f.flaw) for f in each.flaws if f.allowed],
            performance=each.performance,
        )


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
