"""Who takes whose place, and when something is done again."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import islice

import pytest

from bounceback.api.status import FaultExperimentStatus, Moment
from bounceback.engine.advance import advance
from bounceback.engine.following import gap, replacements
from bounceback.engine.model import PodInfo
from bounceback.engine.planning import Chosen, Preparation, agents, injections
from bounceback.engine.state import Seen, State
from bounceback.types.outcome import InjectionState, Phase, VehicleKind
from bounceback.types.plan import Rung, act_from
from bounceback.types.repeat import Repeat
from bounceback.types.signals import Freeze, Signal
from tests.unit.engine_values import at, experiment, pod

FREEZE = {"name": "still", "target": "web", "durationSeconds": 30, "processSignal": {"signal": "Freeze"}}
SPEC = experiment(faults=[{**FREEZE, "followReplacements": True}])


def on(where: PodInfo, replaces: str = "") -> Chosen:
    (entry,) = SPEC.faults
    return Chosen(entry, where, VehicleKind.NODE_POD, "", Rung.NODE, guarded=True, owner="web", replaces=replaces)


def test_a_pod_of_the_same_owner_that_was_not_there_takes_the_place_of_one_that_is_gone() -> None:
    one, two = injections("run", [on(pod("one")), on(pod("two"))], 0.0)
    three, four, other, old = pod("three"), pod("four"), pod("other"), pod("old")
    roots = {"uid-three": "web", "uid-four": "web", "uid-other": "db", "uid-old": "web", "uid-two": "web"}
    pods = [pod("one", running=False), pod("two"), old, other, three, four]
    assert replacements([one, two], pods, roots, {"uid-old"}) == [(one, three)], "two is there; one place, one pod"
    assert replacements([one, two], [other, old], roots, {"uid-old"}) == []
    again = one.model_copy(update={"replaced_by": "three"})
    assert replacements([again, two], pods, roots, {"uid-old"}) == [], "its place is taken"
    assert replacements([again, two], [three], roots, ()) == [], "and three has one already"
    nobodys = one.model_copy(update={"owner": ""})
    assert replacements([nobodys], [three], roots, ()) == []


def test_the_pod_of_the_same_name_goes_before_others() -> None:
    (gone,) = injections("run", [on(pod("db-1"))], 0.0)
    same = replace(pod("db-1"), uid="new")
    assert replacements([gone], [pod("db-0"), same], {"uid-db-0": "web", "new": "web"}, ()) == [(gone, same)]


def test_what_takes_a_place_is_planned_once_for_the_rest_of_the_time_with_an_agent_of_its_own() -> None:
    planned = injections("run", [on(pod("one"))], at(0).utc)
    state = State(FaultExperimentStatus(run_uid="run", phase=Phase.ACTIVE), planned)
    later = SPEC.faults[0].model_copy(update={"duration_seconds": 20})
    more = Preparation((replace(on(pod("two"), replaces=planned[0].name), fault=later),))
    decision = advance(SPEC, state, Seen(more=more), at(10))
    assert decision.plan is not None, "it is to be written ahead"
    one, two = decision.state.injections
    assert (two.replaces, two.owner, two.state) == (one.name, "web", InjectionState.PLANNED)
    assert two.not_after - two.start_before == 20
    assert two.agent != one.agent, "a plan is never changed once an agent has it"
    ((carried),) = agents("run", decision.plan, decision.state.injections, "home")
    act = carried.plan.orders[0].act
    assert isinstance(act, Freeze)
    assert act.follow
    assert act.waits, "its processes may not be there yet"
    repeated = advance(SPEC, decision.state, Seen(more=more), at(11))
    assert repeated.plan is None
    assert repeated.state.injections == decision.state.injections


def test_a_fault_that_follows_goes_on_while_nobody_is_there_to_be_hit() -> None:
    (gone,) = injections("run", [on(pod("one"))], at(0).utc)
    over = {"state": InjectionState.CLEARED, "reason": "TargetGone", "in_force_at": Moment.of(at(0))}
    gone = gone.model_copy(update={**over, "cleared_at": Moment.of(at(5)), "clock_offset_milliseconds": 0})
    state = State(FaultExperimentStatus(run_uid="run", phase=Phase.ACTIVE), (gone,))
    missed = Seen(missed=("two, which took the place of one: held by another experiment",))
    decision = advance(SPEC, state, missed, at(10))
    assert decision.state.status.phase is Phase.ACTIVE
    again = advance(SPEC, decision.state, missed, at(11))
    assert [line.event for line in again.state.status.timeline].count("NotFollowed") == 1
    assert advance(SPEC, state, Seen(), at(31)).state.status.phase is Phase.CLEARING


def test_the_gap_is_told_once_both_ends_of_it_are_known() -> None:
    before, after = injections("run", [on(pod("one")), on(pod("two"))], at(0).utc)
    known = {"clock_offset_milliseconds": 0}
    ended = before.model_copy(update={"cleared_at": Moment.of(at(5)), **known})
    began = after.model_copy(update={"in_force_at": Moment.of(at(7.5)), **known})
    assert gap(began, ended, at(9)) == 2500
    assert gap(after, ended, at(9)) is None


@pytest.mark.parametrize("act", [Signal(signal="KILL", again=Repeat(1, 2, 3, "x"), firsts=True), Freeze(follow=True)])
def test_an_act_comes_through_as_it_was(act: Signal | Freeze) -> None:
    assert act_from(asdict(act)) == act


def test_random_times_follow_from_the_seed_alone() -> None:
    times = list(islice(Repeat(2, 10, seed=5, name="killed").times(), 200))
    assert times == list(islice(Repeat(2, 10, seed=5, name="killed").times(), 200))
    assert times != list(islice(Repeat(2, 10, seed=6, name="killed").times(), 200))
    pauses = [after - before for before, after in zip([0.0, *times], times, strict=False)]
    assert min(pauses) >= 2
    assert max(pauses) <= 10
    assert 5 < sum(pauses) / len(pauses) < 7
    assert list(islice(Repeat(3, 3).times(), 3)) == [3, 6, 9]
