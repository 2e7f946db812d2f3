"""Whether a system reacted to its trouble as its check declares: it tried again, failed over, opened a circuit."""

from __future__ import annotations

from collections.abc import Iterable

from bounceback.api.status import Finding
from bounceback.engine.finished import Run
from bounceback.types.outcome import Verdict


def is_declared(run: Run) -> bool:
    return any(check.spec.reacting for check in run.status.checks)


def not_as_declared(run: Run) -> Iterable[Finding]:
    """Each signal of it must have come to hold since the fault was in force; what nobody could have seen is open."""
    if not any(injection.in_force_at for injection in run.injections):
        return
    for told in run.health.strategy_missed:
        yield Finding(verdict=Verdict.FAILED, reason="StrategyNotSeen", message=f"it never came to {told}"[:1024])
    for told in run.health.strategy_unseen:
        message = f"nobody looked all the time, and so nobody knows whether it came to {told}"
        yield Finding(verdict=Verdict.INCONCLUSIVE, reason="StrategyUnknown", message=message[:1024])
