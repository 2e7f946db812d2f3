"""Faults that wait: what has come, what never will, and what follows for their injections."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import FaultExperimentStatus, InjectionStatus, StartStatus
from bounceback.controller.records import Planned, journal_record, restored
from bounceback.engine.advance import advance
from bounceback.engine.evidence import DONE, fold
from bounceback.engine.judge import judge
from bounceback.engine.planning import START_GRACE, agents
from bounceback.engine.starting import never_together, unseen
from bounceback.engine.state import Decision, Duty, Seen, State
from bounceback.types.outcome import Cleanup, InjectionState, Mark, Phase, StartState, Verdict
from bounceback.types.told import Line, Told
from tests.unit.engine_values import START, at, check, experiment, health, pod, preparation

Json = dict[str, Any]
HOME = ("healthy", "home")


def fault(name: str, **more: Any) -> Json:
    return {"name": name, "target": "web", "networkPartition": {}, "durationSeconds": 10, **more}


def course(**when: Any) -> FaultExperimentSpec:
    """first, and then second."""
    more = {"startAfterSeconds": when.pop("after", 0)}
    return experiment(faults=[fault("first"), fault("second", startWhen={"withinSeconds": 60, **when}, **more)])


def planned(spec: FaultExperimentSpec) -> State:
    """At second 0, on one pod."""
    ready = Seen(preparation=preparation(spec, pod("web-1"), now=START), claimed=True, health=health(), before={})
    state = State(FaultExperimentStatus(run_uid="uid"))
    for _ in range(3):
        decision = advance(spec, state, ready, START)
        state = decision.state
        if decision.plan is not None:
            return state
    raise AssertionError("nothing is planned")


def tell(state: State, fault: str, told: Told, seconds: float, **detail: Any) -> State:
    line = {i.name: Line(told, at(seconds), i.name, detail=detail) for i in state.injections if i.fault == fault}
    folded = (fold(i, line[i.name], at(seconds)) if i.name in line else i for i in state.injections)
    return replace(state, injections=tuple(folded))


def cleared(state: State, fault: str, seconds: float) -> State:
    state = tell(state, fault, Told.CLEARED, seconds, why="Duration")
    return tell(state, fault, Told.VERIFIED, seconds, leftovers=[])


def step(spec: FaultExperimentSpec, state: State, seconds: float, **seen: Any) -> Decision:
    """All steps that are due then."""
    for _ in range(6):
        decision = advance(spec, state, Seen(health=health(**seen)), at(seconds))
        if decision.state == state and decision.again > 0:
            return decision
        state = decision.state
    raise AssertionError("it never comes to rest")


def under_way(spec: FaultExperimentSpec) -> State:
    """`first` is in force since second 1."""
    return step(spec, tell(planned(spec), "first", Told.IN_FORCE, 1), 1.1).state


def of(state: State, fault: str) -> InjectionStatus:
    return next(i for i in state.injections if i.fault == fault)


def start(state: State) -> StartStatus:
    (found,) = state.status.starts
    return found


def test_what_waits_is_planned_with_all_others_and_with_the_latest_times_that_there_can_be() -> None:
    state = planned(course(cleared="first", after=5))
    second = of(state, "second")
    assert (second.state, second.waiting) == (InjectionState.PLANNED, True)
    assert second.start_at == pytest.approx(at(65).utc)
    assert second.start_before == pytest.approx(at(65).utc + START_GRACE)
    assert second.not_after == pytest.approx(at(65).utc + START_GRACE + 10)
    assert not of(state, "first").waiting
    assert (start(state).state, start(state).message) == (StartState.WAITING, "first is cleared")


def test_an_agent_is_told_which_of_its_orders_wait() -> None:
    spec = course(cleared="first")
    state = planned(spec)
    (carried,) = agents("uid", preparation(spec, pod("web-1")), state.injections, "bounceback-system")
    assert {order.fault: order.waits for order in carried.plan.orders} == {"first": False, "second": True}


def test_one_after_the_other() -> None:
    spec = course(cleared="first", after=5)
    state = under_way(spec)
    assert state.status.phase is Phase.ACTIVE, "what waits is not waited for before the run is Active"
    assert start(state).state is StartState.WAITING
    state = step(spec, cleared(state, "first", 11), 11.2).state
    assert (start(state).state, start(state).message) == (StartState.REACHED, "first is cleared on web-1")
    second = of(state, "second")
    assert not second.waiting
    assert second.start_at == pytest.approx(at(16.2).utc)
    assert second.start_before == pytest.approx(at(16.2).utc + START_GRACE)
    assert second.not_after == pytest.approx(at(16.2).utc + START_GRACE + 10)
    assert state.status.phase is Phase.ACTIVE
    assert Mark.CLEARED not in {m.mark for m in state.status.marks}, "not all of it is over"
    later = step(spec, state, 30.0).state
    assert of(later, "second").start_at == second.start_at, "what was written down stays so"
    over = cleared(tell(state, "second", Told.IN_FORCE, 17), "second", 27)
    assert step(spec, over, 27.1).state.status.phase is Phase.RECOVERING
    assert [line.event for line in over.status.timeline].count("StartReached") == 1


def test_while_the_other_is_in_force() -> None:
    spec = course(inForce="first")
    state = step(spec, planned(spec), 0.5).state
    assert start(state).state is StartState.WAITING
    state = step(spec, tell(state, "first", Told.IN_FORCE, 1), 1.1).state
    assert start(state).state is StartState.REACHED
    assert of(state, "second").start_at == pytest.approx(at(1.1).utc)


def test_when_a_probe_has_failed_for_long_enough() -> None:
    spec = course(failing={"check": "healthy", "probe": "home", "forSeconds": 3})
    state = under_way(spec)
    for failing, expected in (({}, "Waiting"), ({HOME: 2.9}, "Waiting"), ({("healthy", "cart"): 9.0}, "Waiting")):
        assert start(step(spec, state, 5, failing_for=failing).state).state == expected
    decision = step(spec, state, 5, failing_for={HOME: 2.9})
    assert decision.again == pytest.approx(0.1), "it comes again just when the three seconds will be over"
    decision = step(spec, state, 5.1, failing_for={HOME: 3.0})
    assert start(decision.state).message == "healthy/home failed for 3.0 s"
    healthy_again = step(spec, decision.state, 6).state
    assert start(healthy_again).state is StartState.REACHED, "what has come has come"


def test_when_the_system_itself_has_said_that_something_is_wrong() -> None:
    spec = course(detected={"check": "healthy"})
    state = under_way(spec)
    assert start(step(spec, state, 5).state).state is StartState.WAITING
    state = step(spec, state, 5, holding_for={("healthy", "alarm"): 0.0}).state
    assert (start(state).state, start(state).message) == (StartState.REACHED, "healthy/alarm has held for 0.0 s")
    spec = course(detected={"check": "healthy", "signal": "alarm", "forSeconds": 2})
    for holding, expected in (({("healthy", "other"): 5.0}, "Waiting"), ({("healthy", "alarm"): 2.0}, "Reached")):
        assert start(step(spec, under_way(spec), 5, holding_for=holding).state).state == expected


def test_what_does_not_come_in_time_never_starts_and_the_run_proves_nothing() -> None:
    spec = course(failing={"check": "healthy", "forSeconds": 3})
    state = step(spec, cleared(under_way(spec), "first", 11), 59.9).state
    assert state.status.phase is Phase.ACTIVE, "until its limit it may still come"
    state = step(spec, state, 60.1).state
    second = of(state, "second")
    assert (second.state, second.reason, second.cleanup) == (InjectionState.CLEARED, "NotStarted", Cleanup.CLEAN)
    assert state.status.phase is Phase.RECOVERING
    judged = judge(spec, state.status, state.injections, health())
    found = [f for f in judged.findings if f.reason == "NotStarted"]
    assert (judged.verdict, len(found)) == (Verdict.INCONCLUSIVE, 1)
    assert found[0].message == (
        "second never started: it was not seen within 60 s of the beginning that healthy/any probe fails for 3 s"
    )
    assert judged.axes is not None
    assert judged.axes.injection == "Unproven"


def test_what_comes_after_its_limit_does_not_count() -> None:
    spec = course(failing={"check": "healthy"})
    state = step(spec, under_way(spec), 60.1, failing_for={HOME: 30.0}).state
    assert start(state).state is StartState.NOT_STARTED


def test_what_waits_for_a_fault_that_never_starts_never_starts_either() -> None:
    chain = [
        fault("first"),
        fault("second", startWhen={"failing": {"check": "healthy"}, "withinSeconds": 20}),
        fault("third", startWhen={"inForce": "second"}),
        fault("fourth", startWhen={"cleared": "third"}),
    ]
    spec = experiment(faults=chain)
    state = step(spec, cleared(under_way(spec), "first", 11), 20.1).state
    told = {s.fault: (s.state, s.message) for s in state.status.starts}
    assert told["third"] == (StartState.NOT_STARTED, "second never started")
    assert told["fourth"] == (StartState.NOT_STARTED, "third never started")
    assert all(i.state in DONE for i in state.injections)


def test_what_waits_for_a_fault_that_hit_nobody_never_starts() -> None:
    spec = course(cleared="first")
    gone = tell(planned(spec), "first", Told.CLEARED, 1, why="TargetGone")
    state = step(spec, gone, 2).state
    assert (start(state).state, start(state).message) == (StartState.NOT_STARTED, "first was never in force")


@pytest.mark.parametrize("more", [{"cancel": True}, {"freeze": "incident"}, {"deleted": True}])
def test_a_run_that_is_ended_begins_nothing_more(more: Json) -> None:
    spec = course(cleared="first")
    decision = advance(spec, under_way(spec), Seen(health=health(), **more), at(5))
    assert decision.state.status.phase is Phase.CLEARING
    assert of(decision.state, "second").reason == "NotStarted"
    assert of(decision.state, "first").state is InjectionState.ACTIVE, "that is what is to be stopped"
    again = tell(decision.state, "second", Told.REFUSED, 6, reason="Stopped", message="ended before it was due")
    assert of(again, "second").reason == "NotStarted", "that its agent was ended is no failure of it"
    late = cleared(again, "first", 6)
    assert step(spec, late, 7, failing_for={HOME: 30.0}).state.status.starts == decision.state.status.starts


def test_the_step_in_which_something_comes_names_no_plan_so_that_it_is_written_first() -> None:
    spec = course(inForce="first")
    state = tell(planned(spec), "first", Told.IN_FORCE, 1)
    state = advance(spec, state, Seen(health=health()), at(1.1)).state
    decision = advance(spec, state, Seen(health=health(), more=preparation(spec, pod("web-9"))), at(1.1))
    assert start(decision.state).state is StartState.REACHED
    assert decision.plan is None
    assert decision.duties == {Duty.LOOK, Duty.CARRY}
    assert decision.again > 0


def test_an_operator_that_begins_anew_knows_from_the_status_what_has_come() -> None:
    """The journal has what was planned, and is not written again when something has come."""
    spec = course(inForce="first", after=3)
    first = planned(spec)
    record = journal_record(first.injections, Planned())
    state = step(spec, tell(first, "first", Told.IN_FORCE, 1), 1.1).state
    status = FaultExperimentStatus.model_validate(state.status.to_json())
    for listed in ((), state.injections):  # those beyond the first hundred stand in the journal alone
        injections, _ = restored(record, listed)
        again = advance(spec, State(status, injections), Seen(), at(20)).state
        assert not of(again, "second").waiting
        assert of(again, "second").start_at == pytest.approx(at(4.1).utc)
    injections, _ = restored(record, ())
    before = first.status  # nothing had come then
    assert of(advance(spec, State(before, injections), Seen(), at(20)).state, "second").waiting


def test_a_target_that_went_while_its_fault_waited_is_no_failure() -> None:
    state = tell(under_way(course(cleared="first")), "second", Told.REFUSED, 5, reason="Terminated")
    assert of(state, "second").state is InjectionState.CLEARED


def test_faults_of_which_one_follows_on_the_other_are_never_together() -> None:
    chain = [
        fault("first"),
        fault("second", startWhen={"cleared": "first"}),
        fault("third", startWhen={"inForce": "second"}),
        fault("fourth", startWhen={"inForce": "first"}),
    ]
    entries = {entry.name: entry for entry in experiment(faults=chain).faults}
    apart = {(a, b) for a in entries for b in entries if never_together(entries, entries[a], entries[b])}
    assert apart == {(a, b) for pair in (("first", "second"), ("first", "third")) for a, b in (pair, pair[::-1])}


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_in_whatever_order_nothing_begins_early_and_every_run_comes_to_an_end(seed: int) -> None:
    """A random course of faults, events and restarts; after each step what must always hold is held."""
    dice = random.Random(seed)
    names = ["f0", "f1", "f2", "f3"]
    faults = [fault("f0")]
    for n, name in enumerate(names[1:], 1):
        way = dice.choice(["cleared", "inForce", "failing", None])
        when: Json = {"failing": {"check": "healthy", "forSeconds": dice.randint(1, 4)}}
        when = when if way == "failing" else {str(way): dice.choice(names[:n])}
        when["withinSeconds"] = dice.randint(5, 60)
        after = {"startAfterSeconds": dice.randint(0, 5)}
        faults.append(fault(name, **after) if way is None else fault(name, startWhen=when, **after))
    spec = experiment(faults=faults)
    state = planned(spec)
    record = journal_record(state.injections, Planned())
    begun: dict[str, float] = {}
    settled: dict[str, StartStatus] = {}
    for tick in range(1, 400):
        now = tick * 0.5
        failing = {HOME: dice.uniform(0, 6)} if dice.random() < 0.1 else {}
        for i in state.injections:
            due = not i.waiting and i.state is InjectionState.PLANNED and i.start_at <= at(now).utc
            if due and dice.random() < 0.7:
                assert at(now).utc <= i.start_before
                state, begun[i.fault] = tell(state, i.fault, Told.IN_FORCE, now), now
            elif i.state is InjectionState.ACTIVE and dice.random() < 0.1:
                state = cleared(state, i.fault, now)
        if dice.random() < 0.1:  # another operator
            injections, _ = restored(record, state.injections)
            state = State(FaultExperimentStatus.model_validate(state.status.to_json()), injections)
        state = advance(spec, state, Seen(health=health(failing_for=failing)), at(now)).state
        for each in state.status.starts:
            if each.fault in settled:
                assert each == settled[each.fault], "what is settled stays so"
            elif each.state is not StartState.WAITING:
                settled[each.fault] = each
            entry = next(f for f in spec.faults if f.name == each.fault)
            assert entry.start_when is not None
            if each.fault in begun:
                assert each.state is StartState.REACHED
                assert begun[each.fault] <= entry.latest_start_seconds + START_GRACE
                if entry.start_when.fault is not None:
                    assert begun[entry.start_when.fault] <= begun[each.fault]
            if now > entry.start_when.within_seconds + 1 and state.status.phase is Phase.ACTIVE:
                assert each.state is not StartState.WAITING, "its limit is over"
        if state.status.phase is Phase.RECOVERING:
            assert all(i.state in DONE and not i.waiting for i in state.injections)
            return
    raise AssertionError("it never came to an end")


def test_a_strategy_is_no_detection_that_a_fault_would_wait_for_but_by_its_name() -> None:
    spec = course(detected={"check": "healthy"})
    told = {"holding_for": {("healthy", "retries"): 5.0}, "reacting": frozenset({("healthy", "retries")})}
    assert start(step(spec, under_way(spec), 5, **told).state).state is StartState.WAITING
    spec = course(detected={"check": "healthy", "signal": "retries"})
    assert start(step(spec, under_way(spec), 5, **told).state).state is StartState.REACHED


def test_what_only_a_strategy_could_tell_is_refused_where_detection_is_waited_for() -> None:
    signal = {"name": "retries", "tells": "Strategy", "http": {"url": "http://web/retries"}}
    checks = {"healthy": check(detection=[signal]).spec}
    ((_, message),) = unseen(course(detected={"check": "healthy"}), checks)
    assert message == "must be one of the detection of healthy: (it has none)"
    assert not list(unseen(course(detected={"check": "healthy", "signal": "retries"}), checks))
