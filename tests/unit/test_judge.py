"""The verdict: each row of the table decides where it should, and nothing passes by default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.status import Finding, InjectionStatus
from bounceback.engine.conditions import is_stalled
from bounceback.engine.judge import judge
from bounceback.types.instants import Interval
from bounceback.types.outcome import (
    Aspect,
    Cleanup,
    InjectionAxis,
    InjectionState,
    Judgement,
    Mark,
    Phase,
    VehicleKind,
    Verdict,
)
from bounceback.types.plan import Rung
from tests.unit.engine_values import at, check, experiment, finished, health, injection


def verdict(spec: Any = None, status: Any = None, injections: Any = None, seen: Any = None) -> Any:
    return judge(
        spec or experiment(),
        status or finished(),
        [injection()] if injections is None else injections,
        seen or health(),
    )


def test_a_proven_fault_that_is_cleared_and_recovered_from_passes() -> None:
    judged = verdict()
    assert (judged.verdict, judged.findings) == (Verdict.PASSED, [])
    assert judged.axes.injection is InjectionAxis.PROVEN
    assert judged.recovered == "1.5s"
    assert judged.figures.recovery.plus_minus_milliseconds == 100


def test_a_fault_that_hits_nothing_never_passes() -> None:
    judged = verdict(injections=[injection(hits=0, first_hit_at=None)])
    assert (judged.verdict, judged.axes.injection) == (Verdict.INCONCLUSIVE, InjectionAxis.UNPROVEN)
    assert "is anyone talking to these peers?" in judged.findings[0].message


def test_a_relay_that_hits_nothing_tells_of_the_connections_that_it_leaves_alone() -> None:
    idle = [injection(hits=0, first_hit_at=None, rung=Rung.RELAY)]
    assert "relay.existingConnections: Reset" in verdict(injections=idle).findings[0].message
    (fault,) = experiment().to_json()["faults"]
    anew = experiment(faults=[{**fault, "relay": {"existingConnections": "Reset"}}])
    assert "is anyone talking to these peers?" in verdict(anew, injections=idle).findings[0].message


def test_what_hit_nothing_says_why_in_its_own_words() -> None:
    kill = {"name": "cut", "target": "web", "processSignal": {"signal": "TERM"}, "durationSeconds": 10}
    ignored = injection(hits=0, reason="Done", message="1 SIGTERM to app did nothing", vehicle=VehicleKind.NODE_POD)
    finding = verdict(experiment(faults=[kill]), injections=[ignored]).findings[0]
    assert finding.message.endswith("idle: cut-1; web-1: 1 SIGTERM to app did nothing")


def test_hits_on_half_of_the_targets_are_not_enough_unless_half_was_asked_for() -> None:
    half = [injection("a"), injection("b", hits=0)]
    assert verdict(injections=half).verdict is Verdict.INCONCLUSIVE
    assert verdict(experiment(proof={"targetsPercent": 50}), injections=half).verdict is Verdict.PASSED


def test_a_fault_that_ended_too_soon_is_unproven() -> None:
    from bounceback.api.status import Moment

    judged = verdict(injections=[injection(cleared_at=Moment.of(at(5)))])
    assert (judged.verdict, judged.findings[0].reason) == (Verdict.INCONCLUSIVE, "FaultTooShort")


@pytest.mark.parametrize(
    ("cleanup", "expected", "reason"),
    [
        (Cleanup.LEFTOVER, Verdict.ERROR, "Leftover"),
        (Cleanup.UNVERIFIED, Verdict.INCONCLUSIVE, "CleanupUnverified"),
    ],
)
def test_what_is_left_or_not_looked_for_is_no_pass(cleanup: Cleanup, expected: Verdict, reason: str) -> None:
    judged = verdict(injections=[injection(cleanup=cleanup)])
    assert (judged.verdict, judged.findings[0].reason) == (expected, reason)


def test_a_failed_injection_is_an_error_of_ours_not_a_failure_of_the_system() -> None:
    judged = verdict(injections=[injection(state=InjectionState.FAILED, message="no nft")])
    assert judged.verdict is Verdict.ERROR
    assert judged.axes.injection is InjectionAxis.FAILED


SLOW = {"name": "cut", "target": "web", "ioDelay": {"path": "/data", "delayMilliseconds": 5}, "durationSeconds": 10}


def not_begun(name: str, reason: str, message: str = "") -> InjectionStatus:
    told = {"state": InjectionState.FAILED, "reason": reason, "message": message, "in_force_at": None, "hits": 0}
    return injection(name, vehicle=VehicleKind.NODE_POD, rung=Rung.NODE, **told)


@pytest.mark.parametrize(
    ("reason", "field"),
    [("NoPath", "spec.faults[0].ioDelay.path: web-1: no /data"), ("NoRoom", "spec.faults[0].ioDelay: web-1: no /data")],
)
def test_what_an_agent_refuses_is_no_error_of_ours(reason: str, field: str) -> None:
    judged = verdict(experiment(faults=[SLOW]), injections=[not_begun("cut-1", reason, "no /data")])
    first = judged.findings[0]
    assert (judged.verdict, first.reason, first.message) == (Verdict.ABORTED, reason, field)
    assert judged.axes.injection is InjectionAxis.FAILED
    ended = finished().model_copy(update={"ending": first})
    again = verdict(experiment(faults=[SLOW]), ended, [not_begun("cut-1", reason, "no /data")])
    assert [finding.reason for finding in again.findings] == [reason], "and is told once, and nothing beside it"
    over = again.model_copy(update={"phase": Phase.FINISHED, "injections": [not_begun("cut-1", reason)]})
    assert is_stalled(over), "the input must be changed"
    assert not is_stalled(over.model_copy(update={"injections": [not_begun("cut-1", reason), injection("cut-2")]}))


@pytest.mark.parametrize("reason", ["Failed", "NoGuard", "TooLate", "RulesRefused", "AgentLost", "SomethingNew"])
def test_an_agent_that_came_too_late_or_was_lost_is_one(reason: str) -> None:
    both = [not_begun("cut-1", "NoPath", "no /data"), not_begun("cut-2", reason)]
    judged = verdict(experiment(faults=[SLOW]), injections=both)
    assert (judged.verdict, judged.findings[0].reason) == (Verdict.ERROR, "InjectionFailed")


def test_a_system_that_does_not_come_back_fails() -> None:
    judged = verdict(
        status=finished(marks={Mark.RECOVERED: None}), seen=health(unhealthy=("healthy/home: status 503",))
    )
    assert (judged.verdict, judged.findings[0].reason) == (Verdict.FAILED, "NotRecovered")
    assert "status 503" in judged.findings[0].message


@pytest.mark.parametrize(("budget", "expected"), [(2, Verdict.PASSED), (1, Verdict.FAILED)], ids=["within", "beyond"])
def test_a_budget_decides(budget: int, expected: Verdict) -> None:
    assert verdict(status=finished([check(budgets={"recoverSeconds": budget})])).verdict is expected


def test_an_interval_that_straddles_its_budget_decides_nothing() -> None:
    status = finished([check(budgets={"recoverSeconds": 1})], marks={Mark.RECOVERED: Interval(at(11.9), at(12.1))})
    judged = verdict(status=status)
    assert (judged.verdict, judged.findings[0].reason) == (Verdict.INCONCLUSIVE, "BudgetUndecided")


def test_a_definite_failure_outweighs_an_undecided_budget() -> None:
    budgets = {"recoverSeconds": 1, "outageSeconds": 1}
    status = finished([check(budgets=budgets)], marks={Mark.RECOVERED: Interval(at(11.9), at(12.1))})
    assert verdict(status=status).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("impact", "felt", "expected"),
    [
        ("Required", True, Verdict.PASSED),
        ("Required", False, Verdict.INCONCLUSIVE),
        ("Allowed", False, Verdict.PASSED),
        ("Forbidden", True, Verdict.FAILED),
        ("Forbidden", False, Verdict.PASSED),
    ],
)
def test_impact_is_part_of_the_hypothesis(impact: str, felt: bool, expected: Verdict) -> None:
    marks = {} if felt else {Mark.FIRST_SYMPTOM: None}
    assert verdict(experiment(impact=impact), finished(marks=marks)).verdict is expected


def test_lost_data_outweighs_everything_also_after_an_abort() -> None:
    invariants = {
        "observations": [{"name": "orders", "http": {"url": "http://web/orders"}}],
        "invariants": [{"name": "kept", "expression": "after.orders.count >= before.orders.count"}],
    }
    status = finished([check(**invariants)]).model_copy(
        update={
            "observed": {
                "before": {"healthy": {"orders": {"count": 5}}},
                "after": {"healthy": {"orders": {"count": 4}}},
            },
            "ending": Finding(verdict=Verdict.ABORTED, reason="Cancelled", message="spec.cancel was set"),
        }
    )
    judged = verdict(status=status)
    assert (judged.verdict, judged.findings[0].reason) == (Verdict.FAILED, "InvariantBroken")
    assert judged.axes.consistency is Judgement.FAILED
    assert judged.aspects.consistency is Aspect.FAILED
    assert [f.reason for f in judged.findings] == ["InvariantBroken", "Cancelled"]


def test_an_invariant_over_something_that_was_not_read_is_undecided() -> None:
    invariants = {
        "observations": [{"name": "orders", "http": {"url": "http://web/orders"}}],
        "invariants": [{"name": "kept", "expression": "after.orders.count >= before.orders.count"}],
    }
    refused = {"healthy": {"orders": "connection refused"}}
    status = finished([check(**invariants)]).model_copy(
        update={"observed": {"before": {}, "after": {}, "afterProblems": refused}}
    )
    judged = verdict(status=status)
    assert (judged.verdict, judged.axes.consistency) == (Verdict.INCONCLUSIVE, Judgement.INCONCLUSIVE)


def test_a_gap_that_widened_a_moment_is_inconclusive_and_one_elsewhere_is_not() -> None:
    widened = finished(marks={Mark.RECOVERED: Interval(at(12), at(14))})
    over, elsewhere, beside = Interval(at(12.1), at(13.9)), Interval(at(4), at(6)), Interval(at(10), at(13))
    assert verdict(status=widened, seen=health(gaps=(over,))).verdict is Verdict.INCONCLUSIVE
    assert verdict(status=widened, seen=health(gaps=(elsewhere, beside))).verdict is Verdict.PASSED


def test_a_gap_could_hide_the_symptom_that_must_not_be() -> None:
    unfelt = finished(marks={Mark.FIRST_SYMPTOM: None})
    gaps = health(gaps=(Interval(at(4), at(6)),))
    assert verdict(experiment(impact="Forbidden"), unfelt, seen=gaps).verdict is Verdict.INCONCLUSIVE
    assert verdict(experiment(impact="Allowed"), unfelt, seen=gaps).verdict is Verdict.PASSED


def test_a_gap_could_hide_an_outage_over_its_budget() -> None:
    gaps = health(gaps=(Interval(at(4), at(6)),))
    bounded = finished([check(budgets={"outageSeconds": 1})], marks={Mark.FIRST_SYMPTOM: None})
    assert verdict(status=bounded, seen=gaps).verdict is Verdict.INCONCLUSIVE
    assert verdict(status=bounded, seen=health()).verdict is Verdict.PASSED


def test_no_samples_is_no_pass() -> None:
    assert verdict(seen=health(views=())).verdict is Verdict.INCONCLUSIVE


def test_fail_safe_needs_the_declared_error_state() -> None:
    safe = experiment(expect="FailSafe")
    assert verdict(safe, seen=health(error_state=None)).verdict is Verdict.INCONCLUSIVE
    assert verdict(safe, seen=health(error_state=False)).verdict is Verdict.FAILED
    assert verdict(safe, seen=health(error_state=True)).verdict is Verdict.PASSED


def test_an_error_state_that_nobody_watched_was_not_seen_to_hold() -> None:
    gaps = health(error_state=True, error_state_gaps=(Interval(at(4), at(6)),))
    assert verdict(experiment(expect="FailSafe"), seen=gaps).verdict is Verdict.INCONCLUSIVE


def test_a_run_that_was_ended_is_aborted_whatever_else_was_unproven() -> None:
    ended = Finding(verdict=Verdict.ABORTED, reason="Frozen", message="frozen")
    judged = verdict(status=finished().model_copy(update={"ending": ended}), injections=[injection(hits=0)])
    assert judged.verdict is Verdict.ABORTED
    assert {f.reason for f in judged.findings} >= {"Frozen", "FaultHitNothing"}


def test_what_ended_a_run_and_is_found_by_another_question_is_told_once() -> None:
    problem = "RecoveryCheck web: spec.probes[0].prometheus: the query returns nothing: depth"
    ended = Finding(verdict=Verdict.ABORTED, reason="ProbeCannotWork", message=problem)
    judged = verdict(status=finished().model_copy(update={"ending": ended}), seen=health(problems=(problem,)))
    (told,) = [f for f in judged.findings if f.reason == "ProbeCannotWork"]
    assert told.verdict is judged.verdict is Verdict.ABORTED


def test_an_aspect_that_nothing_observes_is_not_checked() -> None:
    aspects = verdict().aspects
    assert aspects.detection is Aspect.NOT_CHECKED
    assert aspects.consistency is Aspect.NOT_CHECKED
    assert aspects.success is Aspect.PASSED


@pytest.mark.parametrize(
    ("rightly", "wrongly", "expected", "aspect"),
    [
        (None, (), Verdict.PASSED, Aspect.NOT_CHECKED),
        (True, (), Verdict.PASSED, Aspect.PASSED),
        (True, ("web/other: it said disk",), Verdict.PASSED, Aspect.PASSED),
        (False, ("web/told: it said disk",), Verdict.FAILED, Aspect.FAILED),
        (False, (), Verdict.PASSED, Aspect.FAILED),
    ],
    ids=["not asked", "rightly", "one rightly", "wrongly", "not at all"],
)
def test_a_system_that_names_another_trouble_fails(
    rightly: bool | None, wrongly: tuple[str, ...], expected: Verdict, aspect: Aspect
) -> None:
    """One that says nothing has not named it either; whether it must notice at all is what detectSeconds asks."""
    judged = verdict(seen=replace(health(), named_rightly=rightly, named_wrongly=wrongly))
    assert (judged.verdict, judged.aspects.categorization) == (expected, aspect)
    assert [(f.reason, f.message) for f in judged.findings] == (
        [("NamedWrongly", wrongly[0])] if expected is Verdict.FAILED else []
    )


BACKED_OFF = {
    "requests": 40,
    "requestsPerSecond": {"peak": 12},
    "retries": {"count": 5, "backoff": {"kind": "Exponential", "gaps": 5}},
    "retryAfter": {"asked": 2, "honored": 2},
}


@pytest.mark.parametrize(
    ("seen", "expected", "reason", "strategy"),
    [
        ([BACKED_OFF], Verdict.PASSED, None, Aspect.PASSED),
        ([BACKED_OFF, {"requests": 3}], Verdict.PASSED, None, Aspect.PASSED),
        ([BACKED_OFF, {"retryAfter": {"asked": 1, "ignored": 1}}], Verdict.FAILED, "ClientMisbehaved", Aspect.FAILED),
        ([{"requests": 3}], Verdict.INCONCLUSIVE, "BehaviorUndecided", Aspect.INCONCLUSIVE),
        ([{}], Verdict.INCONCLUSIVE, "BehaviorUnseen", Aspect.INCONCLUSIVE),
    ],
    ids=["well", "one had no occasion", "one did not wait", "none had an occasion", "nobody saw it"],
)
def test_how_clients_took_it_decides_where_a_check_asks(
    seen: list[dict[str, Any]], expected: Verdict, reason: str | None, strategy: Aspect
) -> None:
    wanted = check(clientBehavior={"honorsRetryAfter": True, "backoff": "Exponential", "maxRequestsPerSecond": 50})
    hit = [injection(f"cut-{n}", behavior=behavior) for n, behavior in enumerate(seen)]
    judged = verdict(status=finished([wanted]), injections=hit)
    assert (judged.verdict, judged.aspects.strategy) == (expected, strategy)
    assert [finding.reason for finding in judged.findings][:1] == ([reason] if reason else [])
    assert verdict(injections=hit).aspects.strategy is Aspect.NOT_CHECKED


CRASH = {"apiFault": {"crash": {}}, "firstN": 2}
CLIENT = {"apiFault": {"answer": {"code": 503}}}
KILL = {"containerKill": {"container": "web"}}


@pytest.mark.parametrize(
    ("other", "restarts", "hits", "expected"),
    [
        (None, 0, 0, Verdict.PASSED),
        (None, 1, 0, Verdict.FAILED),
        (None, None, 0, Verdict.INCONCLUSIVE),
        (CLIENT, 1, 5, Verdict.FAILED),
        (CRASH, 2, 2, Verdict.PASSED),
        (CRASH, 3, 2, Verdict.FAILED),
        (CRASH, 1, 2, Verdict.INCONCLUSIVE),
        (KILL, 0, 1, Verdict.PASSED),
        (KILL, 1, 1, Verdict.INCONCLUSIVE),
    ],
    ids=[
        "stays",
        "ends",
        "nobody looked",
        "ends under either",
        "killed by us",
        "killed and ends",
        "killed and not back",
        "nobody ends",
        "whoever ended it",
    ],
)
def test_a_client_that_ends_by_itself_fails_where_a_check_asks(
    other: dict[str, Any] | None, restarts: int | None, hits: int, expected: Verdict
) -> None:
    faults = {"cut": CLIENT} | ({"other": other} if other else {})
    entries = [{"name": name, "target": "web", "durationSeconds": 10, **fault} for name, fault in faults.items()]
    judged = verdict(
        spec=experiment(faults=entries),
        status=finished([check(clientBehavior={"maxRestarts": 0})]),
        injections=[
            injection("cut-1", behavior=BACKED_OFF, restarts=restarts),
            *([injection("other-1", fault="other", hits=max(hits, 1), restarts=restarts)] if other else []),
        ],
    )
    assert judged.verdict is expected, judged.findings
    assert judged.aspects.strategy == str(expected)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ({"networkPartition": {}}, "is anyone talking to these peers?"),
        ({"dnsFault": {"answer": "NxDomain", "names": ["db"]}}, "as they are in full"),
        ({"ioError": {"path": "/data", "error": "EIO"}}, "what is at /data"),
        ({"podDelete": {}}, "there were no pods deleted"),
        ({"authFault": {"tokenExpired": {}}}, "does the client ask for that"),
        (
            {"apiFault": {"cut": {}, "requests": [{"apiGroups": ["v1"], "resources": ["pods"]}]}},
            'requests[0].apiGroups: v1 is a version, not a group: that of pods is ""',
        ),
        (
            {"apiFault": {"cut": {}, "requests": [{}, {"verbs": ["create"], "names": ["a"]}]}},
            "requests[1].names: a create has no name in its path",
        ),
    ],
)
def test_what_to_look_at_where_a_fault_hit_nothing_is_of_its_kind(fault: dict[str, Any], told: str) -> None:
    entry = {"name": "cut", "target": "web", "durationSeconds": 10, **fault}
    judged = verdict(spec=experiment(faults=[entry]), injections=[injection(hits=0, first_hit_at=None)])
    assert (judged.verdict, judged.findings[0].reason) == (Verdict.INCONCLUSIVE, "FaultHitNothing")
    assert told in judged.findings[0].message


@pytest.mark.parametrize(
    ("told", "expected", "reason", "strategy"),
    [
        ({}, Verdict.PASSED, None, Aspect.PASSED),
        ({"strategy_missed": ("web/open: status 200",)}, Verdict.FAILED, "StrategyNotSeen", Aspect.FAILED),
        ({"strategy_unseen": ("web/open",)}, Verdict.INCONCLUSIVE, "StrategyUnknown", Aspect.INCONCLUSIVE),
    ],
    ids=["shows", "never shows", "nobody looked"],
)
def test_a_system_that_does_not_react_as_declared_fails(
    told: dict[str, Any], expected: Verdict, reason: str | None, strategy: Aspect
) -> None:
    signal = {"name": "open", "tells": "Strategy", "http": {"url": "http://web/circuit"}}
    judged = verdict(status=finished([check(detection=[signal])]), seen=health(**told))
    assert (judged.verdict, judged.aspects.strategy) == (expected, strategy)
    assert judged.aspects.detection is Aspect.NOT_CHECKED, "it says nothing of what the system noticed"
    assert [f.reason for f in judged.findings] == ([reason] if reason else [])
