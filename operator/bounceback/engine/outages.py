"""What a check that watches by itself makes of its probes' histories: outages, one after the other, and their record.

The system is healthy while all probes are. An outage begins with the first symptom of any probe and ends when all are
healthy for `recovered.stableSeconds` without a gap: what flaps meanwhile is one outage. A probe counts from when it
was first healthy: one that never was tells of a wrong check as much as of a broken system.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.check_status import ContinuousStatus, Outage, Watched
from bounceback.api.status import MarkStatus, Moment
from bounceback.engine.conditions import CANNOT_LOOK
from bounceback.engine.naming import digest
from bounceback.engine.reading import Seen, first_holding
from bounceback.engine.samples import earliest, latest
from bounceback.engine.timeline import (
    figure,
    first_symptom,
    in_seconds,
    judge_budget,
    merged_recovery,
    merged_symptom,
    recovered,
    stretches,
)
from bounceback.engine.uptime import (
    Kind,
    Probed,
    added,
    into_slices,
    pieces,
    proven_from,
    sums,
    unseen_since,
    window_of,
)
from bounceback.types.instants import Instant, Interval, Span
from bounceback.types.outcome import Judgement, Mark

EARLY: Final = 10.0
"""Seconds before the first symptom from which on a signal of the system's own is about it."""
NEVER_HEALTHY: Final = "NeverHealthy"
NOBODY_LOOKS: Final = "NobodyLooks"
MOST_AT_ONCE: Final = 100
"""Outages that are told apart in one look at the histories; more are left to the next."""


@dataclass(frozen=True, slots=True)
class Injected:
    """An experiment of the namespace, from when it planned its injections until it was over, UTC seconds."""

    name: str
    since: float
    until: float | None = None  # None: it goes on


def probe_digests(spec: RecoveryCheckSpec) -> dict[str, str]:
    """By section and name: what a probe asks, so that another question is not taken for the same one."""
    asked = ((f"{section}/{probe.name}", probe) for section, _, probe in spec.sections())
    return {key: digest(probe.model_dump_json(by_alias=True, exclude_defaults=True)) for key, probe in asked}


def begun(spec: RecoveryCheckSpec, seen: Seen, now: Instant | None) -> ContinuousStatus | None:
    """A record without anything in it; before the first answer one from `now` on, or None where that is not given."""
    starts = [start for history in seen.probes.values() if (start := history.first_start) is not None]
    if not starts and now is None:
        return None
    since = Moment.of(earliest(*starts, *([now] if now else [])))
    return ContinuousStatus(since=since, until=since, healthy_from=since, probes=probe_digests(spec))


def taken_up(spec: RecoveryCheckSpec, before: ContinuousStatus, now: Instant) -> ContinuousStatus:
    """By an operator that begins to look by this spec. A probe that is another one now has no history yet.

    An outage goes on over such a change: it ends when the system is healthy by what healthy means then.
    """
    digests = probe_digests(spec)
    if digests == before.probes:
        return before
    update: dict[str, object] = {
        "probes": digests,
        "histories": {
            key: stored for key, stored in before.histories.items() if _asks_the_same(key, before.probes, digests)
        },
    }
    if before.outage is not None:
        update["outage"] = before.outage.model_copy(update={"check_changed": True})
        update["healthy_from"] = Moment.of(now)
    return before.model_copy(update=update)


def _asks_the_same(key: str, before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    """`key` is check/section/name, or check/category/name of a signal."""
    section, _, name = key.partition("/")[2].partition("/")
    probe = f"{'detection' if section == 'category' else section}/{name}"
    return probe in now and before.get(probe) == now[probe]


def follow(
    spec: RecoveryCheckSpec,
    before: ContinuousStatus,
    seen: Seen,
    problems: Sequence[str],
    injected: Sequence[Injected],
    now: Instant,
) -> ContinuousStatus:
    """The record as it is known at `now`."""
    status = before
    for _ in range(MOST_AT_ONCE):
        step = _ended(spec, status, seen, injected, now) if status.outage else _began(spec, status, seen)
        if step is None:
            break
        status = step
    if status.outage is not None:
        status = status.model_copy(update={"outage": _lasting(spec, status, status.outage, seen, injected)})
    probes = _probed(spec, seen)
    status = _accounted(spec, status, probes, now)
    lasting = pieces(probes, _downs(status), status.until.instant(), now, now)
    state, reason, message = _state(spec, status, seen, problems, now)
    longest, window = status.totals.longest, window_of(status.slices, lasting, status.since.instant())
    return status.model_copy(
        update={
            "state": state,
            "reason": reason,
            "message": message[:1024],
            "window": window,
            "availability": _percent(window.availability_percent),
            "longest": in_seconds(longest.milliseconds) if longest else None,
        }
    )


def _probed(spec: RecoveryCheckSpec, seen: Seen) -> list[Probed]:
    return [Probed(seen.probes[probe.name], probe.failure_threshold) for probe in spec.probes]


def _began(spec: RecoveryCheckSpec, status: ContinuousStatus, seen: Seen) -> ContinuousStatus | None:
    """With the outage that has begun since the last one, if any has."""
    found = list(_symptoms(spec, seen, status.healthy_from.instant()))
    symptom = merged_symptom(interval for interval, _ in found)
    if symptom is None:
        return None
    name = next(name for interval, name in found if interval.latest == symptom.latest)
    told = seen.probes[name].latest_failure or "no answer"
    number = status.totals.outages + 1
    outage = Outage(
        number=number,
        marks=[MarkStatus.of(Mark.FIRST_SYMPTOM, symptom, name)],
        symptom=f"{name}: {told}"[:256],
        failing_at=Moment.of(symptom.earliest),
    )
    hours = spec.continuous.window_hours
    slices = into_slices(status.slices, (), status.until.instant(), hours, [symptom.latest.utc])
    totals = status.totals.model_copy(update={"outages": number})
    return status.model_copy(update={"outage": outage, "totals": totals, "slices": slices})


def _symptoms(spec: RecoveryCheckSpec, seen: Seen, since: Instant) -> Iterator[tuple[Interval, str]]:
    for probe in spec.probes:
        history = seen.probes[probe.name]
        if interval := first_symptom(history, since, probe.failure_threshold, only_changes=True):
            yield interval, probe.name


def _lasting(
    spec: RecoveryCheckSpec, status: ContinuousStatus, outage: Outage, seen: Seen, injected: Sequence[Injected]
) -> Outage:
    """With what has become known of it: until when it failed, who noticed, who may have caused it."""
    failing = [
        stretch.parts[-1].last.start
        for each in _probed(spec, seen)
        for stretch in stretches(each.history, each.threshold)
        if not stretch.healthy and stretch.soonest.since(outage.began.earliest) >= 0
    ]
    failing_at = latest(outage.failing_at.instant(), *failing)
    causes = {each.name for each in injected if _under_way(each, outage.began)}
    update: dict[str, object] = {
        "failing_at": Moment.of(failing_at),
        "experiments": sorted({*outage.experiments, *causes})[:10],
    }
    if outage.mark(Mark.DETECTED) is None and (detected := _detected(status, outage, seen)):
        update["marks"] = [*outage.marks, detected]
        update["detection"] = figure(Span.between(outage.began, detected.interval()))
    return outage.model_copy(update=update)


def _under_way(each: Injected, began: Interval) -> bool:
    return each.since <= began.latest.utc and (each.until is None or each.until >= began.earliest.utc)


def _detected(status: ContinuousStatus, outage: Outage, seen: Seen) -> MarkStatus | None:
    """By the first of the system's own signals that came to hold."""
    since = latest(outage.began.earliest.plus(-EARLY), status.healthy_from.instant())
    noticing = {signal.name for signal in seen.spec.noticing}
    signals = [(name, history) for name, history in seen.detection.items() if name in noticing]
    found = [(held, name) for name, history in signals if (held := first_holding(history, since))]
    first = merged_symptom(held for held, _ in found)
    if first is None:
        return None
    return MarkStatus.of(Mark.DETECTED, first, next(name for held, name in found if held.latest == first.latest))


def _ended(
    spec: RecoveryCheckSpec, status: ContinuousStatus, seen: Seen, injected: Sequence[Injected], now: Instant
) -> ContinuousStatus | None:
    """Without the outage that lasted, if it is over; which is then the newest of those that are kept."""
    assert status.outage is not None
    outage = _lasting(spec, status, status.outage, seen, injected)
    since, stable = outage.failing_at.instant(), float(spec.recovered.stable_seconds)
    proven = [each for each in _probed(spec, seen) if proven_from(each.history) is not None]
    end = merged_recovery(recovered(each.history, since, stable, now) for each in proven)
    if end is None:
        return None
    if outage.check_changed:  # those that failed may not be asked any more; until the change they were
        end = Interval(end.earliest, latest(end.latest, status.healthy_from.instant()))
    outage = _measured(spec, outage, end, _probed(spec, seen), now)
    assert outage.lasted is not None
    longest, totals = outage.lasted, status.totals
    update = {
        "ended": totals.ended + 1,
        "by_experiments": totals.by_experiments + bool(outage.experiments),
        "lasted_milliseconds": totals.lasted_milliseconds + longest.milliseconds,
    }
    if outage.detection is not None:
        update["detected"] = totals.detected + 1
        update["detection_milliseconds"] = totals.detection_milliseconds + outage.detection.milliseconds
    counted = totals.model_copy(update=update)
    if totals.longest is None or longest.milliseconds > totals.longest.milliseconds:
        counted = counted.model_copy(update={"longest": longest, "longest_number": outage.number})
    return status.model_copy(
        update={
            "outage": None,
            "outages": [outage, *status.outages][: spec.continuous.outages_kept],
            "healthy_from": Moment.of(end.latest),
            "totals": counted,
        }
    )


def _measured(spec: RecoveryCheckSpec, outage: Outage, end: Interval, probes: Sequence[Probed], now: Instant) -> Outage:
    began = outage.began
    span = Span.between(began, end)
    unseen = sums(pieces(probes, [(began, end)], began.earliest, end.latest, now))[Kind.UNKNOWN]
    return outage.model_copy(
        update={
            "marks": [*outage.marks, MarkStatus.of(Mark.RECOVERED, end)],
            "lasted": figure(span),
            "unknown_milliseconds": unseen,
            "budgets": _judged(spec, outage, span),
        }
    )


def _judged(spec: RecoveryCheckSpec, outage: Outage, lasted: Span) -> Judgement | None:
    """Against the budgets that have something to be held against."""
    found = []
    budgets, detected = spec.budgets, outage.mark(Mark.DETECTED)
    if budgets.outage_seconds is not None:
        found.append(judge_budget(lasted, budgets.outage_seconds))
    if budgets.detect_seconds is not None and detected is not None:
        found.append(judge_budget(Span.between(outage.began, detected), budgets.detect_seconds))
    elif budgets.detect_seconds is not None and spec.noticing and lasted.least > budgets.detect_seconds:
        found.append(Judgement.FAILED)  # nobody noticed in all that time
    return next((each for each in (Judgement.FAILED, Judgement.INCONCLUSIVE, Judgement.PASSED) if each in found), None)


def _accounted(
    spec: RecoveryCheckSpec, status: ContinuousStatus, probes: Sequence[Probed], now: Instant
) -> ContinuousStatus:
    """With all the time counted that nothing can change any more."""
    until, settled = status.until.instant(), _settled(probes, status.outage, now)
    if settled.since(until) <= 0:
        return status
    found = pieces(probes, _downs(status), until, settled, now)
    return status.model_copy(
        update={
            "until": Moment.of(settled),
            "totals": added(status.totals, found),
            "slices": into_slices(status.slices, found, until, spec.continuous.window_hours),
        }
    )


def _percent(text: str) -> str | None:
    """99.95% ±0.01"""
    middle, space, error = text.partition(" ")
    return f"{middle}%{space}{error}" if text else None


def _downs(status: ContinuousStatus) -> Iterator[tuple[Interval, Interval | None]]:
    if status.outage is not None:
        yield status.outage.began, None
    for outage in status.outages:
        yield outage.began, outage.mark(Mark.RECOVERED)


def _settled(probes: Sequence[Probed], outage: Outage | None, now: Instant) -> Instant:
    """Up to where no answer that is still to come can change what is known."""
    if outage is not None:
        return earliest(now, outage.failing_at.instant())
    bounds = [now]
    for each in probes:
        healthy = [stretch for stretch in stretches(each.history, each.threshold) if stretch.healthy]
        if healthy:
            pending = each.history.oldest_under_way
            last = earliest(healthy[-1].parts[-1].last.start, *([pending] if pending else []))
            bounds.append(last.plus(-each.history.timeout - each.history.period))
    return earliest(*bounds)


def _state(
    spec: RecoveryCheckSpec, status: ContinuousStatus, seen: Seen, problems: Sequence[str], now: Instant
) -> tuple[Watched, str, str]:
    """What is known now: a probe that cannot look makes it Unknown, unless another one sees it failing."""
    outage = status.outage
    silent = [name for name, history in seen.probes.items() if unseen_since(history, now) is not None]
    never = [name for name, history in seen.probes.items() if history.samples and proven_from(history) is None]
    failing = _failing(spec, seen, silent)
    if outage is not None and (failing or not (problems or silent or never)):
        told = f"outage {outage.number} since {outage.began.latest.rfc3339()}: {outage.symptom}"
        return Watched.DOWN, "Outage", f"{told}; failing now: {', '.join(failing) or 'nothing'}"
    if problems:
        return Watched.UNKNOWN, CANNOT_LOOK, "; ".join(problems)
    if never:
        told = "; ".join(f"{name}: {seen.probes[name].latest_failure or 'no answer'}" for name in never)
        return Watched.UNKNOWN, NEVER_HEALTHY, f"never seen healthy, so nothing is judged by it: {told}"
    if silent:
        return Watched.UNKNOWN, NOBODY_LOOKS, f"no answer on which to judge: {', '.join(silent)}"
    return Watched.UP, "Healthy", ""


def _failing(spec: RecoveryCheckSpec, seen: Seen, silent: Sequence[str]) -> list[str]:
    """Probes that were healthy once and failed when they were last asked, which is not long ago."""
    states = {each.name: stretches(seen.probes[each.name], each.failure_threshold) for each in spec.probes}
    return [name for name, found in states.items() if name not in silent and len(found) > 1 and not found[-1].healthy]


def resting(record: ContinuousStatus, reason: str, message: str) -> ContinuousStatus:
    """Nobody looks any more; an outage that lasts goes on when somebody does again."""
    return record.model_copy(update={"state": Watched.UNKNOWN, "reason": reason, "message": message[:1024]})
