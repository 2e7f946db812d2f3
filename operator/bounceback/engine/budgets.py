"""Budgets as a whole: whether anybody could measure them, and whether all of them were kept."""

from __future__ import annotations

from collections.abc import Iterable

from bounceback.api.status import Finding
from bounceback.engine.finished import Run
from bounceback.types.outcome import Aspect, Verdict


def unmeasured(run: Run) -> Iterable[Finding]:
    """Budgets of a run without probes: nobody saw whether they were kept."""
    if not _began(run) or any(check.spec.probes for check in run.status.checks):
        return
    for check in run.status.checks:
        for name, bound in check.spec.budgets.to_json().items():
            told = f"{check.name} budgets.{name} {bound} s: no check has a probe that could measure it"
            yield Finding(verdict=Verdict.INCONCLUSIVE, reason="BudgetUnmeasured", message=told[:1024])


def performance(run: Run, found: Iterable[Finding]) -> Aspect:
    """Whether it came back within its budgets; `found` is what speaks against that."""
    asked = any(check.spec.budgets.to_json() for check in run.status.checks)
    if not asked or not _began(run):
        return Aspect.NOT_CHECKED
    verdicts = {finding.verdict for finding in found}
    if Verdict.FAILED in verdicts:
        return Aspect.FAILED
    return Aspect.INCONCLUSIVE if verdicts else Aspect.PASSED


def _began(run: Run) -> bool:
    return any(injection.in_force_at for injection in run.injections)
