"""expect: Manual: when the repair begins, that it begins once, and that no run passes without all that was asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.status import FaultExperimentStatus, Finding, InjectionStatus, MarkStatus, Moment, RepairStatus
from bounceback.engine.advance import advance
from bounceback.engine.health import Health
from bounceback.engine.judge import judge
from bounceback.engine.reading import Seen as Histories
from bounceback.engine.reading import read
from bounceback.engine.samples import History, Sample
from bounceback.engine.state import Decision, Duty, Seen, State, Task
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import Aspect, Cleanup, InjectionState, Judgement, Mark, Phase, RepairState, Verdict
from tests.spec_cases_manual import BY_HAND, JOB
from tests.unit.engine_values import at, check, experiment, finished, health, injection

SIGNAL = {"name": "alert", "http": {"url": "http://web/alert"}}
SAFE = {"name": "says-so", "http": {"url": "http://web/", "expectStatus": 503}}
CHECK = check(detection=[SIGNAL], errorState=[SAFE])
BY_JOB = experiment(expect="Manual", repair={**JOB, "afterSeconds": 5, "timeoutSeconds": 60})
IN_PERSON = experiment(expect="Manual", repair={**BY_HAND, "afterSeconds": 5, "timeoutSeconds": 60})
DOWN = health(healthy_for=0.0, unhealthy=("healthy/home: status 503",), error_state=True)
BACK = health(healthy_for=4.0, recovered=Interval(at(20), at(20.2)), error_state=True)
THERE = Task(uid="job-1")
GOING = replace(THERE, begun=Interval(at(17), at(17.1)))
DONE = replace(GOING, ended=RepairState.DONE, ended_at=Interval(at(19), at(19.2)), reason="Completed", log="renewed")


def cleared(*injections: InjectionStatus, **status: Any) -> State:
    """At second 11, in Repairing."""
    marks = [MarkStatus.of(Mark.PLANNED, Interval.at(at(0))), MarkStatus.of(Mark.CLEARED, Interval.at(at(11)))]
    begun: dict[str, Any] = {
        "phase": Phase.REPAIRING,
        "started_at": Moment.of(at(0)),
        "phase_since": Moment.of(at(11)),
        "marks": marks,
        "checks": [CHECK],
    }
    made = FaultExperimentStatus(run_uid="run", **(begun | status))
    return State(made, injections or (injection(),))


def step(state: State, seen: Seen, now: Instant, spec: Any = BY_JOB) -> Decision:
    for _ in range(5):
        decision = advance(spec, state, seen, now)
        state = decision.state
        if decision.again > 0:
            return decision
    raise AssertionError("it never comes to rest")


def repair_of(decision: Decision) -> RepairStatus:
    assert decision.state.status.repair is not None
    return decision.state.status.repair


def test_a_cleared_run_goes_on_to_its_repair_and_any_other_does_not() -> None:
    state = cleared(phase=Phase.CLEARING)
    assert step(state, Seen(health=DOWN), at(11)).state.status.phase is Phase.REPAIRING
    assert step(state, Seen(health=DOWN), at(11), experiment()).state.status.phase is Phase.RECOVERING


def test_the_job_is_made_first_and_let_go_only_when_its_uid_is_written_down_and_its_time_has_come() -> None:
    decision = step(cleared(), Seen(health=DOWN), at(12))
    assert decision.duties == {Duty.LOOK, Duty.CARRY, Duty.MAKE_REPAIR}
    assert (repair_of(decision).state, repair_of(decision).uid) == (RepairState.PLANNED, "")
    decision = step(decision.state, Seen(health=DOWN, task=THERE), at(13))
    assert decision.duties == {Duty.LOOK, Duty.CARRY}, "left alone for as long as was asked"
    assert repair_of(decision).uid == "job-1"
    decision = step(decision.state, Seen(health=DOWN, task=THERE), at(17))
    assert decision.duties == {Duty.LOOK, Duty.CARRY, Duty.REPAIR}
    assert (repair_of(decision).state, repair_of(decision).began_at) == (RepairState.RUNNING, Moment.of(at(17)))


def test_a_whole_run_with_a_job_passes() -> None:
    state = cleared()
    for now, seen in ((12, Seen(health=DOWN, task=THERE)), (17, Seen(health=DOWN, task=GOING))):
        state = step(state, seen, at(now)).state
    decision = step(state, Seen(health=DOWN, task=DONE), at(19.2))
    assert (decision.state.status.phase, repair_of(decision).log) == (Phase.RECOVERING, "renewed")
    decision = step(decision.state, Seen(health=BACK), at(24))
    status = decision.state.status
    assert [m.mark for m in status.marks][2:] == [
        Mark.CLEARED, Mark.REPAIR_BEGAN, Mark.REPAIRED, Mark.RECOVERED, Mark.STABLE,
    ]  # fmt: skip
    assert {line.event for line in status.timeline} >= {"RepairBegan", "Repaired", "RepairDone"}


def test_whoever_comes_after_goes_on_with_the_same_job_and_makes_no_other() -> None:
    running = RepairStatus(name="r", uid="job-1", state=RepairState.RUNNING, began_at=Moment.of(at(17)))
    assert step(cleared(repair=running), Seen(), at(18)).duties == {Duty.LOOK, Duty.CARRY, Duty.REPAIR}
    gone = replace(THERE, ended=RepairState.UNKNOWN, reason="Deleted")
    decision = step(cleared(repair=running), Seen(health=DOWN, task=gone), at(18))
    assert repair_of(decision).state is RepairState.UNKNOWN
    assert not decision.duties & {Duty.REPAIR, Duty.MAKE_REPAIR}


def test_a_system_that_is_healthy_in_its_time_alone_is_not_repaired() -> None:
    state = step(cleared(), Seen(health=DOWN, task=THERE), at(12)).state
    early = health(healthy_for=2.0)
    decision = step(state, Seen(health=early, task=THERE), at(17))
    assert repair_of(decision).state is RepairState.PLANNED, "who knows whether it stays so"
    decision = step(state, Seen(health=replace(early, healthy_for=3.0), task=THERE), at(17))
    assert (repair_of(decision).state, repair_of(decision).reason) == (RepairState.NOT_RUN, "CameBack")


def test_health_from_before_the_clearing_is_not_enough_to_tell() -> None:
    decision = step(cleared(), Seen(health=health(healthy_for=9.0), task=THERE), at(12))
    assert repair_of(decision).state is RepairState.PLANNED


@pytest.mark.parametrize(
    ("state", "seen", "reason"),
    [
        (cleared(injection(cleanup=Cleanup.LEFTOVER, leftovers=["qdisc"])), {}, "NotUndone"),
        (cleared(injection(cleanup=Cleanup.UNVERIFIED)), {}, "NotUndone"),
        (cleared(injection(), injection("b", state=InjectionState.FAILED)), {}, "NotUndone"),
        (cleared(), {"cancel": True}, "Ended"),
        (cleared(), {"freeze": "incident"}, "Ended"),
        (cleared(), {"deleted": True}, "Ended"),
        (cleared(deadline_at=at(16).utc), {}, "Ended"),
        (cleared(), {"task": Task(refused="quota")}, "NoJob"),
        (cleared(), {"task": Task()}, "NoJob"),
        (cleared(), {"health": health(healthy_for=0.0)}, "NeverInTrouble"),
    ],
    ids=["left", "unseen", "not in force", "cancelled", "frozen", "deleted", "late", "refused", "unmade", "flaps"],
)
def test_a_repair_that_must_not_begin_does_not(state: State, seen: dict[str, Any], reason: str) -> None:
    now = 80 if reason in ("NoJob", "NeverInTrouble") else 17
    told: dict[str, Any] = {"health": DOWN, "task": THERE} | seen
    decision = step(state, Seen(**told), at(now))
    repair = repair_of(decision)
    assert (repair.state, repair.reason, repair.began_at) == (RepairState.NOT_RUN, reason, None)
    assert decision.state.status.phase is Phase.FINISHED or reason == "NeverInTrouble"
    assert decision.state.status.verdict is not Verdict.PASSED


@pytest.mark.parametrize("seen", [{"cancel": True}, {"freeze": "incident"}, {"deleted": True}])
def test_a_repair_that_has_begun_is_waited_for_whatever_ends_the_run(seen: dict[str, Any]) -> None:
    running = RepairStatus(name="r", uid="job-1", state=RepairState.RUNNING, began_at=Moment.of(at(17)))
    state = cleared(repair=running)
    assert Duty.REPAIR in step(state, Seen(health=DOWN, task=GOING, **seen), at(18)).duties
    assert repair_of(step(state, Seen(health=DOWN, task=DONE, **seen), at(20))).state is RepairState.DONE


def test_nobody_waits_for_ever_for_the_cluster_to_tell_how_a_job_ended() -> None:
    running = RepairStatus(name="r", uid="job-1", state=RepairState.RUNNING, began_at=Moment.of(at(17)))
    decision = step(cleared(repair=running), Seen(health=DOWN, task=GOING), at(17 + 60 + 60))
    assert (repair_of(decision).state, repair_of(decision).reason) == (RepairState.UNKNOWN, "Unseen")


def test_a_person_is_asked_and_only_the_name_of_the_repair_counts_as_an_answer() -> None:
    decision = step(cleared(), Seen(health=DOWN, said_repaired="yes"), at(12), IN_PERSON)
    assert not decision.duties & {Duty.REPAIR, Duty.MAKE_REPAIR}
    decision = step(decision.state, Seen(health=DOWN, said_repaired="yes"), at(17), IN_PERSON)
    name = repair_of(decision).name
    (asked,) = [line.message for line in decision.state.status.timeline if line.event == "RepairAwaited"]
    assert asked.startswith("Renew the certificate. ") and f"bounceback.dev/repaired={name}" in asked
    assert repair_of(step(decision.state, Seen(health=DOWN), at(70), IN_PERSON)).state is RepairState.RUNNING
    said = step(decision.state, Seen(health=DOWN, said_repaired=name), at(30), IN_PERSON)
    assert (repair_of(said).state, said.state.status.phase) == (RepairState.DONE, Phase.RECOVERING)
    silent = step(decision.state, Seen(health=DOWN), at(77), IN_PERSON)
    assert (repair_of(silent).state, repair_of(silent).reason) == (RepairState.UNKNOWN, "NobodySaid")


MARKS = {
    Mark.DETECTED: Interval(at(2), at(2.5)),
    Mark.REPAIR_BEGAN: Interval(at(17), at(17.1)),
    Mark.REPAIRED: Interval(at(19), at(19.2)),
    Mark.RECOVERED: Interval(at(20), at(20.2)),
}
REPAIRED = RepairStatus(name="r", uid="job-1", state=RepairState.DONE, reason="Completed")


def judged(
    repair: RepairStatus | None = REPAIRED, checks: Any = (CHECK,), seen: Health = BACK, **marks: Interval | None
) -> FaultExperimentStatus:
    changed = MARKS | {Mark[name]: interval for name, interval in marks.items()}
    return judge(BY_JOB, finished(list(checks), marks=changed, repair=repair), [injection()], seen)


def test_one_that_does_all_that_is_asked_passes() -> None:
    status = judged()
    assert (status.verdict, status.findings) == (Verdict.PASSED, [])
    assert (status.recovered, status.figures.repair and status.figures.repair.milliseconds) == ("3.0s", 2050)
    assert status.aspects is not None and status.aspects.detection is Aspect.PASSED


NOT_REPAIRED = {"REPAIR_BEGAN": None, "REPAIRED": None, "RECOVERED": None}


@pytest.mark.parametrize(
    ("changes", "verdict", "reason"),
    [
        ({"DETECTED": None}, Verdict.FAILED, "NotDetected"),
        ({"DETECTED": Interval(at(17.5), at(18))}, Verdict.FAILED, "DetectedTooLate"),
        ({"DETECTED": Interval(at(16.9), at(17.05))}, Verdict.INCONCLUSIVE, "DetectionUndecided"),
        ({"seen": replace(BACK, error_state=False)}, Verdict.FAILED, "ErrorStateNotHeld"),
        ({"seen": replace(BACK, error_state_gaps=(Interval(at(4), at(9)),))}, Verdict.INCONCLUSIVE, "ObservationGap"),
        (
            {"repair": REPAIRED.model_copy(update={"state": RepairState.NOT_RUN, "reason": "CameBack"})}
            | {"REPAIR_BEGAN": None, "REPAIRED": None},
            Verdict.FAILED,
            "CameBackByItself",
        ),
        ({"RECOVERED": Interval(at(16), at(16.5))}, Verdict.FAILED, "CameBackByItself"),
        ({"RECOVERED": Interval(at(16.5), at(17.5))}, Verdict.INCONCLUSIVE, "ReturnUndecided"),
        ({"RECOVERED": None, "seen": DOWN}, Verdict.FAILED, "NotRecovered"),
        (
            {"repair": REPAIRED.model_copy(update={"state": RepairState.FAILED}), "RECOVERED": None},
            Verdict.FAILED,
            "RepairFailed",
        ),
        ({"repair": REPAIRED.model_copy(update={"state": RepairState.FAILED})}, Verdict.FAILED, "RepairFailed"),
        (
            {"repair": REPAIRED.model_copy(update={"state": RepairState.UNKNOWN}), "RECOVERED": None},
            Verdict.INCONCLUSIVE,
            "RepairUnknown",
        ),
        (
            {"repair": REPAIRED.model_copy(update={"state": RepairState.NOT_RUN}), **NOT_REPAIRED},
            Verdict.INCONCLUSIVE,
            "RepairNotRun",
        ),
        ({"repair": None, **NOT_REPAIRED}, Verdict.INCONCLUSIVE, "RepairNotRun"),
        (
            {"repair": REPAIRED.model_copy(update={"state": RepairState.RUNNING}), "RECOVERED": None},
            Verdict.INCONCLUSIVE,
            "RepairUnknown",
        ),
        ({"FIRST_SYMPTOM": None}, Verdict.INCONCLUSIVE, "NotFelt"),
        ({"checks": [check(errorState=[SAFE])], "DETECTED": None}, Verdict.INCONCLUSIVE, "DetectionUnknown"),
        ({"seen": replace(BACK, error_state=None)}, Verdict.INCONCLUSIVE, "ErrorStateUnknown"),
    ],
)
def test_each_thing_that_is_missing_is_found_and_decides(changes: Any, verdict: Verdict, reason: str) -> None:
    status = judged(**changes)
    assert (status.verdict, status.findings[0].reason) == (verdict, reason)
    assert status.axes is not None and status.axes.recovery is Judgement(verdict)


@pytest.mark.parametrize(("bound", "verdict"), [(4, Verdict.PASSED), (2, Verdict.FAILED)])
def test_the_return_has_a_budget_and_so_has_the_detection(bound: int, verdict: Verdict) -> None:
    budgets = {"recoverSeconds": bound, "detectSeconds": 2}
    assert judged(checks=[check(detection=[SIGNAL], errorState=[SAFE], budgets=budgets)]).verdict is verdict
    budgets = {"recoverSeconds": 4, "detectSeconds": 2}
    slow = judged(
        checks=[check(detection=[SIGNAL], errorState=[SAFE], budgets=budgets)], DETECTED=Interval(at(4), at(4.5))
    )
    assert [f.reason for f in slow.findings] == ["BudgetExceeded"]


def test_an_aborted_run_says_that_the_system_was_not_repaired() -> None:
    ending = Finding(verdict=Verdict.ABORTED, reason="Cancelled", message="spec.cancel was set")
    unrepaired = REPAIRED.model_copy(update={"state": RepairState.NOT_RUN, "reason": "Ended", "message": "cancelled"})
    marks = MARKS | {Mark.REPAIR_BEGAN: None, Mark.REPAIRED: None, Mark.RECOVERED: None}
    status = finished([CHECK], marks=marks, repair=unrepaired, ending=ending)
    found = judge(BY_JOB, status, [injection()], DOWN)
    assert (found.verdict, [f.reason for f in found.findings]) == (Verdict.ABORTED, ["Cancelled", "RepairNotRun"])


def test_the_error_state_is_to_hold_until_the_repair_and_must_be_reached_before() -> None:
    def held(*states: bool) -> bool | None:
        history = History(1.0, 1.0, ordered=True)
        for second, healthy in enumerate(states):
            history.add(Sample(at(second), at(second + 0.1), healthy))
        seen = Histories("healthy", CHECK.spec, {}, {}, {"says-so": history})
        return read([seen], (), at(1), Interval.at(at(6)), Interval.at(at(3)), at(9)).error_state

    assert held(False, False, True, True, True, True, True, False)
    assert not held(False, False, True, True, False, True, True, False), "left after the fault was cleared"
    assert not held(False, False, False, False, False, False, False, True), "reached by the repair"
