"""From the probes' histories to what they say together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.status import CheckView
from bounceback.engine.health import Health
from bounceback.engine.samples import History
from bounceback.engine.timeline import (
    failing_for,
    first_symptom,
    gaps_within,
    healthy_for,
    merged_recovery,
    merged_symptom,
    recovered,
)
from bounceback.types.instants import Instant, Interval


@dataclass(frozen=True)
class Seen:
    """The histories of one check's probes, by name."""

    check: str
    spec: RecoveryCheckSpec
    probes: Mapping[str, History]
    detection: Mapping[str, History]
    error_state: Mapping[str, History]
    categories: Mapping[str, History] = field(default_factory=dict)  # of signals: whether what they said was right


def read(
    seen: Sequence[Seen],
    problems: Sequence[str],
    since: Instant | None,
    kept_to: Interval | None,
    cleared: Interval | None,
    now: Instant,
) -> Health:
    """What is known at `now`.

    Symptoms count from `since`, when the first fault was in force; until `kept_to` the error state is to hold; at
    `cleared` the last fault was reverted (None: not yet).
    """
    every = [(s.check, name, history) for s in seen for name, history in s.probes.items()]
    begun = bool(every) and all(history.samples for _, _, history in every)
    symptom, symptom_source = _first(_symptoms(seen, since))
    detected, detected_source = _first(_detections(seen, since))
    rightly, wrongly = _named(seen, since)
    missed = list(_strategies(seen, since, now))
    return Health(
        watching=begun or not every,
        healthy_for=min((healthy_for(h, now) for _, _, h in every), default=float("inf")),
        unhealthy=tuple(_told(c, n, h) for c, n, h in every if failing_for(h, now) > 0),
        never_healthy=tuple(_told(c, n, h) for c, n, h in every if h.samples and not h.healthy_samples),
        problems=tuple(problems),
        failing_for={(c, n): failing_for(h, now) for c, n, h in every},
        holding_for=_holding(seen, since, now),
        reacting=frozenset((s.check, signal.name) for s in seen for signal in s.spec.reacting),
        counted={(c, n): (h.samples, h.healthy_samples) for c, n, h in every},
        symptom=symptom,
        symptom_source=symptom_source,
        detected=detected,
        detected_source=detected_source,
        named_rightly=rightly,
        named_wrongly=wrongly,
        strategy_missed=tuple(told for told, looked in missed if looked),
        strategy_unseen=tuple(told for told, looked in missed if not looked),
        recovered=_recovered(seen, since, cleared, now),
        stable_seconds=max((float(s.spec.recovered.stable_seconds) for s in seen if s.probes), default=0.0),
        error_state=_error_state(seen, since, kept_to),
        gaps=tuple(gap for _, _, h in every for gap in gaps_within(h, Interval(since, now))) if since else (),
        error_state_gaps=tuple(_error_state_gaps(seen, since, kept_to)),
        views=tuple(_view(s) for s in seen),
    )


def _symptoms(seen: Sequence[Seen], since: Instant | None) -> Iterator[tuple[Interval, str]]:
    for s in seen if since is not None else ():
        thresholds = {probe.name: probe.failure_threshold for probe in s.spec.probes}
        for name, history in s.probes.items():
            if since is not None and (interval := first_symptom(history, since, thresholds[name])):
                yield interval, f"{s.check}/{name}"


def _detections(seen: Sequence[Seen], since: Instant | None) -> Iterator[tuple[Interval, str]]:
    """The first moment that a signal of the system's own held."""
    for s in seen if since is not None else ():
        for signal in s.spec.noticing:
            history = s.detection.get(signal.name)
            if history and since is not None and (interval := first_holding(history, since)):
                yield interval, f"{s.check}/{signal.name}"


def _strategies(seen: Sequence[Seen], since: Instant | None, now: Instant) -> Iterator[tuple[str, bool]]:
    """Those that did not come to hold since then, each with whether anybody would have seen it."""
    for s in seen if since is not None else ():
        for signal in s.spec.reacting:
            history = s.detection.get(signal.name)
            if history is None:
                yield f"{s.check}/{signal.name}", False
            elif since is not None and first_holding(history, since) is None:
                looked = history.samples > 0 and not any(gaps_within(history, Interval(since, now)))
                held = 0 < history.samples == history.healthy_samples
                said = f"{s.check}/{signal.name}: it held before the fault already" if held else ""
                yield said or _told(s.check, signal.name, history), looked


def _holding(seen: Sequence[Seen], since: Instant | None, now: Instant) -> dict[tuple[str, str], float]:
    """For how long each signal has held that came since then; 0 where it holds no more."""
    signals = [(s.check, name, history) for s in seen for name, history in s.detection.items()]
    come = [each for each in signals if since is not None and first_holding(each[2], since)]
    return {(check, name): healthy_for(history, now) for check, name, history in come}


def _first(found: Iterator[tuple[Interval, str]]) -> tuple[Interval | None, str]:
    listed = list(found)
    if not listed:
        return None, ""
    interval = merged_symptom(interval for interval, _ in listed)
    source = next(name for each, name in listed if interval is None or each.latest == interval.latest)
    return interval, source


def _recovered(seen: Sequence[Seen], since: Instant | None, cleared: Interval | None, now: Instant) -> Interval | None:
    """The last of all probes; without probes there is nothing to recover, so it is when the fault was cleared."""
    if since is None:
        return None
    found = [
        recovered(history, since, float(s.spec.recovered.stable_seconds), now)
        for s in seen
        for history in s.probes.values()
    ]
    return merged_recovery(found) if found else cleared


def _error_state(seen: Sequence[Seen], since: Instant | None, kept_to: Interval | None) -> bool | None:
    """Reached after the fault was in force, and then held until that time, by every declared probe."""
    histories = [history for s in seen for history in s.error_state.values()]
    if not histories or since is None:
        return None
    end = kept_to.earliest if kept_to else None
    return all(held_once_reached(history, since, end) for history in histories)


def _error_state_gaps(seen: Sequence[Seen], since: Instant | None, kept_to: Interval | None) -> Iterator[Interval]:
    """When nobody could have seen it being left."""
    for history in (history for s in seen for history in s.error_state.values()):
        reached = first_holding(history, since) if since is not None else None
        if reached is not None and kept_to is not None and kept_to.earliest.since(reached.latest) > 0:
            yield from gaps_within(history, Interval(reached.latest, kept_to.earliest))


def first_holding(history: History, since: Instant) -> Interval | None:
    """When a signal that did not hold began to, after `since`; one that held before says nothing about the fault.

    One that nobody looked at before `since` may have begun to at any time from then on.
    """
    before: Instant | None = None
    for run in history.runs:
        if run.healthy and run.soonest.since(since) >= 0 and (before is not None or run.first.start.since(since) >= 0):
            return Interval(before or since, run.soonest)
        before = None if run.healthy else run.last.start
    return None


def _named(seen: Sequence[Seen], since: Instant | None) -> tuple[bool | None, tuple[str, ...]]:
    """Whether any signal that came to hold named the trouble rightly, and what each said that did not."""
    rightly, wrongly = False, []
    declared = [(s, name, history) for s in seen for name, history in s.categories.items()]
    for s, name, said in declared:
        held = first_holding(s.detection[name], since) if since is not None else None
        if held is None:
            continue
        since_then = [run for run in said.runs if run.last.start.since(held.earliest) >= 0]
        rightly = rightly or any(run.healthy for run in since_then)
        if since_then and not any(run.healthy for run in since_then):
            wrongly.append(f"{s.check}/{name}: {said.latest_failure or 'it said something else'}")
    return rightly if declared else None, tuple(wrongly)


def held_once_reached(history: History, since: Instant, end: Instant | None) -> bool:
    """Whether it began to hold after `since` and before `end`, and no failure came in between."""
    reached = first_holding(history, since)
    if reached is None or (end is not None and reached.earliest.since(end) >= 0):
        return False
    later = (run for run in history.runs if not run.healthy and run.first.start.since(reached.latest) >= 0)
    return all(end is not None and run.first.end.since(end) >= 0 for run in later)


def _told(check: str, name: str, history: History) -> str:
    return f"{check}/{name}: {history.latest_failure or 'no answer'}"


def _view(s: Seen) -> CheckView:
    return CheckView(
        name=s.check,
        samples=sum(h.samples for h in s.probes.values()),
        healthy_samples=sum(h.healthy_samples for h in s.probes.values()),
        symptoms=[f"{name}: {message}"[:256] for name, h in s.probes.items() for message in h.messages][:10],
    )
