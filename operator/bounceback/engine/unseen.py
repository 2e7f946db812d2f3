"""Injections that nobody can look at: when they are over all the same, by their agents' own promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import InjectionStatus
from bounceback.engine.evidence import DONE, given_up, on_our_clock
from bounceback.engine.planning import lasts
from bounceback.engine.state import State
from bounceback.types.instants import Instant
from bounceback.types.plan import BY_OPERATOR

UNSEEN_GRACE: Final = 5.0
"""Seconds after its last deadline that an injection is waited for when nobody can look."""


def give_up_unseen(spec: FaultExperimentSpec, state: State, now: Instant) -> State:
    """With those given up that are well over by now."""
    entries = {fault.name: fault for fault in spec.faults}

    def over(injection: InjectionStatus) -> bool:
        begun = on_our_clock(injection, injection.in_force_at, now)
        if begun is None:
            return now.utc > injection.not_after + UNSEEN_GRACE
        ends = begun.latest.utc + lasts(entries[injection.fault], injection.rung)
        return now.utc > min(ends, injection.not_after) + UNSEEN_GRACE

    given = tuple(
        given_up(i, now) if i.state not in DONE and i.rung not in BY_OPERATOR and over(i) else i
        for i in state.injections
    )
    return replace(state, injections=given)
