"""The run, step by step: every transition by what is seen, every duty until its result is there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.experiment import FaultEntry
from bounceback.api.status import CheckView, FaultExperimentStatus, InjectionStatus, Moment
from bounceback.engine.advance import FRESH, REFERENCE_GRACE, advance
from bounceback.engine.evidence import fold, fold_end
from bounceback.engine.model import AgentEnd, AgentFate
from bounceback.engine.planning import Chosen
from bounceback.engine.state import Decision, Duty, Refusal, Seen, State
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import Cleanup, InjectionState, Judgement, Mark, Phase, VehicleKind, Verdict
from bounceback.types.plan import Rung
from bounceback.types.told import Line, Told
from tests.unit.engine_values import START, at, experiment, health, injection, pod, preparation

SPEC = experiment()
NEW = State(FaultExperimentStatus(run_uid="uid"))


def step(state: State, seen: Seen, now: Instant, spec: Any = SPEC) -> Decision:
    """Steps until one does not ask to be followed at once."""
    for _ in range(5):
        decision = advance(spec, state, seen, now)
        state = decision.state
        if decision.again > 0:
            return decision
    raise AssertionError("it never comes to rest")


def prepared(now: Instant = START) -> Seen:
    return Seen(preparation=preparation(SPEC, pod("web-1"), pod("web-2"), now=now), claimed=True, health=health())


def planned() -> State:
    seen = replace(prepared(at(10)), before={"healthy": {}})
    steady = step(NEW, prepared(), at(0)).state
    return advance(SPEC, steady, seen, at(10)).state


def lines(state: State, *told: tuple[Told, float, dict[str, Any]]) -> State:
    injections: list[InjectionStatus] = []
    for each in state.injections:
        for kind, seconds, more in told:
            line = Line(kind, at(seconds), each.name, hits=more.get("hits", 0), detail=more)
            each = fold(each, line, at(seconds))
        injections.append(each)
    return replace(state, injections=tuple(injections))


def active() -> State:
    state = lines(planned(), (Told.IN_FORCE, 11, {}), (Told.HITS, 11.2, {"hits": 3}))
    return step(state, Seen(health=health()), at(11.3)).state


def over() -> State:
    return lines(active(), (Told.CLEARED, 21, {"why": "Duration"}), (Told.VERIFIED, 21.1, {"leftovers": []}))


def test_nothing_is_touched_before_it_is_prepared_claimed_steady_and_observed() -> None:
    decision = step(NEW, Seen(), at(0))
    assert decision.duties == {Duty.PREPARE}
    seen = Seen(preparation=preparation(SPEC, now=at(0)))
    decision = step(decision.state, seen, at(0))
    assert decision.duties == {Duty.CLAIM}
    decision = step(decision.state, replace(seen, claimed=True), at(0))
    assert (decision.state.status.phase, decision.duties) == (Phase.STEADY, frozenset({Duty.LOOK}))
    seen = replace(seen, claimed=True, health=health())
    decision = step(decision.state, seen, at(9))
    assert decision.duties == {Duty.LOOK, Duty.OBSERVE_BEFORE}
    decision = step(decision.state, replace(seen, before={}), at(9))
    assert decision.duties == {Duty.LOOK, Duty.PREPARE}, "what was prepared 9 s ago is too old to act on"
    assert not decision.state.injections


def test_the_step_that_plans_names_all_injections_and_hands_out_the_plan_to_be_journaled_first() -> None:
    steady = step(NEW, prepared(), at(0)).state
    decision = advance(SPEC, steady, replace(prepared(at(10)), before={}), at(10))
    assert decision.plan is not None
    assert decision.duties == frozenset(), "nothing is begun in the step that writes ahead"
    assert [i.state for i in decision.state.injections] == [InjectionState.PLANNED] * 2
    assert decision.state.status.phase is Phase.INJECTING
    again = advance(SPEC, steady, replace(prepared(at(10)), before={}), at(10 + FRESH))
    assert [i.name for i in again.state.injections] == [i.name for i in decision.state.injections]


def test_delays_that_add_up_are_a_line_of_the_timeline() -> None:
    slow, more = (
        FaultEntry.model_validate({"name": name, "target": "web", "networkDelay": {"delayMilliseconds": 100}})
        for name in ("slow", "more")
    )
    steady = step(NEW, prepared(), at(0)).state
    chosen = [Chosen(fault, pod(), VehicleKind.SIDECAR, "", Rung.RELAY) for fault in (slow, more)]
    found = replace(preparation(SPEC, now=at(10)), chosen=tuple(chosen))
    decision = advance(SPEC, steady, replace(prepared(at(10)), preparation=found, before={}), at(10))
    (line,) = [line for line in decision.state.status.timeline if line.event == "DelaysAddUp"]
    assert line.message == "slow and more delay the same packets of web-1: 100 ms and 100 ms add up to 200 ms"


def test_a_whole_run_passes() -> None:
    decision = step(over(), Seen(health=health()), at(21.2))
    assert decision.state.status.phase is Phase.RECOVERING
    recovered = health(recovered=Interval(at(22), at(22.2)), symptom=Interval(at(11), at(11.5)), healthy_for=3.5)
    decision = step(decision.state, Seen(health=recovered), at(26))
    assert decision.state.status.phase is Phase.FINISHED
    status = decision.state.status
    assert status.verdict is Verdict.PASSED
    assert [m.mark for m in status.marks] == [
        Mark.PLANNED, Mark.ACTIVE, Mark.FIRST_SYMPTOM, Mark.CLEARED, Mark.RECOVERED, Mark.STABLE,
    ]  # fmt: skip
    assert [line.event for line in status.timeline if line.event in list(Phase)] == [
        phase for phase in Phase if phase not in ("Pending", "Repairing", "Repeating")
    ]
    assert decision.duties == {Duty.RELEASE}
    assert step(decision.state, Seen(released=True), at(27)).duties == frozenset()


def test_a_stable_window_before_the_fault_was_cleared_is_not_enough() -> None:
    state = step(over(), Seen(health=health()), at(21.2)).state
    under_fault = health(recovered=Interval(at(12), at(12.2)), healthy_for=9.0)
    assert step(state, Seen(health=under_fault), at(22)).state.status.phase is Phase.RECOVERING
    assert step(state, Seen(health=under_fault), at(24.5)).state.status.phase is Phase.FINISHED


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        ({"cancel": True}, "Cancelled"),
        ({"deleted": True}, "Deleted"),
        ({"freeze": "incident"}, "Frozen"),
    ],
)
def test_a_run_that_is_ended_is_cleared_first(seen: dict[str, Any], reason: str) -> None:
    decision = step(active(), Seen(health=health(), **seen), at(12))
    assert decision.state.status.phase is Phase.CLEARING
    assert Duty.STOP in decision.duties
    cleared = lines(decision.state, (Told.CLEARED, 13, {"why": "Stopped"}), (Told.VERIFIED, 13.1, {"leftovers": []}))
    recovered = health(recovered=Interval(at(13), at(13.2)))
    for now in (14, 20):
        cleared = step(cleared, Seen(health=recovered, **seen), at(now)).state
    assert cleared.status.phase is Phase.FINISHED
    assert (cleared.status.verdict, cleared.status.ending.reason) == (Verdict.ABORTED, reason)  # type: ignore[union-attr]


def test_the_same_ends_it_before_anything_was_touched() -> None:
    for state in (NEW, step(NEW, prepared(), at(0)).state):
        decision = step(state, replace(prepared(), cancel=True), at(1))
        assert decision.state.status.verdict is Verdict.ABORTED
        assert not decision.state.injections


def test_an_abort_condition_counts_only_the_probe_that_it_names() -> None:
    spec = experiment(abortWhen=[{"check": "healthy", "probe": "home", "failingSeconds": 2}])
    other = health(failing_for={("healthy", "cart"): 9.0})
    assert step(active(), Seen(health=other), at(12), spec).state.status.phase is Phase.ACTIVE
    named = health(failing_for={("healthy", "home"): 2.5})
    decision = step(active(), Seen(health=named), at(12), spec)
    assert decision.state.status.ending.reason == "AbortCondition"  # type: ignore[union-attr]


def test_a_system_that_is_not_steady_is_left_alone() -> None:
    state = step(NEW, prepared(), at(0)).state
    ill = Seen(claimed=True, health=health(healthy_for=0.0, unhealthy=("healthy/home: connection refused",)))
    assert step(state, ill, at(59)).state.status.phase is Phase.STEADY
    done = step(state, ill, at(61)).state
    assert (done.status.verdict, done.injections) == (Verdict.ABORTED, ())
    assert "connection refused" in done.status.message


@pytest.mark.parametrize(
    ("symptoms", "told"),
    [
        (["home: HTTP 503"], "it never held for holdSeconds: healthy/home: HTTP 503"),
        ([], "it never held for holdSeconds: nothing failed, but nobody looked for so long"),
    ],
)
def test_a_system_that_keeps_failing_for_a_moment_is_told_with_what_was_seen(symptoms: list[str], told: str) -> None:
    flapping = Seen(claimed=True, health=health(healthy_for=0.5, views=(CheckView(name="healthy", symptoms=symptoms),)))
    assert told in step(step(NEW, prepared(), at(0)).state, flapping, at(61)).state.status.message


def test_a_refusal_is_tried_again_for_a_while_and_then_final() -> None:
    refused = Seen(preparation=Refusal("spec.checks[0].name", "CheckNotFound", "there is no RecoveryCheck healthy"))
    decision = step(NEW, refused, at(0))
    assert (decision.state.status.phase, decision.duties) == (Phase.PENDING, frozenset({Duty.PREPARE}))
    done = step(decision.state, refused, at(REFERENCE_GRACE + 1)).state
    assert (done.status.phase, done.status.verdict) == (Phase.FINISHED, Verdict.ABORTED)
    assert done.status.message.startswith("Aborted: spec.checks[0].name: ")


def test_one_broken_injection_clears_the_others() -> None:
    state = planned()
    first, second = state.injections
    broken = fold(first, Line(Told.FAILED, at(11), first.name, detail={"message": "no nft here"}), at(11))
    in_force = fold(second, Line(Told.IN_FORCE, at(11), second.name), at(11))
    decision = step(replace(state, injections=(broken, in_force)), Seen(health=health()), at(11))
    assert decision.state.status.phase is Phase.CLEARING
    assert Duty.STOP in decision.duties


def test_nobody_waits_for_ever_for_a_kubelet_that_is_gone() -> None:
    state = active()
    late = at(1000)
    decision = step(state, Seen(health=health()), late)
    assert {i.reason for i in decision.state.injections} == {"Unobserved"}
    waiting = step(decision.state, Seen(health=health()), late.plus(1))
    assert Duty.VERIFY in waiting.duties
    assert step(waiting.state, Seen(health=health()), late.plus(60)).state.status.phase is Phase.RECOVERING


@pytest.mark.parametrize(("fate", "reason"), [(AgentFate.KILLED, "AgentLost"), (AgentFate.GONE, "TargetGone")])
def test_who_could_not_be_asked_is_heard_before_the_verdict_once_its_node_is_back(fate: AgentFate, reason: str) -> None:
    """A pod of ours that looked there may be faster than the log of the agent."""
    late = at(1000)
    looked = lines(step(active(), Seen(health=health()), late).state, (Told.VERIFIED, 1001, {"leftovers": []}))
    waiting = step(looked, Seen(health=health()), late.plus(2))
    assert {i.cleanup for i in waiting.state.injections} == {Cleanup.CLEAN}
    assert (waiting.state.status.phase, Duty.CARRY in waiting.duties) == (Phase.CLEARING, True)
    told = lines(waiting.state, (Told.HITS, 20, {"hits": 7}))
    heard = replace(told, injections=tuple(fold_end(i, AgentEnd(fate, "137"), late.plus(3)) for i in told.injections))
    assert {(i.hits, i.reason) for i in heard.injections} == {(7, reason)}
    assert step(heard, Seen(health=health()), late.plus(3)).state.status.phase is Phase.RECOVERING


def test_a_target_that_disappears_ends_its_injection_and_leaves_nothing() -> None:
    gone = fold_end(active().injections[0], AgentEnd(AgentFate.GONE), at(13))
    assert (gone.state, gone.reason, gone.cleanup) == (InjectionState.CLEARED, "TargetGone", Cleanup.CLEAN)


def test_an_agent_that_was_killed_is_looked_after() -> None:
    lost = fold_end(active().injections[0], AgentEnd(AgentFate.KILLED, "exit code 137"), at(13))
    assert (lost.state, lost.cleanup) == (InjectionState.CLEARED, Cleanup.UNVERIFIED)


def test_reading_a_log_twice_changes_nothing() -> None:
    once = over()
    told: tuple[tuple[Told, float, dict[str, Any]], ...] = (
        (Told.IN_FORCE, 11, {}),
        (Told.HITS, 11.2, {"hits": 3}),
        (Told.CLEARED, 21, {"why": "Duration"}),
    )
    twice = lines(once, *told, (Told.VERIFIED, 21.1, {"leftovers": []}))
    assert twice.injections == once.injections


def test_the_clock_of_another_node_is_bounded_by_causality() -> None:
    skewed = injection(state=InjectionState.PLANNED, in_force_at=None, first_hit_at=None, cleared_at=None,
                       clock_offset_milliseconds=None, planned_utc=at(0).utc)  # fmt: skip
    ahead = 5.0
    line = Line(Told.IN_FORCE, Instant("boot-2", 77, at(1).utc + ahead), skewed.name)
    told = fold(skewed, line, at(1.2))
    least = told.clock_offset_milliseconds - told.clock_error_milliseconds  # type: ignore[operator]
    most = told.clock_offset_milliseconds + told.clock_error_milliseconds  # type: ignore[operator]
    assert least <= ahead * 1000 <= most
    assert told.in_force_at == Moment.of(line.at)


def test_stepping_again_with_nothing_new_changes_nothing() -> None:
    for state in (step(NEW, prepared(), at(0)).state, planned(), active(), over()):
        first = step(state, Seen(claimed=True, health=health()), at(12))
        second = step(first.state, Seen(claimed=True, health=health()), at(12))
        assert second.state.status.phase is first.state.status.phase
        assert second.duties == first.duties


def test_a_ramp_leaves_a_line_for_each_step_and_turns_leave_none() -> None:
    def noted(pattern: object) -> list[str]:
        cut = {"name": "cut", "target": "web", "networkPartition": {}, "durationSeconds": 10, "pattern": pattern}
        spec = experiment(faults=[cut])
        state = active()
        for second, percent in ((11, 10), (12, 55), (13, 55), (14, 100)):
            told = Line(Told.STEP, at(second), state.injections[0].name, detail={"percent": percent})
            state = replace(state, injections=(fold(state.injections[0], told, at(second)), *state.injections[1:]))
            state = advance(spec, state, Seen(health=health()), at(second)).state
        return [line.message for line in state.status.timeline if line.event == "Step"]

    turns = {"onOff": {"onMilliseconds": 1000, "offMilliseconds": 1000}}
    ramp = {"ramp": {"fromPercent": 10, "toPercent": 100, "steps": 3}}
    assert noted(turns) == []
    assert [line.split(" at ")[1] for line in noted(ramp)] == [f"{n} % of its strength" for n in (10, 55, 100)]


def test_an_injection_that_drains_is_not_given_up_before_it_can_be_over() -> None:
    cut = {"name": "cut", "target": "web", "networkPartition": {}, "durationSeconds": 10, "relay": {"drainSeconds": 30}}
    spec = experiment(faults=[cut])
    state = active()
    relayed = replace(state, injections=tuple(i.model_copy(update={"rung": Rung.RELAY}) for i in state.injections))

    def states(before: State, second: float) -> set[InjectionState]:
        return {i.state for i in advance(spec, before, Seen(health=health()), at(second)).state.injections}

    assert states(state, 27) == {InjectionState.CLEARED}, "in force since 11, for 10 s, and nobody has told more"
    assert states(relayed, 50) == {InjectionState.ACTIVE}
    assert states(relayed, 57) == {InjectionState.CLEARED}


def test_where_nothing_was_ever_in_force_there_is_nothing_to_recover_from() -> None:
    failed = lines(planned(), (Told.FAILED, 11, {"message": "no nft"}), (Told.VERIFIED, 11.1, {"leftovers": []}))
    well = health(recovered=None, stable_seconds=3, healthy_for=6)
    recovering = step(failed, Seen(health=well), at(11.3)).state
    assert recovering.status.phase is Phase.RECOVERING
    ill = health(recovered=None, stable_seconds=3, healthy_for=0, unhealthy=("healthy/home: status 503",))
    assert step(recovering, Seen(health=ill), at(16)).state.status.phase is Phase.RECOVERING, "who knows what it did"
    done = step(recovering, Seen(health=well, after={}), at(16)).state.status
    assert (done.phase, done.verdict) == (Phase.FINISHED, Verdict.ERROR)
    assert done.axes is not None
    assert done.axes.recovery is Judgement.INCONCLUSIVE
    assert {finding.reason for finding in done.findings} == {"InjectionFailed", "FaultHitNothing", "FaultTooShort"}
