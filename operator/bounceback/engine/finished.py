"""A run that is over, with all that is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import FaultExperimentStatus, Figures, InjectionStatus
from bounceback.api.status import InvariantResult as Invariant
from bounceback.engine.health import Health
from bounceback.types.instants import Interval, Span
from bounceback.types.outcome import Mark


@dataclass(frozen=True)
class Run:
    """All that is known of a run when it is over."""

    spec: FaultExperimentSpec
    status: FaultExperimentStatus
    injections: tuple[InjectionStatus, ...]
    health: Health
    invariants: tuple[Invariant, ...] = ()
    figures: Figures = field(default_factory=Figures)

    def mark(self, mark: Mark) -> Interval | None:
        return next((m.interval() for m in self.status.marks if m.mark is mark), None)

    def span(self, start: Mark, end: Mark) -> Span | None:
        first, last = self.mark(start), self.mark(end)
        return Span.between(first, last) if first and last else None
