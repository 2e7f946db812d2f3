"""Workloads of checks: when nothing is injected yet, what is waited for, and what an account is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bounceback.accounting.account import Account, Finding, Flaw
from bounceback.accounting.ledger import Model, Outcome
from bounceback.accounting.seconds import NANOS, Second, Seconds, percentile
from bounceback.api.status import CheckCopy, FaultExperimentStatus, Moment
from bounceback.api.workload_status import WorkState
from bounceback.engine.advance import advance
from bounceback.engine.judge import judge
from bounceback.engine.state import Decision, Duty, Seen, State, Work
from bounceback.engine.working import accounting_seconds, bounded, heard, longest_account, prober_name, with_work
from bounceback.types.outcome import Aspect, Judgement, Phase, Verdict
from bounceback.types.prober import AUTHORITIES, PASSWORD, LoadEnd
from bounceback.vehicles.arming import ARM_LABEL, DISABLED
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.prober_pod import prober_pod
from tests.unit.engine_values import START, at, check, experiment, finished, health, injection, preparation

STORE = {"url": "http://store", "write": {"path": "/items/{value}"}, "list": {"path": "/items"}}
SPEC = experiment()
MADE = {
    "run": "uid",
    "number": 1,
    "not_after": 100.0,
    "now": 0.0,
    "account": "bounceback",
    "image": "i",
    "pull_policy": "Always",
}
"""Of a prober pod."""


def asked(**workload: Any) -> CheckCopy:
    return check(workload={"model": "Set", "http": STORE, "load": {"open": {"perSecond": 20}}, **workload})


def account(**changes: Any) -> dict[str, Any]:
    """Of a set that keeps its promises, unless changed."""
    flaws = {flaw: Finding(changes.pop(flaw.lower(), 0)) for flaw in (Flaw.LOST, Flaw.DUPLICATED, Flaw.PHANTOM)}
    for finding in flaws.values():
        finding.examples = list(range(finding.count))
    return Account(
        Model.SET, **{"acknowledged": 90, "failed": 1, "unknown": 9, "read_back": 90, **changes}, flaws=flaws
    ).to_json()


def work(seconds: int = 30, **changes: Any) -> Work:
    passed = tuple(Second(number, acknowledged=20) for number in range(seconds))
    return Work("healthy", began=at(-10), seconds=passed, **{"load_end": LoadEnd.ASKED, **changes})


def judged(seen: Work | None, copy: CheckCopy | None = None) -> FaultExperimentStatus:
    """A run that was proven, recovered and cleaned up, with this workload."""
    state = State(finished([copy or asked()], run_uid="uid"))
    state = with_work(state, Seen(work=(seen,) if seen else ()), at(30))
    return judge(SPEC, state.status, [injection()], health())


def steady(*, seen: Work | None) -> Decision:
    state = State(FaultExperimentStatus(run_uid="uid"))
    found = replace(preparation(SPEC), checks=(asked(),))
    look = Seen(preparation=found, claimed=True, health=health(), before={"healthy": {}}, work=(seen,) if seen else ())
    for _ in range(3):
        decision = advance(SPEC, state, look, at(1))
        state = decision.state
        if decision.again > 0 or decision.plan is not None:
            break
    return decision


def test_an_account_without_a_flaw_passes_and_says_what_it_is_about() -> None:
    status = judged(work(account=account()))
    (told,) = status.workloads
    assert (status.verdict, told.state, told.result) == (Verdict.PASSED, WorkState.ACCOUNTED, Judgement.PASSED)
    assert "90 acknowledged, 1 failed, 9 unknown" in told.message
    assert status.axes is not None and status.axes.consistency is Judgement.PASSED
    assert status.aspects is not None and status.aspects.consistency is Aspect.PASSED


def test_an_acknowledged_write_that_is_lost_fails_whatever_else_there_is() -> None:
    status = judged(work(account=account(lost=2)))
    assert (status.verdict, status.findings[0].reason) == (Verdict.FAILED, "PromiseBroken")
    assert "Lost: 2 acknowledged and not there at the end" in status.findings[0].message
    assert "operations Lost: 0, 1" in status.findings[0].message
    assert status.axes is not None and status.axes.consistency is Judgement.FAILED


def test_what_the_check_allows_is_told_and_fails_nothing() -> None:
    status = judged(work(account=account(duplicated=2)), asked(allow=["Duplicated"]))
    assert status.verdict is Verdict.PASSED
    assert [(each.flaw, each.count) for each in status.workloads[0].flaws if each.allowed] == [(Flaw.DUPLICATED, 2)]


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (work(account=account(acknowledged=0, read_back=0)), "no write was acknowledged"),
        (
            work(account=account(acknowledged=0, read_back=0) | {"trouble": "NATS: certificate not trusted"}),
            "nothing could be lost; the last that was not acknowledged: NATS: certificate not trusted",
        ),
        (work(account=account(read_back=0)), "nothing was read back"),
        (work(account=account(not_read_back=3)), "3 acknowledged values could not be read back"),
        (work(account=account(), load_end=LoadEnd.SECONDS), "workload.seconds were over"),
        (work(account=account(), load_end=LoadEnd.FULL), "workload.mostOperations was reached"),
        (work(lost="its pod ended, and its ledger with it: OOMKilled"), "OOMKilled"),
        (work(refused="GET /items: answered 404"), "answered 404"),
        (work(), "operations on http://store"),
        (None, "it was not accounted for"),
    ],
)
def test_what_is_not_known_never_passes(seen: Work | None, told: str) -> None:
    status = judged(seen)
    assert (status.verdict, status.findings[0].reason) == (Verdict.INCONCLUSIVE, "AccountUndecided")
    assert told in status.findings[0].message
    assert status.axes is not None and status.axes.consistency is Judgement.INCONCLUSIVE


def test_a_load_that_ended_early_and_lost_something_all_the_same_fails() -> None:
    assert judged(work(account=account(lost=1), load_end=LoadEnd.SECONDS)).verdict is Verdict.FAILED


def test_nothing_is_injected_before_there_is_a_baseline() -> None:
    assert steady(seen=None).duties >= {Duty.WORK}
    for early in (Work("healthy", waits="ErrImagePull"), work(2)):
        decision = steady(seen=early)
        assert (decision.state.status.phase, decision.plan) == (Phase.STEADY, None)
    assert steady(seen=work(3)).plan is not None


def test_a_workload_that_cannot_begin_ends_the_run_before_anything_is_touched() -> None:
    status = steady(seen=Work("healthy", refused="read: got no answer that says something")).state.status
    assert (status.phase, status.verdict, status.ending and status.ending.reason) == (
        Phase.FINISHED,
        Verdict.ABORTED,
        "WorkloadCannotWork",
    )


def verifying(*seen: Work, waited: float) -> Decision:
    status = finished([asked()], run_uid="uid", phase=Phase.VERIFYING, phase_since=Moment.of(START))
    state = State(status, (injection(),))
    return advance(SPEC, state, Seen(work=seen, health=health(), after={}), at(waited))


def test_the_account_is_asked_for_and_waited_for_and_not_for_ever() -> None:
    copy = asked()
    decision = verifying(work(), waited=1)
    assert decision.duties == {Duty.LOOK, Duty.WORK, Duty.END_WORK}
    assert copy.spec.workload is not None and longest_account([copy]) == accounting_seconds(copy.spec.workload)
    late = verifying(work(), waited=longest_account([copy]) + 1).state.status
    assert (late.verdict, late.workloads[0].state) == (Verdict.INCONCLUSIVE, WorkState.LOST)
    assert verifying(work(account=account()), waited=1).state.status.verdict is Verdict.PASSED


def test_reading_a_log_twice_changes_nothing() -> None:
    moment = START.to_json()
    told: list[dict[str, Any]] = [{"said": "Load"}, {"said": "LoadEnded", "why": "Asked"}]
    told[1:1] = [{"said": "Second", "second": Second(n, acknowledged=n).to_json()} for n in range(3)]
    once = Work("healthy")
    for line in told:
        once = heard(once, {**line, "at": moment})
    twice = once
    for line in told:
        twice = heard(twice, {**line, "at": moment})
    assert twice == once and len(once.seconds) == 3


def test_of_a_load_that_goes_on_for_a_day_the_first_and_the_last_hour_are_kept() -> None:
    kept = bounded(tuple(map(Second, range(7201))))
    assert [each.number for each in (kept[0], kept[3599], kept[3600], kept[-1])] == [0, 3599, 3601, 7200]
    assert len(kept) == 7200


def test_a_line_of_a_log_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError):
        heard(Work("healthy"), {"said": "Hello"})
    with pytest.raises(KeyError):
        heard(Work("healthy"), {"said": "Account", "account": {}})


def test_a_prober_pod_has_no_right_of_its_own_and_goes_with_the_experiment() -> None:
    copy = asked()
    assert copy.spec.workload is not None
    owner = {"kind": "FaultExperiment", "uid": "uid"}
    pod = prober_pod(prober_name("uid", "c"), copy.spec.workload, owner=owner, **MADE)  # type: ignore[arg-type]
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["automountServiceAccountToken"] is False and "serviceAccountName" not in pod["spec"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["metadata"]["ownerReferences"] == [owner]
    assert pod["spec"]["activeDeadlineSeconds"] == 100 + accounting_seconds(copy.spec.workload)
    long = {**STORE, "write": {"path": "/items/{value}", "method": "POST", "body": "x" * 65_000}, "headers": {}}
    long["headers"] = {f"h-{n}": "x" * 1024 for n in range(20)}
    long["read"] = {"path": "/items/{value}", "method": "POST", "body": "x" * 65_000}
    large = asked(http=long).spec.workload
    assert large is not None
    with pytest.raises(Refused, match="of at most 102,400: shorten its bodies"):
        prober_pod("p", large, owner=owner, **MADE)  # type: ignore[arg-type]


def test_a_token_is_there_only_for_operations_on_the_kubernetes_api() -> None:
    workload = check(workload={"model": "Set", "kubernetes": {"namespace": "shop"}}).spec.workload
    assert workload is not None
    pod = prober_pod("p", workload, owner=None, **MADE)  # type: ignore[arg-type]
    assert (pod["spec"]["serviceAccountName"], pod["spec"]["automountServiceAccountToken"]) == ("bounceback", True)
    assert pod["metadata"]["labels"][ARM_LABEL] == DISABLED, "what counts operations is no client that faults are for"


def test_a_password_comes_from_a_secret_and_stands_in_no_order() -> None:
    table = {"kind": "PostgreSQL", "host": "db", "database": "shop", "user": "shop", "write": "call w({value})"}
    asked_for = {"secretName": "shop-db", "key": "word"}
    workload = check(
        workload={"model": "Set", "sql": {**table, "list": "select v from t"}, "passwordFrom": asked_for}
    ).spec.workload
    assert workload is not None and workload.sql is not None
    (container,) = prober_pod("p", workload, owner=None, **MADE)["spec"]["containers"]  # type: ignore[arg-type]
    assert {"name": PASSWORD, "valueFrom": {"secretKeyRef": {"name": "shop-db", "key": "word"}}} in container["env"]
    asking = workload.asking_with(PASSWORD)
    assert asking.sql == workload.sql.model_copy(update={"password_variable": PASSWORD})


def test_authorities_come_from_a_secret_as_well() -> None:
    tls = {"authorities": {"secretName": "shop-ca"}, "serverName": "redis.shop"}
    workload = check(workload={"model": "Counter", "redis": {"host": "redis", "tls": tls}}).spec.workload
    assert workload is not None
    (container,) = prober_pod("p", workload, owner=None, **MADE)["spec"]["containers"]  # type: ignore[arg-type]
    assert {"name": AUTHORITIES, "valueFrom": {"secretKeyRef": {"name": "shop-ca", "key": "ca.crt"}}} in container[
        "env"
    ]


def test_seconds_tell_what_ended_in_them_and_how_long_it_took() -> None:
    seconds = Seconds()
    assert seconds.over(5 * NANOS) == []
    seconds.begin(5 * NANOS)
    for milliseconds in range(1, 101):
        seconds.add(Outcome.ACKNOWLEDGED, milliseconds * 1_000_000)
    seconds.add(Outcome.FAILED, 1)
    first, second = seconds.over(7 * NANOS + 1)
    assert (first.acknowledged, first.failed, second.acknowledged) == (100, 1, 0)
    assert percentile(first.latencies, 99) == pytest.approx(0.099, rel=0.035)
    assert percentile(first.latencies, 50) == pytest.approx(0.050, rel=0.035)
    assert percentile(second.latencies, 99) is None
    assert Second.from_json(first.to_json()) == first
