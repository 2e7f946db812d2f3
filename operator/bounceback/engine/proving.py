"""Whether an injection was in force for as long as it was to be, and why it may have hit nothing."""

from __future__ import annotations

from collections.abc import Sequence

from bounceback.api.status import InjectionStatus
from bounceback.engine.evidence import seconds_in_force
from bounceback.engine.finished import Run
from bounceback.engine.planning import rest_of
from bounceback.faults.connection_refusal import Existing
from bounceback.faults.name_fault import NameFault
from bounceback.types.outcome import HealedBy
from bounceback.types.plan import Rung
from bounceback.types.told import AT_ONCE


def why_idle(run: Run, idle: Sequence[InjectionStatus]) -> str:
    """What to look at where injections hit too little."""
    entries = {entry.name: entry for entry in run.spec.faults}
    relayed = [entries[each.fault] for each in idle if each.rung is Rung.RELAY]
    if any(e.relay.existing_connections is Existing.KEEP and not isinstance(e.fault, NameFault) for e in relayed):
        return (
            "does anyone connect to these peers anew? A relay leaves connections alone that were there before; "
            "relay.existingConnections: Reset ends them"
        )
    told = (f"{i.on}: {i.message}" if i.message else entries[i.fault].fault.why_idle() for i in idle)
    return "; ".join(dict.fromkeys(told))[:400]


def lasted(run: Run, injection: InjectionStatus) -> bool:
    if injection.object is None and injection.rung is Rung.API:  # a request has no length
        return True
    if injection.healed is not None and injection.healed.by is HealedBy.SYSTEM:  # it lasted as long as it was left to
        return True
    if injection.reason == AT_ONCE:  # nor has a signal
        return True
    entry = next(f for f in run.spec.faults if f.name == injection.fault)
    if entry.follow_replacements and injection.reason == "TargetGone":  # what took its place has the rest of the time
        return True
    asked = rest_of(entry, injection) if injection.replaces else entry.duration_seconds
    return seconds_in_force(injection) * 100 >= asked * run.spec.proof.duration_percent
