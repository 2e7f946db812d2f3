"""What reports say of workloads: a row each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bounceback.api.workload_status import WorkloadStatus
from bounceback.report.redact import redact
from bounceback.report.subject import Subject

WORKLOADS: Final = ("check", "model", "result", "acknowledged", "failed", "unknown", "found")


def workload_rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    for each in subject.status.workloads:
        counts = (f"{number:,}" for number in (each.acknowledged, each.failed, each.unknown))
        yield each.check, str(each.model), str(each.result or "Inconclusive"), *counts, told(each)


def told(status: WorkloadStatus) -> str:
    """What was found, without what looks like a credential."""
    return redact(status.message)
