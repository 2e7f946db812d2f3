"""The snapshot at clear: when it is taken, what becomes of it, and that nothing passes for want of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.reference_run import ReferenceStatus
from bounceback.api.status import Happening, InjectionStatus, Moment
from bounceback.engine.advance import advance
from bounceback.engine.cel import check_syntax
from bounceback.engine.judge import judge
from bounceback.engine.snapshots import LATE, MOST_BYTES
from bounceback.engine.state import Decision, Duty, Seen, Snapshot, State
from bounceback.types.instants import Interval
from bounceback.types.outcome import Cleanup, InjectionState, Judgement, Mark, Phase, Verdict
from tests.unit.engine_values import at, check, experiment, finished, health, injection
from tests.unit.test_advance import over

OBSERVED = {"observations": [{"name": name, "http": {"url": f"http://web/{name}"}} for name in ("orders", "stock")]}
LOST_LATER = "sets.contains(after.orders.ids, clear.orders.ids)"
SPEC = experiment()
RECOVERED = health(recovered=Interval(at(12.4), at(12.6)), healthy_for=3.5)


def asked(*expressions: str, **more: Any) -> Any:
    invariants = [{"name": f"i{number}", "expression": each} for number, each in enumerate(expressions)]
    return check(**OBSERVED, invariants=invariants, **more)


def taken(values: Mapping[str, Any], problems: Mapping[str, str] | None = None, at_second: float = 11.2) -> Snapshot:
    told = {"healthy": dict(problems)} if problems else {}
    return Snapshot(Interval(at(at_second), at(at_second + 0.3)), {"healthy": dict(values)}, told)


def cleared(phase: Phase = Phase.RECOVERING, *, since: float = 11.1, **more: Any) -> State:
    """The last fault was cleared at second 11."""
    values: dict[str, Any] = {
        "phase": phase,
        "phase_since": Moment.of(at(since)),
        "marks": [each for each in finished().marks if each.mark is not Mark.RECOVERED],
        "observed": {"before": {"healthy": {"orders": {"ids": [1]}, "stock": 5}}},
    }
    status = finished([more.pop("check", asked(LOST_LATER))]).model_copy(update=values | more)
    return State(status, (injection(),))


def in_force() -> InjectionStatus:
    return injection("other", state=InjectionState.ACTIVE, cleared_at=None, not_after=at(99).utc)


def step(state: State, seen: Seen, now: float, spec: Any = SPEC) -> Decision:
    for _ in range(5):
        decision = advance(spec, state, seen, at(now))
        state = decision.state
        if decision.again > 0:
            return decision
    raise AssertionError("it never comes to rest")


@pytest.mark.parametrize("phase", [Phase.CLEARING, Phase.RECOVERING])
def test_it_is_taken_as_soon_as_all_is_cleared_and_once(phase: Phase) -> None:
    seen = Seen(health=health(healthy_for=0.0))
    assert Duty.OBSERVE_CLEAR in step(cleared(phase), seen, 11.1).duties
    decision = step(cleared(phase), replace(seen, clear=taken({"orders": {"ids": [1]}, "stock": 4})), 11.6)
    assert Duty.OBSERVE_CLEAR not in decision.duties
    observed = decision.state.status.observed
    assert observed["clear"] == {"healthy": {"orders": {"ids": [1]}, "stock": 4}}
    assert observed["clearSeconds"] == [0.2, 0.5]
    (line,) = [line for line in decision.state.status.timeline if line.event == "ObservedAtClear"]
    assert line.message == "2 of 2 observations read 0.2 to 0.5 s after all was cleared"
    again = step(decision.state, replace(seen, clear=taken({"orders": 9})), 12)
    assert again.state.status.observed == observed, "what was written down stays"
    assert Duty.OBSERVE_CLEAR not in step(decision.state, seen, 12).duties, "whoever goes on does not take another"


def test_it_is_taken_before_a_repair_and_while_what_is_left_is_looked_for() -> None:
    manual = experiment(expect="Manual", repair={"byHand": {"instruction": "Renew it."}})
    seen = Seen(health=health(unhealthy=("home",)))
    assert Duty.OBSERVE_CLEAR in step(cleared(Phase.REPAIRING), seen, 11.5, manual).duties
    unverified = State(cleared(Phase.CLEARING).status, (injection(cleanup=Cleanup.UNVERIFIED),))
    assert {Duty.VERIFY, Duty.OBSERVE_CLEAR} <= step(unverified, seen, 11.5).duties


def test_what_agents_say_is_enough_to_know_that_it_is_time() -> None:
    """A run from its plan on, by the lines of two agents, whose last one was cleared at second 21."""
    state = over()
    state = replace(state, status=state.status.model_copy(update={"checks": [asked(LOST_LATER)]}))
    seen = Seen(health=health(healthy_for=0.0))
    decision = step(state, seen, 21.2)
    assert decision.state.status.phase is Phase.RECOVERING and Duty.OBSERVE_CLEAR in decision.duties
    found = replace(seen, clear=taken({"orders": {"ids": [1]}, "stock": 5}, at_second=21.3))
    observed = step(decision.state, found, 21.7).state.status.observed
    assert observed["clear"]["healthy"]["stock"] == 5 and observed["clearSeconds"][0] <= 0.3


@pytest.mark.parametrize(
    "state",
    [
        State(cleared(Phase.CLEARING).status, (injection(), in_force())),
        State(cleared(Phase.ACTIVE).status, (injection(), in_force())),
        State(cleared(marks=[]).status, (injection(state="Failed", in_force_at=None, cleared_at=None),)),
        cleared(check=check()),
    ],
    ids=["one fault is in force yet", "more are to come", "none was ever in force", "nothing is observed"],
)
def test_it_is_not_taken_where_there_is_no_such_moment(state: State) -> None:
    assert Duty.OBSERVE_CLEAR not in advance(SPEC, state, Seen(health=health(healthy_for=0.0)), at(11.2)).duties


def test_the_recovery_does_not_wait_for_it_and_the_last_reading_does() -> None:
    seen = Seen(health=RECOVERED)
    decision = step(cleared(), seen, 16)
    marks = {each.mark: each.interval() for each in decision.state.status.marks}
    assert marks[Mark.RECOVERED] == RECOVERED.recovered, "though sources have not answered yet"
    assert decision.state.status.phase is Phase.VERIFYING
    assert decision.duties == {Duty.LOOK, Duty.OBSERVE_CLEAR}
    found = replace(seen, clear=taken({"orders": {"ids": [1]}, "stock": 5}))
    read = step(decision.state, found, 16.5)
    assert read.duties == {Duty.LOOK, Duty.OBSERVE_AFTER}
    after = {"healthy": {"orders": {"ids": [1, 2]}, "stock": 5}}
    assert step(read.state, replace(found, after=after), 17).state.status.verdict is Verdict.PASSED


def test_one_that_never_comes_is_given_up_and_said_so() -> None:
    seen = Seen(health=RECOVERED, after={"healthy": {"orders": {"ids": [1]}}})
    state = step(cleared(), replace(seen, after=None), 16).state
    assert step(state, replace(seen, after=None), 25.9).state.status.phase is Phase.VERIFYING
    status = step(state, seen, 26.1).state.status
    assert (status.phase, status.verdict) == (Phase.FINISHED, Verdict.INCONCLUSIVE)
    assert status.invariants[0].message == "clear.orders: it was not read in time"


def test_an_operator_that_comes_late_says_so_and_one_in_time_takes_it() -> None:
    values = {"orders": {"ids": [1]}, "stock": 5}
    in_time = step(cleared(), Seen(health=RECOVERED, clear=taken(values, at_second=11 + LATE)), 17).state.status
    assert in_time.observed["clear"] == {"healthy": values}
    late = step(cleared(), Seen(health=RECOVERED, clear=taken(values, at_second=40)), 41).state.status
    assert late.observed["clear"] == {}
    (line,) = [line for line in late.timeline if line.event == "ObservedAtClear"]
    assert "not healthy/orders: it was read 29 s after all was cleared, which was known late only" in line.message


def test_one_that_waited_for_more_to_come_is_in_time() -> None:
    """The last pod was deleted at second 11, and another might have been until second 20."""
    told = Happening(time="", elapsed_milliseconds=20_000, event="Clearing", message="all faults are over")
    state = cleared(since=20.1, started_at=Moment.of(at(0)), timeline=[told])
    found = taken({"orders": {"ids": [1]}, "stock": 5}, at_second=20.2)
    observed = step(state, Seen(health=health(healthy_for=0.0), clear=found), 20.6).state.status.observed
    assert observed["clear"]["healthy"]["stock"] == 5 and observed["clearSeconds"] == [9.2, 9.5]


def verdict_of(expression: str, clear: Any, problems: Mapping[str, str] | None = None, after: Any = None) -> Any:
    ids = {"orders": {"ids": [1]}, "stock": 5}
    observed: dict[str, Any] = {"before": {"healthy": ids}, "after": {"healthy": after or ids}}
    if clear is not None:
        observed |= {"clear": {"healthy": clear}, "clearProblems": {"healthy": dict(problems or {})}}
    status = finished([asked(expression)]).model_copy(update={"observed": observed})
    judged = judge(SPEC, status, [injection()], health())
    return judged.verdict, judged.invariants[0].result, judged.invariants[0].message


def test_what_the_recovery_loses_is_told_from_what_the_fault_did() -> None:
    at_clear = {"orders": {"ids": [1, 2]}, "stock": 4}
    kept = {"orders": {"ids": [1, 2, 3]}, "stock": 5}
    assert verdict_of(LOST_LATER, at_clear, after=kept)[:2] == (Verdict.PASSED, Judgement.PASSED)
    assert verdict_of(LOST_LATER, at_clear)[:2] == (Verdict.FAILED, Judgement.FAILED)
    assert verdict_of("clear.stock == before.stock", at_clear)[:2] == (Verdict.FAILED, Judgement.FAILED)
    assert verdict_of("clear.stock == before.stock", {"stock": 5})[:2] == (Verdict.PASSED, Judgement.PASSED)


REFUSED = {"orders": "connection refused"}


@pytest.mark.parametrize(
    "expression",
    [
        LOST_LATER,
        "!has(clear.orders) || after.stock == 5",
        "after.stock == 5 || clear['orders'].ids == []",
        "clear.all(name, name != 'orders') && after.stock == 5",
        "size(clear) < 2 && after.stock == 5",
        "!('orders' in clear) && after.stock == 5",
        "{'a': clear}.a.stock == 4",
    ],
)
def test_an_invariant_that_names_what_could_not_be_read_is_undecided_and_says_why(expression: str) -> None:
    assert verdict_of(expression, {"stock": 4}, REFUSED) == (
        Verdict.INCONCLUSIVE,
        Judgement.INCONCLUSIVE,
        "clear.orders: connection refused",
    )
    result = verdict_of(expression, None)
    assert result[:2] == (Verdict.INCONCLUSIVE, Judgement.INCONCLUSIVE)
    assert result[2].startswith("nothing was observed at clear")


def test_one_that_does_not_name_it_is_judged_all_the_same() -> None:
    for clear in ({"stock": 4}, {}, None):
        assert verdict_of("after.orders.ids == before.orders.ids", clear, REFUSED)[0] is Verdict.PASSED
    assert verdict_of("clear.stock == 4", {"stock": 4}, REFUSED)[0] is Verdict.PASSED


def test_what_there_is_no_room_for_is_left_out_and_said_so_and_what_invariants_name_comes_first() -> None:
    names = [f"o{number:02}" for number in range(20)]
    observations = [{"name": name, "http": {"url": "http://web/"}} for name in names]
    large = dict.fromkeys(names, "x" * (MOST_BYTES // 16))
    state = cleared(check=check(observations=observations, invariants=[{"name": "i", "expression": "clear.o19 != ''"}]))
    observed = step(state, Seen(health=health(healthy_for=0.0), clear=taken(large)), 11.6).state.status.observed
    kept, left_out = observed["clear"]["healthy"], observed["clearProblems"]["healthy"]
    assert "o19" in kept and len(kept) == 15 and sorted({*kept, *left_out}) == names
    assert left_out["o18"].startswith("there was no room for")


def test_the_reference_run_has_one_too() -> None:
    spec = experiment(reference={"objects": [{"apiVersion": "v1", "kind": "ConfigMap"}]})
    status = cleared(marks=finished().marks[:1], reference=ReferenceStatus()).status
    assert status.is_reference
    seen = Seen(health=health(healthy_for=0.0), followed=True)
    assert Duty.OBSERVE_CLEAR in step(State(status), seen, 11.2, spec).duties


def test_the_last_reading_comes_after_the_time_to_settle() -> None:
    state = cleared(Phase.VERIFYING, check=asked("after.stock == 5", settleSeconds=4), since=15)
    state.status.observed["clear"] = {"healthy": {}}
    seen = Seen(health=RECOVERED)
    assert step(state, seen, 18.9).duties == {Duty.LOOK}
    assert step(state, seen, 19).duties == {Duty.LOOK, Duty.OBSERVE_AFTER}


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (LOST_LATER, None),
        ("clear['stock'] > 0", None),
        ("size(clear) == 2", None),
        ("'clear.ordrs' != after.stock // clear.ordrs", None),
        ("clear.ordrs.count > 0", "line 1, column 1: there is no clear.ordrs; there are orders, stock"),
        ("after.stock > 0 &&\n  clear['ordrs'] > 0", "line 2, column 3: there is no clear.ordrs; there are"),
        ("after.ordrs > 0", "line 1, column 1: there is no after.ordrs"),
        ("before.orders.ids.all(clear, clear > 0)", "clear is a variable already"),
        ("cleared.orders > 0", "there is no variable cleared; there are after, before, clear"),
    ],
)
def test_an_expression_is_held_to_what_is_observed(expression: str, told: str | None) -> None:
    ((_, text, names),) = [each for each in asked(expression).spec.expressions() if each[0][0] == "invariants"]
    found = check_syntax(text, names)
    assert found is None if told is None else found is not None and found.startswith(told)


def test_a_source_that_takes_its_time_at_clear_leaves_the_last_reading_its_own() -> None:
    """Its timeout is longer than what is left to the others: what it did not answer at clear costs nothing but that."""
    slow = [{**each, "timeoutMilliseconds": 40_000} for each in OBSERVED["observations"]]
    state = cleared(Phase.VERIFYING, check=check(observations=slow), since=15)
    seen = Seen(health=RECOVERED)
    assert step(state, seen, 15 + 44).duties == {Duty.LOOK, Duty.OBSERVE_CLEAR}
    read = step(state, seen, 15 + 45)
    assert read.duties == {Duty.LOOK, Duty.OBSERVE_AFTER}
    assert step(read.state, seen, 15 + 85).duties == {Duty.LOOK, Duty.OBSERVE_AFTER}, "it may take as long again"
    assert step(read.state, seen, 15 + 91).state.status.phase is Phase.FINISHED
