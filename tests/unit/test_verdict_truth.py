"""The verdict against its definition, over random checks, observations and timelines: nothing passes for nothing.

`deserved` is the definition, in plain numbers and apart from the code that it is held against.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from bounceback.api.status import CheckCopy, CheckView, FaultExperimentStatus, Finding, Moment
from bounceback.engine.advance import advance
from bounceback.engine.health import Health
from bounceback.engine.judge import judge
from bounceback.engine.reading import Seen as Histories
from bounceback.engine.reading import read
from bounceback.engine.samples import History, Sample
from bounceback.engine.state import Seen, Snapshot, State
from bounceback.engine.unchanged import unchanged
from bounceback.report.redact import redacted
from bounceback.types.instants import Interval
from bounceback.types.outcome import Cleanup, InjectionAxis, InjectionState, Judgement, Mark, Phase, Verdict
from tests.unit.engine_values import at, check, experiment, finished, injection, preparation

Spread = tuple[float, float]
"""From, to: seconds since the start."""
ASKED = 10  # seconds that each fault is to last
KEPT = "size(after.data) > 0 && sets.contains(after.data, before.data)"
KEPT_SINCE_CLEAR = "!has(clear.data) || sets.contains(after.data, clear.data)"
"""It asks whether that was read: what was not must not make it true."""


@dataclass(frozen=True)
class Hit:
    """One fault on one target."""

    hits: int = 100
    seconds: float | None = 10  # in force from second 1 on; None: never
    failed: bool = False
    cleanup: Cleanup = Cleanup.CLEAN


@dataclass(frozen=True)
class Asked:
    """What one check asks."""

    probed: bool = True
    budgets: Mapping[str, int] = field(default_factory=dict)
    signal: bool = False
    retry_after: bool = False
    before: tuple[int, ...] | None = None  # what an invariant is about; None: there is none
    after: tuple[int, ...] | None = None  # None: it could not be read
    empty: bool = False  # the invariant is about nothing
    since_clear: bool = False  # another one is about what is lost after the fault
    clear: tuple[int, ...] | None = None  # None: it could not be read then
    unchanged: bool = False  # it must be the same before and after


@dataclass(frozen=True)
class Case:
    """A run that is over: what was asked, and all that anybody could know."""

    fail_safe: bool = False
    impact: str = "Allowed"
    hits: tuple[Hit, ...] = (Hit(),)
    of_targets: int = 100
    checks: tuple[Asked, ...] = (Asked(),)
    cancelled: bool = False
    symptom: Spread | None = (1.5, 2.0)
    detected: Spread | None = None
    recovered: Spread | None = (12.0, 12.5)
    gap: Spread | None = None
    samples: int = 100
    never_healthy: bool = False
    problem: bool = False
    error_state: bool | None = None
    named_rightly: bool | None = None
    honored: int | None = None  # of the answers that told a client to wait: how many of two; None: nobody was told

    @property
    def probed(self) -> bool:
        return any(each.probed for each in self.checks)

    @property
    def began(self) -> bool:
        return any(hit.seconds is not None for hit in self.hits)

    @property
    def cleared(self) -> float | None:
        return max((1 + hit.seconds for hit in self.hits if hit.seconds is not None), default=None)


def deserved(case: Case) -> Verdict:
    """The first that applies decides."""
    data = [answer for each in case.checks for answer in _data(each)]
    if Judgement.FAILED in data:
        return Verdict.FAILED
    if any(hit.failed or hit.cleanup is Cleanup.LEFTOVER for hit in case.hits):
        return Verdict.ERROR
    if case.cancelled:
        return Verdict.ABORTED
    if not _proven(case) or any(hit.cleanup is Cleanup.UNVERIFIED for hit in case.hits) or _blind(case):
        return Verdict.INCONCLUSIVE
    answers = set(_recovery(case))
    if Judgement.FAILED in answers:
        return Verdict.FAILED
    return Verdict.INCONCLUSIVE if Judgement.INCONCLUSIVE in {*answers, *data} else Verdict.PASSED


def _data(asked: Asked) -> Iterator[Judgement]:
    if asked.before is None:
        return
    if asked.after is None:
        yield Judgement.INCONCLUSIVE
        return
    if asked.empty:
        yield Judgement.INCONCLUSIVE
    else:
        yield Judgement.PASSED if asked.after and {*asked.before} <= {*asked.after} else Judgement.FAILED
    if asked.since_clear and asked.clear is None:
        yield Judgement.INCONCLUSIVE
    elif asked.since_clear and asked.clear is not None:
        yield Judgement.PASSED if {*asked.clear} <= {*asked.after} else Judgement.FAILED
    if asked.unchanged and asked.before != asked.after:
        yield Judgement.FAILED
    elif asked.unchanged and not asked.before:
        yield Judgement.INCONCLUSIVE


def _proven(case: Case) -> bool:
    enough = len(case.hits) * case.of_targets / 100
    hit = sum(each.hits > 0 for each in case.hits)
    lasted = sum((each.seconds or 0) >= 0.9 * ASKED for each in case.hits)
    return bool(case.hits) and hit >= enough and lasted >= enough


def _blind(case: Case) -> bool:
    """Nobody looked, or not when it mattered."""
    if case.problem or case.never_healthy or (case.probed and not case.samples):
        return True
    if case.gap is None:
        return False
    (start, end), moments = case.gap, [mark for mark in (case.symptom, case.recovered) if mark]
    hides = case.impact == "Forbidden" or any("outageSeconds" in each.budgets for each in case.checks)
    return any(low <= start and end <= high for low, high in moments) or (case.symptom is None and hides)


def _recovery(case: Case) -> Iterator[Judgement]:
    if case.began and case.probed and case.recovered is None:
        yield Judgement.FAILED
    if case.impact == "Forbidden" and case.symptom:
        yield Judgement.FAILED
    if case.impact == "Required" and not case.symptom:
        yield Judgement.INCONCLUSIVE
    if case.fail_safe and not case.error_state:
        yield Judgement.INCONCLUSIVE if case.error_state is None else Judgement.FAILED
    if case.named_rightly is False and case.began:
        yield Judgement.FAILED
    for each in case.checks:
        yield from _budgets(case, each)
        if each.retry_after and case.began:
            yield {None: Judgement.INCONCLUSIVE, 2: Judgement.PASSED}.get(case.honored, Judgement.FAILED)


def _budgets(case: Case, asked: Asked) -> Iterator[Judgement]:
    hit = (1.2, 1.2) if case.began else None
    cleared = None if case.cleared is None else (case.cleared, case.cleared)
    spans = {
        "detectSeconds": (hit, case.detected or case.symptom),
        "recoverSeconds": (cleared, case.recovered),
        "outageSeconds": (case.symptom, case.recovered),
    }
    for name, budget in asked.budgets.items():
        start, end = spans[name]
        if case.began and not case.probed:
            yield Judgement.INCONCLUSIVE
        if start and end:
            least, most = max(0.0, end[0] - start[1]), max(0.0, end[1] - start[0])
            yield (
                Judgement.PASSED if most <= budget else Judgement.INCONCLUSIVE if least <= budget else Judgement.FAILED
            )
    if asked.signal and "detectSeconds" in asked.budgets and case.symptom and not case.detected:
        yield Judgement.FAILED


def given_verdict(case: Case) -> FaultExperimentStatus:
    """What the engine says."""
    spec = experiment(
        expect="FailSafe" if case.fail_safe else "Recover",
        impact=case.impact,
        proof={"targetsPercent": case.of_targets},
    )
    marks = {
        Mark.ACTIVE: (1.2, 1.2) if case.began else None,
        Mark.FIRST_SYMPTOM: case.symptom,
        Mark.DETECTED: case.detected,
        Mark.CLEARED: (case.cleared, case.cleared) if case.cleared is not None else None,
        Mark.RECOVERED: case.recovered,
    }
    checks = [_copy(number, asked) for number, asked in enumerate(case.checks)]
    status = finished(checks, marks={mark: spread and _interval(spread) for mark, spread in marks.items()})
    read: dict[str, Any] = {"before": {}, "clear": {}, "after": {}}
    for copy, each in zip(checks, case.checks, strict=True):
        for when, found in (("before", each.before), ("clear", each.clear), ("after", each.after)):
            read[when] |= {copy.name: {"data": [*found]}} if found is not None else {}
    cancelled = Finding(verdict=Verdict.ABORTED, reason="Cancelled", message="") if case.cancelled else None
    status = status.model_copy(update={"observed": read, "ending": cancelled})
    compared = [
        each.to_json() for each in unchanged(status, Snapshot(_interval((30, 30)), read["after"], {}), "salt", redacted)
    ]
    status = status.model_copy(update={"observed": {**read, "unchanged": compared}})
    return judge(spec, status, [_injection(case, n, hit) for n, hit in enumerate(case.hits)], _health(case))


def _copy(number: int, asked: Asked) -> CheckCopy:
    changes: dict[str, Any] = {"budgets": dict(asked.budgets)}
    if not asked.probed:
        changes["probes"] = []
    if asked.signal:
        changes["detection"] = [{"name": "said", "tcp": {"host": "web", "port": 81}}]
    if asked.retry_after:
        changes["clientBehavior"] = {"honorsRetryAfter": True}
    if asked.before is not None:
        same: dict[str, Any] = {"unchanged": {}} if asked.unchanged else {}
        changes["observations"] = [{"name": "data", "http": {"url": "http://web/"}, **same}]
        changes["invariants"] = [{"name": "kept", "expression": "true" if asked.empty else KEPT}]
        if asked.since_clear:
            changes["invariants"].append({"name": "since-clear", "expression": KEPT_SINCE_CLEAR})
    return check(**changes).model_copy(update={"name": f"check-{number}"})


def _injection(case: Case, number: int, hit: Hit) -> Any:
    ended = Moment.of(at(1 + hit.seconds)) if hit.seconds is not None else None
    behavior = (
        {}
        if case.honored is None
        else {"retryAfter": {"asked": 2, "honored": case.honored, "ignored": 2 - case.honored}}
    )
    return injection(
        f"cut-{number}",
        hits=hit.hits,
        cleanup=hit.cleanup,
        state=InjectionState.FAILED if hit.failed else InjectionState.CLEARED,
        in_force_at=Moment.of(at(1)) if ended else None,
        first_hit_at=Moment.of(at(1.2)) if hit.hits and ended else None,
        cleared_at=ended,
        behavior=behavior,
    )


def _health(case: Case) -> Health:
    return Health(
        watching=True,
        problems=("check-0: no such kind",) if case.problem else (),
        never_healthy=("check-0/home: refused",) if case.never_healthy else (),
        unhealthy=("check-0/home: refused",) if case.recovered is None else (),
        gaps=(_interval(case.gap),) if case.gap else (),
        error_state=case.error_state,
        named_rightly=case.named_rightly,
        named_wrongly=("check-0/said: something else",) if case.named_rightly is False else (),
        views=(CheckView(name="check-0", samples=case.samples, healthy_samples=case.samples),),
    )


def _interval(spread: Spread) -> Interval:
    return Interval(at(spread[0]), at(spread[1]))


def spreads(first: float, last: float) -> st.SearchStrategy[Spread]:
    tenth = st.integers(int(first * 10), int(last * 10))
    return st.tuples(tenth, tenth).map(lambda pair: (min(pair) / 10, max(pair) / 10))


hits = st.builds(
    Hit,
    st.sampled_from([100, 100, 100, 1, 0]),
    st.sampled_from([10, 10, 10, 9, 8.9, 1, None]),
    st.sampled_from([False] * 9 + [True]),
    st.sampled_from([Cleanup.CLEAN] * 6 + [Cleanup.UNVERIFIED, Cleanup.LEFTOVER]),
)
ids = st.lists(st.integers(0, 3), max_size=3).map(tuple)
asked = st.builds(
    Asked,
    st.sampled_from([True, True, False]),
    st.dictionaries(
        st.sampled_from(["detectSeconds", "recoverSeconds", "outageSeconds"]), st.integers(1, 20), max_size=3
    ),
    st.booleans(),
    st.sampled_from([False, False, True]),
    st.none() | ids,
    st.none() | ids,
    st.sampled_from([False, False, False, True]),
    st.booleans(),
    st.none() | ids,
    st.sampled_from([False, False, True]),
).map(lambda each: each if each.probed or each.before is not None else replace(each, before=()))
"""A check that looks at nothing is refused before it comes to a verdict."""
cases = st.builds(
    Case,
    fail_safe=st.booleans(),
    impact=st.sampled_from(["Allowed", "Allowed", "Required", "Forbidden"]),
    hits=st.lists(hits, max_size=3).map(tuple) | st.just((Hit(),)),
    of_targets=st.sampled_from([100, 100, 50, 1]),
    checks=st.lists(asked, min_size=1, max_size=2).map(tuple) | st.just((Asked(),)),
    cancelled=st.sampled_from([False] * 7 + [True]),
    symptom=st.none() | spreads(1, 4),
    detected=st.none() | spreads(1, 6),
    recovered=spreads(9, 25) | spreads(9, 25) | st.none(),
    gap=st.none() | spreads(1, 25),
    samples=st.sampled_from([100, 100, 100, 1, 0]),
    never_healthy=st.sampled_from([False] * 5 + [True]),
    problem=st.sampled_from([False] * 7 + [True]),
    error_state=st.sampled_from([True, True, None, False]),
    named_rightly=st.sampled_from([None, None, True, False]),
    honored=st.sampled_from([None, 2, 2, 1, 0]),
)


@settings(max_examples=400, deadline=None)
@given(cases)
def test_the_verdict_is_what_its_definition_says(case: Case) -> None:
    judged = given_verdict(case)
    event(str(judged.verdict))
    assert judged.verdict is deserved(case), [finding.reason for finding in judged.findings]


SOUND = Case(
    fail_safe=True,
    impact="Required",
    checks=(Asked(budgets={"recoverSeconds": 3, "outageSeconds": 15, "detectSeconds": 5}, signal=True, retry_after=True,
                  before=(1,), after=(1, 2), since_clear=True, clear=(2,)),
            Asked(before=(1, 2), after=(1, 2), unchanged=True)),
    detected=(2.0, 3.0),
    error_state=True,
    named_rightly=True,
    honored=2,
)  # fmt: skip
"""Passes, and shows all that can be asked."""


def spoilt() -> Iterator[tuple[str, Case]]:
    """Each with one piece of the evidence missing."""
    sound = SOUND.checks[0]
    yield "nothing was injected", replace(SOUND, hits=())
    yield "it hit nothing", replace(SOUND, hits=(Hit(hits=0),))
    yield "it was over too soon", replace(SOUND, hits=(Hit(seconds=8),))
    yield "it was never in force", replace(SOUND, hits=(Hit(seconds=None),))
    yield "it failed", replace(SOUND, hits=(Hit(failed=True),))
    yield "nobody looked for what is left", replace(SOUND, hits=(Hit(cleanup=Cleanup.UNVERIFIED),))
    yield "something is left", replace(SOUND, hits=(Hit(cleanup=Cleanup.LEFTOVER),))
    yield "it was cancelled", replace(SOUND, cancelled=True)
    yield "no symptom", replace(SOUND, symptom=None)
    yield "no recovery", replace(SOUND, recovered=None)
    yield "no sample", replace(SOUND, samples=0)
    yield "never healthy", replace(SOUND, never_healthy=True)
    yield "a probe that cannot look", replace(SOUND, problem=True)
    yield "a gap over the recovery", replace(SOUND, gap=(12.1, 12.4))
    yield "no error state", replace(SOUND, error_state=None)
    yield "the error state not held", replace(SOUND, error_state=False)
    yield "the wrong name", replace(SOUND, named_rightly=False)
    yield "nobody was told to wait", replace(SOUND, honored=None)
    yield "a client did not wait", replace(SOUND, honored=1)
    yield "what was lost", replace(SOUND, checks=(replace(sound, after=(2,)),))
    yield "what could not be read", replace(SOUND, checks=(replace(sound, after=None),))
    yield "an invariant about nothing", replace(SOUND, checks=(replace(sound, empty=True),))
    yield "what could not be read at clear", replace(SOUND, checks=(replace(sound, clear=None),))
    yield "what was lost after the fault", replace(SOUND, checks=(replace(sound, clear=(1, 2, 3)),))
    yield "what must be unchanged and is not", replace(SOUND, checks=(replace(sound, unchanged=True),))
    nothing = replace(sound, before=(), after=(), clear=(), unchanged=True, empty=True)
    yield "nothing compared with nothing", replace(SOUND, checks=(nothing,))
    yield "a budget exceeded", replace(SOUND, recovered=(14.5, 15.0))
    yield "a budget that may be exceeded", replace(SOUND, recovered=(13.5, 14.5))
    yield "a budget that nothing measures", replace(SOUND, impact="Allowed", checks=(replace(sound, probed=False),))


def test_what_shows_everything_passes() -> None:
    judged = given_verdict(SOUND)
    assert judged.verdict is Verdict.PASSED, [finding.message for finding in judged.findings]
    assert judged.axes is not None and judged.axes.injection is InjectionAxis.PROVEN


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in spoilt()])
def test_with_any_one_piece_of_the_evidence_missing_it_does_not(case: Case) -> None:
    assert given_verdict(case).verdict is not Verdict.PASSED


HOLD, STABLE, PERIOD = 2, 3, 0.5  # seconds
FAULT = (6.0, 12.0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("HHHHHHHHF."), min_size=60, max_size=60), min_size=1, max_size=2),
    st.integers(0, 24),
    st.integers(0, 30),
    st.sampled_from([None, 2, 6]),
)
def test_no_timeline_passes_that_was_not_seen_healthy_before_and_stable_after(
    drawn: list[list[str]], broke: int, lasted: int, budget: int | None
) -> None:
    """Samples of one or two probes twice a second: healthy, failing, or not taken; and an outage among them."""
    rows = [
        ["F" if broke <= n < broke + lasted and each != "." else each for n, each in enumerate(row)] for row in drawn
    ]
    status = conducted(rows, budget)
    event(str(status.verdict))
    if status.verdict is not Verdict.PASSED:
        return
    cleared, ends = FAULT[1], [m.latest.instant().since(at(0)) for m in status.marks if m.mark is Mark.STABLE]
    assert ends and cleared + STABLE <= ends[0]
    for row in rows:
        taken = [(n * PERIOD, each) for n, each in enumerate(row) if each != "."]
        assert any(each == "H" for moment, each in taken if moment < FAULT[0]), "seen healthy before"
        window = [each for moment, each in taken if ends[0] - STABLE <= moment <= ends[0] - PERIOD]
        assert window and set(window) == {"H"}, "stable at the end"
        failed = [moment for moment, each in taken if each == "F" and FAULT[0] <= moment < ends[0]]
        assert budget is None or not failed or max(failed) - cleared <= budget, "within the budget"


def conducted(rows: list[list[str]], budget: int | None) -> FaultExperimentStatus:
    """A whole run over these samples, a step every half second."""
    names = [f"p{n}" for n in range(len(rows))]
    look = {"tcp": {"host": "web", "port": 80}, "periodMilliseconds": 500, "timeoutMilliseconds": 500}
    budgets = {"recoverSeconds": budget} if budget else {}
    probes = [{"name": name, **look} for name in names]
    asked = check(probes=probes, recovered={"stableSeconds": STABLE}, budgets=budgets)
    spec = experiment(
        faults=[{"name": "cut", "target": "web", "networkPartition": {}, "durationSeconds": int(FAULT[1] - FAULT[0])}],
        steadyState={"holdSeconds": HOLD, "timeoutSeconds": 30},
        recoveryTimeoutSeconds=12,
    )
    histories = {name: History(PERIOD, PERIOD) for name in names}
    state = State(FaultExperimentStatus(run_uid="run"))
    for point in range(60):
        now = at(point * PERIOD + 0.1)
        for name, row in zip(names, rows, strict=True):
            if row[point] != ".":
                histories[name].add(Sample(at(point * PERIOD), at(point * PERIOD + 0.05), row[point] == "H"))
        state = _stepped(state, spec, asked, histories, now)
    for more in range(40):  # nobody looks any more: it must come to an end by itself
        state = _stepped(state, spec, asked, histories, at(30 + more))
    return state.status


def _stepped(state: State, spec: Any, asked: CheckCopy, histories: Mapping[str, History], now: Any) -> State:
    injections = tuple(_played(each, now) for each in state.injections)
    state = replace(state, injections=injections)
    seen = [Histories("healthy", asked.spec, histories, {}, {})]
    for _ in range(8):
        marks = {m.mark: m.interval() for m in state.status.marks}
        since = next((i.in_force_at.instant() for i in state.injections if i.in_force_at), None)
        health = read(seen, (), since, marks.get(Mark.CLEARED), marks.get(Mark.CLEARED), now)
        found = replace(preparation(spec, now=now), checks=(asked,))
        ready = now.since(at(FAULT[0])) > 0
        before: dict[str, Any] | None = {} if ready else None
        decision = advance(
            spec, state, Seen(preparation=found, claimed=True, health=health, before=before, after={}), now
        )
        state = decision.state
        if decision.again > 0 or state.status.phase is Phase.FINISHED:
            break
    return state


def _played(each: Any, now: Any) -> Any:
    """The fault is in force from when it was planned on, for its time."""
    began = each.in_force_at or Moment.of(now)
    over = now.since(at(FAULT[1])) > 0
    return each.model_copy(
        update={
            "state": InjectionState.CLEARED if over else InjectionState.ACTIVE,
            "hits": 10,
            "in_force_at": began,
            "first_hit_at": began,
            "cleared_at": (each.cleared_at or Moment.of(at(max(FAULT[1], 0)))) if over else None,
            "clock_offset_milliseconds": 0,
            "cleanup": Cleanup.CLEAN if over else Cleanup.UNVERIFIED,
        }
    )
