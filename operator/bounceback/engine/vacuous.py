"""What would pass because there was nothing to see, or nobody who looked."""

from __future__ import annotations

from collections.abc import Iterable

from bounceback.api.status import Finding
from bounceback.engine.finished import Run
from bounceback.types.outcome import Verdict


def nothing_injected(run: Run) -> Iterable[Finding]:
    """A run without any injection that nobody ended."""
    if not run.injections and run.status.ending is None:
        told = "no injection was ever planned: no target was there"
        yield Finding(verdict=Verdict.INCONCLUSIVE, reason="NothingInjected", message=told)


def unmeasured(run: Run) -> Iterable[Finding]:
    """Budgets of a run without probes: nobody saw whether they were kept."""
    began = any(injection.in_force_at for injection in run.injections)
    if not began or any(check.spec.probes for check in run.status.checks):
        return
    for check in run.status.checks:
        for name, bound in check.spec.budgets.to_json().items():
            told = f"{check.name} budgets.{name} {bound} s: no check has a probe that could measure it"
            yield Finding(verdict=Verdict.INCONCLUSIVE, reason="BudgetUnmeasured", message=told[:1024])
