"""Where a system collapses as a fault grows: what was seen at each of its levels, and what that says.

A level is counted while all targets have it, both by what their agents tell and by the time, and not before looks that
began at an earlier one are answered. The share of healthy samples is known as an interval (Wilson, 95 %): a level at
which all of it is below the threshold is one of collapse, one at which none of it is, is not. So the collapse lies
above the last level that surely held, and at or below the first that surely did not: as near as the steps and the
number of samples allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bounceback.api.collapse import Collapse, CollapseStatus, Counting, Level
from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.probes import Probe
from bounceback.api.status import CheckCopy, Finding, InjectionStatus
from bounceback.engine.evidence import on_our_clock
from bounceback.engine.finished import Run
from bounceback.engine.success_rate import wilson
from bounceback.types.instants import Instant
from bounceback.types.outcome import CollapseState, InjectionState, Judgement, Verdict

CONFIDENCE: Final = 0.95
Counts = Mapping[tuple[str, str], tuple[int, int]]


def looked_for(spec: FaultExperimentSpec) -> list[CollapseStatus]:
    """As the run's injections are planned."""
    told = "no level was seen yet"
    return [CollapseStatus(fault=entry.name, message=told) for entry in spec.faults if entry.collapse is not None]


def counted(
    spec: FaultExperimentSpec,
    known: Sequence[CollapseStatus],
    injections: Sequence[InjectionStatus],
    checks: Sequence[CheckCopy],
    counts: Counts,
    now: Instant,
) -> list[CollapseStatus]:
    """With what the probes have counted by now: (samples, healthy ones) by check and probe, since they began."""
    entries = {entry.name: entry for entry in spec.faults}
    return [_counted(each, entries[each.fault], injections, checks, counts, now) for each in known]


def _counted(
    known: CollapseStatus,
    entry: FaultTiming,
    injections: Sequence[InjectionStatus],
    checks: Sequence[CheckCopy],
    counts: Counts,
    now: Instant,
) -> CollapseStatus:
    asked = entry.collapse
    assert asked is not None
    mine = [key for key in counts if key[0] == asked.check and asked.probe in (None, key[1])]
    if not mine:
        return known  # nobody looks yet, or again
    samples, healthy = (sum(counts[key][n] for key in mine) for n in (0, 1))
    its = [each for each in injections if each.fault == entry.name]
    percent, place = _level(its), _place(entry, its, now)
    counting, levels = known.counting, list(known.levels)
    if counting is not None and (percent, place and place.last) == (counting.percent, counting.step):
        seen = Level(percent=counting.percent, samples=samples - counting.samples, healthy=healthy - counting.healthy)
        levels = [*(each for each in levels if each.percent != seen.percent), seen]
    else:
        counting = None
    fresh = counting is None and percent not in {each.percent for each in levels}
    settled = place is not None and place.settled(longest_look(_probes(asked, checks)))
    if fresh and settled and percent is not None and place is not None:
        counting = Counting(percent=percent, step=place.first, samples=samples, healthy=healthy)
    found = known.model_copy(update={"levels": levels, "counting": counting})
    return found.model_copy(update=decided(asked, levels))


def _level(injections: Sequence[InjectionStatus]) -> int | None:
    """The strength that all targets have; None while they have not, or one is not in force yet."""
    active = {each.percent for each in injections if each.state is InjectionState.ACTIVE}
    waiting = any(each.state is InjectionState.PLANNED for each in injections)
    return next(iter(active)) if len(active) == 1 and not waiting and 0 not in active else None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a ramp is by its own time: in seconds since the last target had it, and since the first one did."""

    length: float  # of a step
    since_last: float
    since_first: float

    @property
    def first(self) -> int:
        """The step that every target has come to."""
        return int(self.since_last // self.length)

    @property
    def last(self) -> int:
        """The step that any of them may have come to."""
        return int(self.since_first // self.length)

    def settled(self, longest: float) -> bool:
        """Whether all looks that began at an earlier step are answered, or given up, and the next is not there yet."""
        return self.first == self.last and self.since_last % self.length >= longest


def _place(entry: FaultTiming, injections: Sequence[InjectionStatus], now: Instant) -> _Place | None:
    ramp = entry.pattern.ramp if entry.pattern else None
    begun = [at for each in injections if (at := on_our_clock(each, each.in_force_at, now)) is not None]
    if ramp is None or not begun:
        return None
    since_last = min(now.since(each.latest) for each in begun)
    return _Place(entry.duration_seconds / ramp.steps, since_last, max(now.since(each.earliest) for each in begun))


def longest_look(probes: Iterable[Probe]) -> float:
    """Seconds until the slowest of them gives up."""
    return max((probe.timeout_milliseconds / 1000 for probe in probes), default=0.0)


def least_samples(below_percent: int) -> int:
    """How many that all fail it takes to say that success is below that."""
    return next(n for n in range(1, 1_000_000) if wilson(0, n, CONFIDENCE)[1] < below_percent / 100)


def _probes(asked: Collapse, checks: Sequence[CheckCopy]) -> list[Probe]:
    probes = (p for check in checks if check.name == asked.check for p in check.spec.probes)
    return [p for p in probes if asked.probe in (None, p.name)]


def decided(asked: Collapse, levels: Sequence[Level]) -> dict[str, object]:
    """What the levels say together: the fields of the status."""
    threshold = asked.below_percent / 100
    held, unsure = 0, False
    for level in levels:
        low, high = wilson(level.healthy, level.samples, CONFIDENCE)
        if high < threshold:
            where = f"above {held} % of its strength, and at {level.percent} % at the latest"
            told = f"collapsed {where}: {_seen(level)}"
            return _fields(CollapseState.COLLAPSED, held, level.percent, told)
        unsure = low < threshold
        held = held if unsure else level.percent
    if not levels:
        return _fields(CollapseState.UNDECIDED, 0, None, "no level was seen yet")
    last = levels[-1]
    if unsure:
        told = f"not surely collapsed, nor surely not, above {held} % of its strength: {_seen(last)}"
        return _fields(CollapseState.UNDECIDED, held, None, told)
    return _fields(CollapseState.HELD, held, None, f"not collapsed up to {held} % of its strength: {_seen(last)}")


def _seen(level: Level) -> str:
    return f"{level.healthy} of {level.samples} samples were healthy at {level.percent} %"


def _fields(state: CollapseState, held: int, collapsed: int | None, told: str) -> dict[str, object]:
    return {"state": state, "held_percent": held, "collapsed_percent": collapsed, "message": told}


def holds(asked: Collapse, found: CollapseStatus) -> Judgement | None:
    """Whether it held as far as it must; None: nobody asks."""
    if asked.holds_percent is None:
        return None
    if found.held_percent >= asked.holds_percent:
        return Judgement.PASSED
    collapsed = found.collapsed_percent
    return Judgement.FAILED if collapsed is not None and collapsed <= asked.holds_percent else Judgement.INCONCLUSIVE


def collapsed_early(run: Run) -> Iterator[Finding]:
    """A system that must hold up to some strength of a fault that grows."""
    entries = {entry.name: entry.collapse for entry in run.spec.faults}
    for found in run.status.collapses:
        asked = entries[found.fault]
        answer = holds(asked, found) if asked else None
        told = f"{found.fault}: {found.message}"
        if answer is Judgement.FAILED:
            yield Finding(verdict=Verdict.FAILED, reason="CollapsedEarly", message=told)
        elif answer is Judgement.INCONCLUSIVE:
            yield Finding(verdict=Verdict.INCONCLUSIVE, reason="CollapseUndecided", message=told)
