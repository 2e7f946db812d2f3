"""A run that is over, with all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import FaultExperimentStatus, Figures, InjectionStatus
from bounceback.api.status import InvariantResult as Invariant
from bounceback.engine.health import Health
from bounceback.types.instants import Interval, Span
from bounceback.types.outcome import Expect, Mark, RepairState


@dataclass(frozen=True)
class Run:
    """All that is known of a run when it is over."""

    spec: FaultExperimentSpec
    status: FaultExperimentStatus
    injections: tuple[InjectionStatus, ...]
    health: Health
    invariants: tuple[Invariant, ...] = ()
    figures: Figures = field(default_factory=Figures)

    @property
    def cured(self) -> bool:
        """Nothing keeps the system from coming back: the faults are cleared, and with expect: Manual it is repaired."""
        repair = self.status.repair
        return self.spec.expect is not Expect.MANUAL or (repair is not None and repair.state is RepairState.DONE)

    @property
    def cure(self) -> str:
        return "the repair" if self.spec.expect is Expect.MANUAL else "the fault was cleared"

    @property
    def cured_at(self) -> Mark:
        """What the recovery is measured from."""
        return Mark.REPAIR_BEGAN if self.mark(Mark.REPAIR_BEGAN) else Mark.CLEARED

    def mark(self, mark: Mark) -> Interval | None:
        return next((m.interval() for m in self.status.marks if m.mark is mark), None)

    def span(self, start: Mark, end: Mark) -> Span | None:
        first, last = self.mark(start), self.mark(end)
        return Span.between(first, last) if first and last else None
