"""What agents tell, folded into the injections that it is about. Reading a log twice changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bounceback.api.status import InjectionCounts, InjectionStatus, Moment
from bounceback.engine.client_behavior import essence
from bounceback.engine.model import AgentEnd, AgentFate
from bounceback.types.instants import NANOS, WALL_CLOCKS_AGREE, Instant, Interval
from bounceback.types.outcome import NOT_STARTED, Cleanup, InjectionState
from bounceback.types.told import Line, Told

HANDSHAKE_ENDS: Final = {
    "accepted": "took a certificate that should have been refused",
    "refused": "refused the certificate by an alert",
    "closed": "left in the middle of the handshake without a word, which is a refusal too",
    "withdrew": "finished the handshake and left without sending anything",
    "slow": "did not come to an end with the handshake",
    "failed": "had no version or cipher in common with us, which says nothing about certificates",
}
"""What became of handshakes with a bad certificate (proxy/handshake.py, End), in words."""
DONE: Final = (InjectionState.CLEARED, InjectionState.FAILED)
UNOBSERVED: Final = "Unobserved"
"""Why an injection is over whose agent nobody could ask, until what its agent has told is read after all."""


def fold(injection: InjectionStatus, line: Line, received: Instant) -> InjectionStatus:
    """The injection after that line; lines of other injections teach only about the clock they share."""
    injection = _with_clock(injection, line.at, received)
    if line.injection != injection.name or injection.reason == NOT_STARTED:
        return injection
    moment = Moment.of(line.at)
    match line.told:
        case Told.REFUSED | Told.FAILED:
            reason = str(line.detail.get("reason") or line.told.capitalize())
            if reason == "TargetGone" and injection.replaces:  # like the one whose place it took: nobody's mistake
                return _to(injection, InjectionState.CLEARED, reason, cleared_at=moment, cleanup=Cleanup.CLEAN)
            clean = Cleanup.CLEAN if line.told is Told.REFUSED else injection.cleanup
            if reason == NOT_STARTED:
                return _to(injection, InjectionState.CLEARED, reason, cleanup=clean)
            if reason == "Terminated" and injection.waiting:  # with its pod: fold_end says so
                return _to(injection, InjectionState.CLEARED, reason, cleared_at=moment, cleanup=clean)
            return _to(injection, InjectionState.FAILED, reason, str(line.detail.get("message", "")), cleanup=clean)
        case Told.IN_FORCE:
            active = injection.state if injection.state in DONE else InjectionState.ACTIVE
            return _to(injection, active, injection.reason, in_force_at=injection.in_force_at or moment)
        case Told.HITS:
            first = injection.first_hit_at or (moment if line.hits else None)
            return injection.model_copy(update={"hits": max(injection.hits, line.hits), "first_hit_at": first})
        case Told.CLEARED:
            if injection.state is InjectionState.FAILED:
                return injection.model_copy(update={"cleared_at": moment})
            why, more = str(line.detail.get("why", "")), _at_the_end(line.detail)
            seen = line.detail.get("behavior")
            behavior = essence(seen) if isinstance(seen, dict) else injection.behavior
            return _to(injection, InjectionState.CLEARED, why, more, cleared_at=moment, behavior=behavior)
        case Told.STEP:
            return injection.model_copy(update={"percent": round(line.detail.get("percent", 100))})
        case Told.VERIFIED:
            left = [str(item)[:200] for item in line.detail.get("leftovers", ())][:10]
            found = Cleanup.LEFTOVER if left else Cleanup.CLEAN
            return injection.model_copy(update={"cleanup": found, "leftovers": left})
        case _:
            return injection


def _at_the_end(detail: Mapping[str, Any]) -> str:
    """What a relay says when it goes: the worst first, because there is room for so much only."""
    ends = {"accepted": detail.get("accepted", 0), **(detail.get("ends") or {})}
    alerts = ", ".join(f"{name} {count}" for name, count in sorted((detail.get("alerts") or {}).items()))
    told = [f"{count} {_clients(count)} {words}" for end, words in HANDSHAKE_ENDS.items() if (count := ends.get(end))]
    if alerts:
        told.append(f"alerts: {alerts}")
    told += [str(each) for each in detail.get("seen") or ()]
    if cut := detail.get("cutOff"):
        told.append(f"{cut} {'connection was' if cut == 1 else 'connections were'} left at the end and reset")
    return "; ".join(told)


def _clients(count: int) -> str:
    return "client" if count == 1 else "clients"


def fold_end(injection: InjectionStatus, end: AgentEnd, now: Instant) -> InjectionStatus:
    """The injection after its agent ended; little is new of one that was done already."""
    unobserved = injection.reason == UNOBSERVED
    if injection.state in DONE and end.fate is AgentFate.GONE:
        clean = Cleanup.CLEAN if injection.cleanup is Cleanup.UNVERIFIED else injection.cleanup
        why = unobserved or injection.reason == "Terminated"  # that is why it was told to end
        reason = "TargetGone" if why else injection.reason
        return injection.model_copy(update={"cleanup": clean, "reason": reason})
    if unobserved and end.fate in (AgentFate.KILLED, AgentFate.FINISHED):
        return injection.model_copy(update={"reason": "AgentLost", "message": end.message[:512]})
    if injection.state in DONE:
        return injection
    match end.fate:
        case AgentFate.GONE:  # the pod's network went with it: nothing can be left there
            at = Moment.of(now)
            gone = _to(injection, InjectionState.CLEARED, "TargetGone", end.message, cleared_at=at)
            return gone.model_copy(update={"cleanup": Cleanup.CLEAN, **_some_offset(injection)})
        case AgentFate.NEVER_STARTED:
            return _to(injection, InjectionState.FAILED, "AgentNeverStarted", end.message, cleanup=Cleanup.CLEAN)
        case AgentFate.KILLED | AgentFate.FINISHED:
            if injection.state is InjectionState.PLANNED:
                return _to(injection, InjectionState.FAILED, "AgentLost", end.message)
            at = Moment.of(now)
            lost = _to(injection, InjectionState.CLEARED, "AgentLost", end.message, cleared_at=at)
            return lost.model_copy(update=_some_offset(injection))
        case AgentFate.UNREACHABLE:
            return injection


def given_up(injection: InjectionStatus, now: Instant) -> InjectionStatus:
    """Its time is over and nobody can look: the agent's own deadline has ended it, but nobody saw that."""
    if injection.state is InjectionState.PLANNED:
        return _to(injection, InjectionState.FAILED, "NeverHeardOf", "its agent told nothing before its time was over")
    return _to(
        injection,
        InjectionState.CLEARED,
        UNOBSERVED,
        "its own deadline has passed, but the kubelet could not be asked",
        cleared_at=Moment.of(now),
        **_some_offset(injection),
    )


def is_unheard(injection: InjectionStatus) -> bool:
    """It is over, but what its agent told of it, or of what it left, is not known yet."""
    return injection.cleanup is Cleanup.UNVERIFIED or injection.reason == UNOBSERVED


def on_our_clock(injection: InjectionStatus, moment: Moment | None, ours: Instant) -> Interval | None:
    """The interval on this operator's clock that a moment of the target's node lies in.

    `ours` is any reading of our clock. The boot-time clocks are held against each other, which no step of either wall
    clock moves; by UTC only if the offset was measured by an operator on another machine.
    """
    if moment is None:
        return None
    there = moment.instant()
    if there.boot == ours.boot:
        return Interval.at(there)
    if injection.clock_offset_milliseconds is None:
        return None
    error = injection.clock_error_milliseconds / 1000
    if injection.clock_against == ours.boot:
        ahead = injection.clock_offset_milliseconds + injection.clock_boot_milliseconds
        middle = ours.plus((there.nanos - ours.nanos) / NANOS - ahead / 1000)
    else:
        middle = ours.plus(there.utc - injection.clock_offset_milliseconds / 1000 - ours.utc)
        error += WALL_CLOCKS_AGREE
    return Interval(middle.plus(-error), middle.plus(error))


def _with_clock(injection: InjectionStatus, there: Instant, received: Instant) -> InjectionStatus:
    """Narrow the offset of the node's clock by causality.

    A line was written before it was received, and after the operator planned it. So, with all in UTC,
    there - received <= offset <= there - planned, for each line. From the first line on it is the boot-time clocks that
    are compared: a wall clock may be stepped between two lines. What an operator on another machine planned or measured
    is as unsure as wall clocks are.
    """
    if there.boot == received.boot:
        return injection.model_copy(update={"clock_offset_milliseconds": 0, "clock_error_milliseconds": 0})
    elapsed = (there.nanos - received.nanos) / NANOS
    known = injection.clock_offset_milliseconds is not None
    here = injection.clock_against in ("", received.boot)
    if known and here:
        return with_offset(injection, elapsed - injection.clock_boot_milliseconds / 1000, math.inf)
    least, slack = there.utc - received.utc, 0.0 if here else WALL_CLOCKS_AGREE
    if known:
        loose = injection.clock_error_milliseconds + round(slack * 1000)
        injection = injection.model_copy(update={"clock_error_milliseconds": loose})
    most = (there.utc - injection.planned_utc if injection.planned_utc else least + 1.0) + slack
    tied = {"clock_against": received.boot, "clock_boot_milliseconds": round((elapsed - least) * 1000)}
    return with_offset(injection, least, most).model_copy(update=tied)


def with_offset(injection: InjectionStatus, least: float, most: float) -> InjectionStatus:
    """Intersect what is known of the clock's offset with least..most (seconds; only `most` may be infinite)."""
    if injection.clock_offset_milliseconds is not None:
        middle, error = injection.clock_offset_milliseconds / 1000, injection.clock_error_milliseconds / 1000
        least, most = max(least, middle - error), min(most, middle + error)
    if most < least:  # a clock was stepped in between: neither bound can be trusted more than the other
        least, most = most, least
    offset = round((least + most) * 500)
    error_ms = -(-(most - least) * 500 // 1) + 1
    return injection.model_copy(update={"clock_offset_milliseconds": offset, "clock_error_milliseconds": int(error_ms)})


def _some_offset(injection: InjectionStatus) -> dict[str, int]:
    """For one that ends by our clock: what was measured of its node's stays, for the moments that were told by that."""
    return {"clock_offset_milliseconds": injection.clock_offset_milliseconds or 0}


def counts(injections: Iterable[InjectionStatus]) -> InjectionCounts:
    """How many are in each state."""
    listed = list(injections)
    by_state = {state: sum(i.state is state for i in listed) for state in InjectionState}
    return InjectionCounts(
        total=len(listed),
        planned=by_state[InjectionState.PLANNED],
        active=by_state[InjectionState.ACTIVE],
        cleared=by_state[InjectionState.CLEARED],
        failed=by_state[InjectionState.FAILED],
        hits=sum(i.hits for i in listed),
    )


def seconds_in_force(injection: InjectionStatus) -> float:
    """By the clock of its own node."""
    if injection.in_force_at is None or injection.cleared_at is None:
        return 0.0
    return injection.cleared_at.instant().since(injection.in_force_at.instant())


def _to(
    injection: InjectionStatus, state: InjectionState, reason: str, message: str = "", **more: object
) -> InjectionStatus:
    update = {"state": state, "reason": reason[:64], "message": message[:512], **more}
    return injection.model_copy(update=update)
