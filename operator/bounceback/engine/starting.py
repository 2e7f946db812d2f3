"""Faults that wait for something: what has come, what is awaited yet, and what never will come.

An injection of such a fault is planned with all others, with the latest times that there can be, so that its target is
held, its agent is there and its undo is written down. When what it waits for has come, that is written down, and its
own times follow from the moment at which it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.start import ProbeFailing, SignalDetected, StartWhen
from bounceback.api.status import InjectionStatus, Moment, StartStatus
from bounceback.engine.evidence import DONE
from bounceback.engine.health import Health
from bounceback.engine.noting import mark_of, noted, updated
from bounceback.engine.planning import limits, repeats_until
from bounceback.engine.state import Seen, State
from bounceback.types.instants import Instant
from bounceback.types.outcome import NOT_STARTED, Cleanup, InjectionState, Mark, StartState
from bounceback.types.rules import Path

Seconds = Mapping[tuple[str, str], float]


@dataclass(frozen=True, slots=True)
class Come:
    """What a fault waited for has come; `words` say what was seen."""

    words: str


@dataclass(frozen=True, slots=True)
class Never:
    """It will not come any more."""

    words: str


def awaited(spec: FaultExperimentSpec) -> list[StartStatus]:
    """As the run's injections are planned."""
    return [StartStatus(fault=f.name, message=f.start_when.words) for f in spec.faults if f.start_when is not None]


def unseen(spec: FaultExperimentSpec, checks: Mapping[str, RecoveryCheckSpec]) -> Iterator[tuple[Path, str]]:
    """Where a fault waits for, or is judged by, what no probe or signal of its check can tell.

    Checks that are not given are left out.
    """
    for index, entry in enumerate(spec.faults):
        if (asked := entry.collapse) is not None and asked.check in checks:
            there = [probe.name for probe in checks[asked.check].probes]
            if not there or (asked.probe is not None and asked.probe not in there):
                yield ("faults", index, "collapse", "probe"), _one_of("probes", asked.check, there)
        look = entry.start_when.looks_at if entry.start_when else None
        if look is None or look.check not in checks:
            continue
        if isinstance(look, ProbeFailing):
            where, section, named = ("failing", "probe"), "probes", look.probe
        else:
            where, section, named = ("detected", "signal"), "detection", look.signal
        check = checks[look.check]
        there = [probe.name for part, _, probe in check.sections() if part == section]
        if section == "detection" and named is None:  # a strategy is waited for by its name only
            there = [signal.name for signal in check.noticing]
        if not there or (named is not None and named not in there):
            yield ("faults", index, "startWhen", *where), _one_of(section, look.check, there)


def _one_of(section: str, check: str, there: Sequence[str]) -> str:
    return f"must be one of the {section} of {check}: {', '.join(there) or '(it has none)'}"


def is_waiting(starts: Sequence[StartStatus]) -> bool:
    return any(start.state is StartState.WAITING for start in starts)


def after(
    spec: FaultExperimentSpec,
    starts: Sequence[StartStatus],
    injections: Sequence[InjectionStatus],
    health: Health,
    elapsed: float,
    now: Instant,
) -> list[StartStatus]:
    """What became of each by now, `elapsed` seconds after the injections were planned. What is settled stays so."""
    entries = {entry.name: entry for entry in spec.faults}
    known = {start.fault: start for start in starts}
    for start in starts:  # in the order of the faults: what one waits for stands before it
        when = entries[start.fault].start_when
        if start.state is not StartState.WAITING or when is None:
            continue
        match _look(spec, when, known, injections, health, now):
            case Never(words):
                known[start.fault] = _never(start, words)
            case _ if elapsed > when.within_seconds:
                told = f"it was not seen within {when.within_seconds} s of the beginning that {when.words}"
                known[start.fault] = _never(start, told)
            case Come(words):
                update = {"state": StartState.REACHED, "reached_at": Moment.of(now), "message": words[:512]}
                known[start.fault] = start.model_copy(update=update)
    return list(known.values())


def with_starts(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> State:
    """With what has come of that which faults wait for, and a line for each."""
    planned = mark_of(state, Mark.PLANNED)
    elapsed = now.since(planned.latest) if planned else 0.0
    starts = after(spec, state.status.starts, state.injections, seen.health, elapsed, now)
    return _settled(spec, state, starts, now)


def without_starts(spec: FaultExperimentSpec, state: State, why: str, now: Instant) -> State:
    """As the run is ended before its time: what waits yet never begins."""
    told = f"the run was ended before: {why}"
    starts = [_never(s, told) if s.state is StartState.WAITING else s for s in state.status.starts]
    return _settled(spec, state, starts, now)


def _settled(spec: FaultExperimentSpec, state: State, starts: list[StartStatus], now: Instant) -> State:
    for start, before in zip(starts, state.status.starts, strict=True):
        if start.state is not before.state:
            event = "StartReached" if start.state is StartState.REACHED else str(start.state)
            state = noted(state, event, f"{start.fault}: {start.message}", now)
    return replace(updated(state, starts=starts), injections=timed(spec, starts, state.injections))


def timed(
    spec: FaultExperimentSpec, starts: Sequence[StartStatus], injections: Sequence[InjectionStatus]
) -> tuple[InjectionStatus, ...]:
    """Injections that wait, with what follows from their faults' starts: their own times, or that they are over."""
    known = {start.fault: start for start in starts}
    entries = {entry.name: entry for entry in spec.faults}
    return tuple(
        _timed(each, entries[each.fault], known[each.fault]) if each.waiting and each.fault in known else each
        for each in injections
    )


def soonest(spec: FaultExperimentSpec, starts: Sequence[StartStatus], health: Health) -> float:
    """Seconds until what is seen now will have lasted long enough, if it lasts; infinity where nothing lasts."""
    entries = {entry.name: entry for entry in spec.faults}
    waits = [entries[s.fault].start_when for s in starts if s.state is StartState.WAITING]
    looks = [when.looks_at for when in waits if when is not None]
    left = [look.for_seconds - lasted for look in looks if look is not None and (lasted := _lasted(look, health)[1])]
    return max(0.0, min(left, default=float("inf")))


def never_together(entries: Mapping[str, FaultTiming], one: FaultTiming, other: FaultTiming) -> bool:
    """Whether one of them begins only when the other is over."""
    return _follows(entries, one, other.name) or _follows(entries, other, one.name)


def _follows(entries: Mapping[str, FaultTiming], entry: FaultTiming, name: str) -> bool:
    """Whether it begins only when the fault of that name is over, by way of others it may be."""
    when = entry.start_when
    if when is None or when.fault is None:
        return False
    return when.cleared == name or (when.fault in entries and _follows(entries, entries[when.fault], name))


def _look(
    spec: FaultExperimentSpec,
    when: StartWhen,
    starts: Mapping[str, StartStatus],
    injections: Sequence[InjectionStatus],
    health: Health,
    now: Instant,
) -> Come | Never | None:
    """None: it has not come yet."""
    if when.fault is None:
        look = when.looks_at
        assert look is not None
        name, lasted = _lasted(look, health)
        return Come(f"{name} {_doing(look)} for {lasted:.1f} s") if name and lasted >= look.for_seconds else None
    if (start := starts.get(when.fault)) is not None and start.state is StartState.NOT_STARTED:
        return Never(f"{when.fault} never started")
    its = [each for each in injections if each.fault == when.fault]
    begun = any(each.in_force_at for each in its)
    entry = next(each for each in spec.faults if each.name == when.fault)
    rounds = repeats_until(spec.model_copy(update={"faults": [entry]}), its)
    over = all(each.state in DONE for each in its) and now.utc >= rounds
    if over and not begun:
        return Never(f"{when.fault} was never in force")
    if when.in_force:
        there = all(each.state is not InjectionState.PLANNED for each in its)
        return Come(f"{when.words} on {_targets(its)}") if there else None
    return Come(f"{when.words} on {_targets(its)}") if over else None


def _targets(injections: Sequence[InjectionStatus]) -> str:
    names = [each.on for each in injections]
    return ", ".join(names) if len(names) <= 3 else f"{len(names)} targets"


def _doing(look: ProbeFailing | SignalDetected) -> str:
    return "failed" if isinstance(look, ProbeFailing) else "has held"


def _lasted(look: ProbeFailing | SignalDetected, health: Health) -> tuple[str, float]:
    """check/probe (or signal) that has lasted longest, and for how many seconds; "" where none does."""
    if isinstance(look, ProbeFailing):
        asked, seconds = look.probe, {key: value for key, value in health.failing_for.items() if value > 0}
    else:
        asked = look.signal
        seconds = {key: value for key, value in health.holding_for.items() if asked or key not in health.reacting}
    fitting = [(value, key) for key, value in seconds.items() if key[0] == look.check and asked in (None, key[1])]
    if not fitting:
        return "", 0.0
    lasted, (check, name) = max(fitting)
    return f"{check}/{name}", lasted


def _never(start: StartStatus, words: str) -> StartStatus:
    return start.model_copy(update={"state": StartState.NOT_STARTED, "message": words[:512]})


def _timed(injection: InjectionStatus, entry: FaultTiming, start: StartStatus) -> InjectionStatus:
    if start.state is StartState.WAITING:
        return injection
    if start.state is StartState.REACHED and start.reached_at is not None:
        at = start.reached_at.utc + entry.start_after_seconds
        return injection.model_copy(update={"waiting": False, **limits(entry, injection.rung, at)})
    if injection.state in DONE:  # its target went meanwhile
        return injection.model_copy(update={"waiting": False})
    over = {
        "waiting": False,
        "state": InjectionState.CLEARED,
        "reason": NOT_STARTED,
        "message": start.message,
        "cleanup": Cleanup.CLEAN,
    }
    return injection.model_copy(update=over)
