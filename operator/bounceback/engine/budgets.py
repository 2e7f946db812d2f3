"""Budgets: whether anybody could measure them, and whether they were kept."""

from __future__ import annotations

from collections.abc import Iterable

from bounceback.api.status import Finding
from bounceback.engine.finished import Run
from bounceback.engine.timeline import judge_budget
from bounceback.types.instants import Span
from bounceback.types.outcome import Judgement, Mark, Verdict


def unmeasured(run: Run) -> Iterable[Finding]:
    """Budgets of a run without probes: nobody saw whether they were kept."""
    if not _began(run) or any(check.spec.probes for check in run.status.checks):
        return
    for check in run.status.checks:
        for name, bound in check.spec.budgets.to_json().items():
            told = f"{check.name} budgets.{name} {bound} s: no check has a probe that could measure it"
            yield _finding(Verdict.INCONCLUSIVE, "BudgetUnmeasured", told)


def budget_exceeded(run: Run) -> Iterable[Finding]:
    """Every budget of every check; one that the interval straddles decides nothing."""
    for check in run.status.checks:
        bounds = check.spec.budgets
        for field_, bound, span in (
            ("detectSeconds", bounds.detect_seconds, _detection(run)),
            ("recoverSeconds", bounds.recover_seconds, run.span(run.cured_at, Mark.RECOVERED)),
            ("outageSeconds", bounds.outage_seconds, run.span(Mark.FIRST_SYMPTOM, Mark.RECOVERED)),
        ):
            if bound is None or span is None:
                continue
            told = f"{check.name} budgets.{field_} {bound} s; measured {span.middle:.2f} s ± {span.error:.2f}"
            match judge_budget(span, bound):
                case Judgement.FAILED:
                    yield _finding(Verdict.FAILED, "BudgetExceeded", told)
                case Judgement.INCONCLUSIVE:
                    yield _finding(Verdict.INCONCLUSIVE, "BudgetUndecided", told)


def _detection(run: Run) -> Span | None:
    return run.span(Mark.ACTIVE, Mark.DETECTED) or run.span(Mark.ACTIVE, Mark.FIRST_SYMPTOM)


def _began(run: Run) -> bool:
    return any(injection.in_force_at for injection in run.injections)


def _finding(verdict: Verdict, reason: str, message: str) -> Finding:
    return Finding(verdict=verdict, reason=reason, message=message[:1024])
