"""What became of a check's workload."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from bounceback.accounting.account import Flaw
from bounceback.accounting.ledger import Model
from bounceback.types.fields import StatusModel
from bounceback.types.outcome import Judgement


class WorkState(StrEnum):
    """Where a workload is; the last three are its ends."""

    STARTING = "Starting"  # its pod is not there, or has not begun
    RUNNING = "Running"
    ACCOUNTED = "Accounted"  # what was written was read back, and accounted for
    LOST = "Lost"  # its pod ended, and its ledger with it
    REFUSED = "Refused"  # it never began


WORK_OVER = (WorkState.ACCOUNTED, WorkState.LOST, WorkState.REFUSED)


class FlawStatus(StatusModel):
    """One kind of flaw."""

    flaw: Flaw = Field(description="Lost, Duplicated, Reordered, Stale or Phantom.")
    count: int = Field(description="How often it was found.")
    examples: list[int] = Field(
        default_factory=list, max_length=10, description="Numbers of the first operations that show it."
    )
    allowed: bool = Field(False, description="The check allows it.")


class Pace(StatusModel):
    """How fast the system was, over whole seconds of the load."""

    seconds: int = Field(0, description="So many.")
    per_second: float = Field(0, description="Operations that were acknowledged, reads too, a second.")
    p50_milliseconds: float | None = Field(None, description="Half of all were answered, or given up, within this.")
    p99_milliseconds: float | None = Field(None, description="99 % of them were.")


class PerformanceStatus(StatusModel):
    """How fast the system was, and when it was so again."""

    before: Pace = Field(default_factory=Pace, description="Before anything was planned: the baseline.")
    during: Pace = Field(default_factory=Pace, description="From the first hit until all was cleared.")
    after: Pace = Field(default_factory=Pace, description="From then on; with expect: Manual, since the repair began.")
    back_milliseconds: int | None = Field(None, description="From cleared until it was back, where that was asked.")
    back_plus_minus_milliseconds: int = Field(0, description="Half the width of the interval that this lies in.")
    result: Judgement | None = Field(None, description="Where the check has performance: Passed, Failed, Inconclusive.")
    message: str = Field("", max_length=512, description="For people.")


class WorkloadStatus(StatusModel):
    """The workload of one check, and its account."""

    check: str = Field(description="The check's name.")
    pod: str = Field("", description="The prober pod that carries it out.")
    model: Model = Field(description="What the system promises to be.")
    state: WorkState = Field(
        WorkState.STARTING, description="Starting, Running, Accounted, Lost (its ledger is gone) or Refused."
    )
    message: str = Field("", max_length=1024, description="For people.")
    result: Judgement | None = Field(None, description="Once it is over: Passed, Failed or Inconclusive.")
    acknowledged: int = Field(0, description="Writes that the system said were done.")
    failed: int = Field(0, description="Writes that certainly had no effect.")
    unknown: int = Field(0, description="Writes without an answer that says.")
    took_effect: int = Field(0, description="Of the unknown ones those that were seen, where the model can tell.")
    reads: int = Field(0, description="Reads, or takes, that got an answer.")
    unanswered: int = Field(0, description="Those that got none.")
    read_back: int = Field(0, description="What was looked at in the end: keys, or acknowledged values.")
    not_read_back: int = Field(0, description="Of which nobody knows what became.")
    performance: PerformanceStatus | None = Field(None, description="Once it is over: how fast it was.")
    flaws: list[FlawStatus] = Field(
        default_factory=list, max_length=5, description="Each that the model can show, found or not."
    )
