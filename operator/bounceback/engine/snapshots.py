"""What is observed at clear, and what the last reading of all waits for.

The snapshot at clear tells what a fault did from what the recovery did. It is taken once, as soon as it is known that
all is cleared, beside everything else that goes on then: nothing waits for it but the last reading. A source that does
not answer then is a problem of its own, and of the invariants that name it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bounceback.api.status import CheckCopy, FaultExperimentStatus
from bounceback.engine.cel import CelError, taken_of
from bounceback.engine.evidence import DONE
from bounceback.engine.noting import mark_of, noted, updated
from bounceback.engine.samples import latest
from bounceback.engine.state import Decision, Duty, Seen, Snapshot, State
from bounceback.types.instants import Instant, Interval, Span
from bounceback.types.outcome import Mark, Phase

CLEAR: Final = "clear"
UNCHANGED: Final = "unchanged"
LATE: Final = 5.0
"""Seconds after it was known that all is cleared: a snapshot that begins later is none of that moment any more."""
ANSWER_GRACE: Final = 5.0
"""Seconds that a snapshot may take beside what its sources may."""
OBSERVE_GRACE: Final = 30.0
"""Seconds that reading the observations in the end may take, tries included; more where their timeouts are longer."""
MOST_BYTES: Final = 256 * 1024
"""Of JSON, of all that is observed at clear: it stands in the status beside what is observed before and after."""
AT_CLEAR: Final = (Phase.CLEARING, Phase.REPAIRING, Phase.RECOVERING, Phase.VERIFYING)


def with_snapshot(state: State, seen: Seen, now: Instant) -> State:
    """Written down once, with how long after the end of the last fault it was taken, and what could not be read."""
    if not _is_wanted(state, seen):
        return state
    found, cleared = seen.clear, _cleared(state, now)
    if found is None:
        asked = _longest_of(state.status.checks)
        if state.status.phase is not Phase.VERIFYING or _in_phase(state, now) < asked + ANSWER_GRACE:
            return state
        found = Snapshot(Interval(cleared.latest, now), {}, _all_of(state.status.checks, "it was not read in time"))
    after = Span.between(cleared, found.read)
    if found.read.earliest.since(_known(state, cleared)) > LATE:
        told = f"it was read {after.least:.0f} s after all was cleared, which was known late only: not at clear"
        found = Snapshot(found.read, {}, _all_of(state.status.checks, told))
    found = _bounded(state.status.checks, found)
    observed = {
        **state.status.observed,
        CLEAR: found.values,
        "clearProblems": found.problems,
        "clearSeconds": [round(after.least, 3), round(after.most, 3)],
    }
    return updated(noted(state, "ObservedAtClear", in_words(observed), now), observed=observed)


def with_snapshot_wanted(decision: Decision, seen: Seen) -> Decision:
    """With the duty to take it, where it is time and that was not done."""
    if not _is_wanted(decision.state, seen) or seen.clear is not None:
        return decision
    return Decision(decision.state, decision.duties | {Duty.OBSERVE_CLEAR}, decision.again, decision.plan)


def _is_wanted(state: State, seen: Seen) -> bool:
    """All is cleared, there is something to observe, and nothing was written down yet."""
    status = state.status
    if status.phase not in AT_CLEAR or CLEAR in status.observed or seen.deleted or not observes(status):
        return False
    if status.is_reference:
        return status.phase in (Phase.RECOVERING, Phase.VERIFYING)
    return mark_of(state, Mark.CLEARED) is not None and all(each.state in DONE for each in state.injections)


def _cleared(state: State, now: Instant) -> Interval:
    """In the reference run the end of the time without faults."""
    since = state.status.phase_since
    return mark_of(state, Mark.CLEARED) or Interval.at(since.instant() if since else now)


def _known(state: State, cleared: Interval) -> Instant:
    """When it was known that nothing is in force and nothing more will come: another deletion might have."""
    status = state.status
    told = (line.elapsed_milliseconds / 1000 for line in status.timeline if line.event == Phase.CLEARING)
    began = next(told, None)
    if began is None or status.started_at is None:
        return cleared.latest
    return latest(cleared.latest, status.started_at.instant().plus(began))


def observes(status: FaultExperimentStatus) -> bool:
    return any(check.spec.observations for check in status.checks)


def _longest_of(checks: Sequence[CheckCopy]) -> float:
    """Seconds until the slowest source must have answered."""
    timeouts = (each.timeout_milliseconds / 1000 for check in checks for each in check.spec.observations)
    return max(timeouts, default=0.0)


def _all_of(checks: Sequence[CheckCopy], why: str) -> dict[str, dict[str, str]]:
    return {check.name: {each.name: why for each in check.spec.observations} for check in checks}


def _bounded(checks: Sequence[CheckCopy], found: Snapshot) -> Snapshot:
    """What there is room for, first of all what invariants name."""
    named = [(check.name, name) for check in checks for name in _named(check)]
    others = [(check, name) for check, values in found.values.items() for name in values]
    values: dict[str, dict[str, Any]] = {check: {} for check in found.values}
    problems = {check: dict(each) for check, each in found.problems.items()}
    left = MOST_BYTES
    for check, name in dict.fromkeys((*named, *others)):
        if name not in found.values.get(check, {}):
            continue
        size = len(json.dumps(found.values[check][name]))
        if size <= left:
            left -= size
            values[check][name] = found.values[check][name]
        else:
            told = f"there was no room for {size} bytes more: all that is observed at clear may be {MOST_BYTES}"
            problems.setdefault(check, {})[name] = told
    return Snapshot(found.read, values, problems)


def _named(check: CheckCopy) -> Iterator[str]:
    for invariant in check.spec.invariants:
        try:
            taken = taken_of(invariant.expression, CLEAR)
        except CelError:
            continue
        yield from (each.name for each in check.spec.observations if taken is None or each.name in taken)


def in_words(observed: Mapping[str, Any]) -> str:
    """3 of 4 observations read 0.1 to 0.3 s after all was cleared; not shop/orders: connection refused."""
    read = sum(len(each) for each in observed[CLEAR].values())
    problems = [
        f"{check}/{name}: {why}" for check, each in observed["clearProblems"].items() for name, why in each.items()
    ]
    least, most = observed["clearSeconds"]
    told = f"{read} of {read + len(problems)} observations read {least:.1f} to {most:.1f} s after all was cleared"
    return f"{told}; not {'; '.join(problems)}" if problems else told


# The last reading


@dataclass(frozen=True)
class Waits:
    """What is waited for before the run is judged; `observed` is what is written down then."""

    on: Decision | None = None
    observed: dict[str, Any] = field(default_factory=dict)
    longest: float = 0.0  # seconds that it may have taken


def last_reading(state: State, seen: Seen, now: Instant, account: float) -> Waits:
    """After the snapshot at clear, and after `settleSeconds`; `account` seconds may have gone by for something else."""
    status, waited = state.status, _in_phase(state, now)
    observed = dict(status.observed)
    needed = observes(status) and not seen.deleted
    settle = 0 if status.ending is not None else _settle_seconds(status.checks)
    longest = settle + _reading_seconds(status.checks) if needed else 0.0
    if needed and seen.after is None:
        if _is_wanted(state, seen):  # it is taken, and the reading after it comes after it
            return Waits(Decision(state, frozenset({Duty.LOOK}), again=0.5))
        if waited < settle:
            return Waits(Decision(state, frozenset({Duty.LOOK}), again=min(1.0, settle - waited)))
        if waited < longest + account:
            return Waits(Decision(state, frozenset({Duty.LOOK, Duty.OBSERVE_AFTER})))
    observed["after"] = seen.after if needed else {}
    if seen.after_problems:
        observed["afterProblems"] = seen.after_problems
    if seen.unchanged:
        observed[UNCHANGED] = [each.to_json() for each in seen.unchanged]
    return Waits(observed=observed, longest=longest)


def _reading_seconds(checks: Sequence[CheckCopy]) -> float:
    """At clear and in the end, tries included: a source that never answers may take its time twice."""
    return max(OBSERVE_GRACE, 2 * (_longest_of(checks) + ANSWER_GRACE))


def _settle_seconds(checks: Sequence[CheckCopy]) -> int:
    return max((check.spec.settle_seconds for check in checks if check.spec.observations), default=0)


def _in_phase(state: State, now: Instant) -> float:
    return now.since(state.status.phase_since.instant()) if state.status.phase_since else 0.0
