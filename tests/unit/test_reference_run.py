"""The reference run: its steps, what it must have seen, and what the runs after it are held against."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.reference_run import MOST_CHANGED, MOST_ENTRIES, Lives, ReferenceStatus
from bounceback.api.status import FaultExperimentStatus, InvariantResult, Moment, ObjectStatus
from bounceback.api.workload_status import WorkloadStatus
from bounceback.cli.cluster import Cluster
from bounceback.cli.follow import Key
from bounceback.cli.foresight_reference import compared as would_compare
from bounceback.cli.progress import JsonTeller, TextTeller
from bounceback.engine.advance import advance
from bounceback.engine.comparing import compared, record
from bounceback.engine.end_state import end_state
from bounceback.engine.invariants import REFERENCE
from bounceback.engine.judge import judge
from bounceback.engine.lives import lives_differ, taken_by_faults, with_change, with_gap
from bounceback.engine.reference_run import goes_on
from bounceback.engine.repeats import begun, next_run
from bounceback.engine.state import Duty, End, Seen, State
from bounceback.report.redact import redacted
from bounceback.types.instants import Interval
from bounceback.types.outcome import Judgement, Mark, Phase, VehicleKind, Verdict
from bounceback.types.run_names import experiment_of, reference_record
from tests.unit.engine_values import at, check, experiment, finished, health, injection, preparation
from tests.unit.test_end_state import body

UID = "0b5a3c52-6ad2-4f1c-9d57-3f2e1b7f5a10"
CONFIG_MAPS = {"apiVersion": "v1", "kind": "ConfigMap", "selector": {"matchLabels": {"app": "web"}}}
SAW = End(objects=(1,), seen=(True,), digest="sha256:1")


def compares(*entries: dict[str, Any], settle: int = 5, **more: Any) -> FaultExperimentSpec:
    return experiment(reference={"objects": list(entries or (CONFIG_MAPS,)), "settleSeconds": settle}, **more)


def new(spec: FaultExperimentSpec) -> State:
    return State(begun(spec, FaultExperimentStatus(run_uid=UID, checks=[check()])))


def active(spec: FaultExperimentSpec) -> State:
    """The reference run, as its time begins."""
    seen = Seen(preparation=preparation(spec), claimed=True, health=health(), before={}, followed=True)
    state = new(spec)
    for _ in range(2):
        state = advance(spec, state, seen, at(0)).state
    assert state.status.phase is Phase.ACTIVE and state.status.is_reference
    return state


def verifying(spec: FaultExperimentSpec, **fields: Any) -> State:
    """The reference run, at its end."""
    state = active(spec)
    for seconds in (10, 20):
        state = advance(spec, state, Seen(health=health(), followed=True), at(seconds)).state
    assert state.status.phase is Phase.VERIFYING
    return replace(state, status=state.status.model_copy(update=fields))


def over(spec: FaultExperimentSpec, end: End | None = SAW, state: State | None = None, **seen: Any) -> Any:
    values: dict[str, Any] = {"health": health(), "followed": True, "end": end}
    return advance(spec, state or verifying(spec), Seen(**(values | seen)), at(26)).state.status


def test_nothing_is_begun_before_what_comes_and_goes_is_watched() -> None:
    spec = compares()
    seen = Seen(preparation=preparation(spec), claimed=True, health=health(), before={})
    steady = advance(spec, new(spec), seen, at(0)).state
    assert Duty.FOLLOW in advance(spec, steady, seen, at(1)).duties
    assert advance(spec, steady, replace(seen, followed=True), at(1)).state.status.phase is Phase.ACTIVE
    refused = advance(spec, steady, replace(seen, followed="spec.reference.objects: forbidden"), at(1)).state.status
    assert (refused.verdict, refused.findings[0].reason) == (Verdict.ABORTED, "NotComparable")


def test_it_lasts_as_long_as_the_faults_and_injects_nothing() -> None:
    spec = compares()
    state = active(spec)
    assert state.injections == () and state.status.run == f"{UID}-run0"
    seen = Seen(health=health(), followed=True)
    waits = advance(spec, state, seen, at(9.5))
    assert waits.state.status.phase is Phase.ACTIVE and waits.duties == {Duty.LOOK, Duty.FOLLOW}
    assert advance(spec, state, seen, at(10)).state.status.phase is Phase.RECOVERING


def test_its_end_is_read_once_it_has_settled_and_then_the_runs_with_faults_begin() -> None:
    spec = compares()
    state = verifying(spec)
    assert advance(spec, state, Seen(health=health(), followed=True), at(24)).duties == {Duty.LOOK, Duty.FOLLOW}
    reads = advance(spec, state, Seen(health=health(), followed=True), at(25))
    assert reads.duties == {Duty.LOOK, Duty.READ_END}
    status = over(spec)
    assert (status.phase, status.verdict, goes_on(status)) == (Phase.REPEATING, None, True)
    assert status.reference.digest == "sha256:1"
    first = next_run(spec, status)
    assert (first.phase, first.run, first.is_reference, first.runs) == (Phase.PENDING, UID, False, None)
    assert begun(spec, first) is first
    assert first.reference is not None and first.reference.digest == "sha256:1"


def test_repeated_runs_are_counted_from_the_first_with_faults() -> None:
    spec = compares(runs={"count": 3}, deadlineSeconds=3600)
    status = over(spec)
    assert status.runs is None
    first = begun(spec, next_run(spec, status))
    assert first.runs is not None and (first.runs.told, first.run) == ("1/3", UID)
    second = next_run(spec, first)
    assert second.runs is not None and (second.runs.told, second.run) == ("2/3", f"{UID}-run2")


@pytest.mark.parametrize(
    ("seen", "verdict", "reason", "told"),
    [
        ({"end": replace(SAW, objects=(0,), seen=(False,))}, "Inconclusive", "ReferenceEmpty", "saw no ConfigMap"),
        ({"end": replace(SAW, unknown=("forgotten",))}, "Inconclusive", "ReferenceUnknown", "forgotten"),
        (
            {"health": health(unhealthy=("healthy/home: 500",))},
            "Aborted",
            "NotSteady",
            "any fault: healthy/home",
        ),
        ({"health": health(symptom=Interval.at(at(5)), symptom_source="healthy/home")}, "Aborted", "NotSteady", "home"),
    ],
)
def test_one_that_tells_nothing_ends_the_experiment(seen: Any, verdict: str, reason: str, told: str) -> None:
    spec = compares()
    state = active(spec)
    for seconds in (10, 20):
        state = advance(spec, state, Seen(health=seen.get("health", health()), followed=True), at(seconds)).state
    status = over(spec, state=state, **seen)
    assert (status.phase, status.verdict) == (Phase.FINISHED, Verdict(verdict))
    assert status.findings[0].reason == reason and told in status.findings[0].message


def test_one_whose_end_cannot_be_read_ends_the_experiment_and_waits_no_longer_than_it_must() -> None:
    spec = compares()
    seen = Seen(health=health(), followed=True)
    assert Duty.READ_END in advance(spec, verifying(spec), seen, at(60)).duties
    status = advance(spec, verifying(spec), seen, at(90)).state.status
    assert (status.verdict, status.findings[0].reason) == (Verdict.INCONCLUSIVE, "ReferenceUnknown")


def test_invariants_that_do_not_hold_without_any_fault_end_it() -> None:
    observation = {"name": "audit", "http": {"url": "http://shop/audit"}}
    invariant = {"name": "none-lost", "expression": "after.audit.lost == 0"}
    checks = [check(observations=[observation], invariants=[invariant])]
    spec = compares()
    state = verifying(spec, checks=checks, observed={"before": {"healthy": {"audit": {"lost": 0}}}})
    status = over(spec, state=state, after={"healthy": {"audit": {"lost": 2}}})
    assert (status.verdict, status.findings[0].reason) == (Verdict.ABORTED, "NotSteady")


@pytest.mark.parametrize(
    ("result", "verdict", "reason"),
    [
        (Judgement.PASSED, None, None),
        (Judgement.FAILED, Verdict.ABORTED, "NotSteady"),
        (Judgement.INCONCLUSIVE, Verdict.INCONCLUSIVE, "ReferenceUnknown"),
    ],
)
def test_a_workload_that_loses_operations_without_any_fault_ends_it(
    result: Judgement, verdict: Verdict | None, reason: str | None
) -> None:
    store = {"url": "http://shop", "write": {"path": "/items/{value}"}, "list": {"path": "/items"}}
    told = {"check": "healthy", "pod": "prober", "model": "Set", "state": "Accounted", "message": "Lost: 2"}
    account = WorkloadStatus.model_validate({**told, "result": result})
    spec = compares()
    checks = [check(workload={"model": "Set", "http": store})]
    status = over(spec, state=verifying(spec, checks=checks, workloads=[account]))
    assert status.verdict is verdict
    assert [each.reason for each in status.findings] == ([reason] if reason else [])


def test_whoever_cancels_ends_it_at_once() -> None:
    spec = compares()
    for state in (active(spec), advance(spec, active(spec), Seen(health=health(), followed=True), at(10)).state):
        status = advance(spec, state, Seen(cancel=True, health=health(), followed=True), at(10.5)).state.status
        assert (status.phase, status.verdict, status.findings[0].reason) == (
            Phase.FINISHED,
            Verdict.ABORTED,
            "Cancelled",
        )


def judged(*results: InvariantResult, **status: Any) -> FaultExperimentStatus:
    told = finished(**status)
    told = told.model_copy(update={"observed": {**told.observed, REFERENCE: [each.to_json() for each in results]}})
    return judge(compares(), told, [injection()], health(recovered=Interval.at(at(12))))


def result(outcome: Judgement) -> InvariantResult:
    return InvariantResult(check=REFERENCE, name="ConfigMap settings", result=outcome, message="m")


@pytest.mark.parametrize(
    ("outcome", "verdict", "reason"),
    [
        (Judgement.FAILED, Verdict.FAILED, "DiffersFromReference"),
        (Judgement.INCONCLUSIVE, Verdict.INCONCLUSIVE, "ReferenceUnknown"),
        (Judgement.PASSED, Verdict.PASSED, None),
    ],
)
def test_what_came_of_the_comparison_is_on_the_consistency_axis(
    outcome: Judgement, verdict: Verdict, reason: str | None
) -> None:
    status = judged(result(outcome))
    assert status.axes is not None and status.aspects is not None
    assert (status.verdict, status.axes.consistency) == (verdict, outcome)
    assert (status.findings[0].reason if status.findings else None) == reason


def test_a_run_with_faults_waits_for_its_comparison_and_never_passes_without_one() -> None:
    spec = compares()
    first = next_run(spec, over(spec)).model_copy(
        update={"phase": Phase.VERIFYING, "phase_since": Moment.of(at(0)), "marks": finished().marks}
    )
    state, recovered = State(first, (injection(),)), health(recovered=Interval.at(at(12)))
    assert advance(spec, state, Seen(health=recovered), at(4)).duties == {Duty.LOOK, Duty.FOLLOW}
    assert advance(spec, state, Seen(health=recovered), at(5)).duties == {Duty.LOOK, Duty.READ_END}
    for end, verdict in (
        (None, Verdict.INCONCLUSIVE),
        (End(results=(result(Judgement.INCONCLUSIVE),)), Verdict.INCONCLUSIVE),
        (End(results=(result(Judgement.FAILED),)), Verdict.FAILED),
        (End(results=(result(Judgement.PASSED),)), Verdict.PASSED),
    ):
        status = advance(spec, state, Seen(health=recovered, end=end), at(60)).state.status
        assert (status.phase, status.verdict) == (Phase.FINISHED, verdict)


@given(some.lists(some.tuples(some.sampled_from("abc"), some.booleans()), max_size=12))
def test_lives_are_counted_whoever_goes_on_counting(changes: list[tuple[str, bool]]) -> None:
    """An operator that starts in the middle has what the status holds, and gets the rest from there."""
    lives = Lives()
    for number, (name, came) in enumerate(changes):
        lives = with_change(lives, name, str(number), came=came)
        lives = Lives.model_validate(json.loads(json.dumps(lives.to_json())))
    for name in "abc":
        counts = (changes.count((name, True)), changes.count((name, False)))
        assert tuple(lives.changed.get(name, (0, 0))) == counts
    assert lives.version == (str(len(changes) - 1) if changes else "") and not lives.gap


def test_too_many_names_are_a_gap() -> None:
    lives = Lives()
    for number in range(5):
        lives = with_change(lives, f"a{number}", str(number), came=True, room=4)
    assert "more than 4 names" in lives.gap and (len(lives.changed), lives.version) == (4, "4")
    assert with_gap(lives, "9", "another").gap == lives.gap


def test_what_the_fault_took_may_have_gone_with_another_in_its_place_and_no_more() -> None:
    def differs(then: tuple[int, int], now: tuple[int, int], taken: int) -> bool:
        return bool(list(lives_differ({"web-*": then}, {"web-*": now}, {"web-*": taken})))

    assert not differs((0, 0), (2, 2), 2)
    assert differs((0, 0), (3, 3), 2), "one more died"
    assert differs((0, 0), (1, 2), 2), "one never came back"
    assert differs((0, 0), (3, 2), 2), "one too many came"
    assert differs((2, 2), (0, 0), 2), "what came and went by itself does not any more"
    assert not differs((1, 1), (1, 1), 0)


def test_pods_and_objects_that_the_fault_took_are_known() -> None:
    gone = injection(vehicle=VehicleKind.POD_DELETE, pod="web-5d8f7c-x7k2q", hits=1)
    spec = compares()
    pods = compares({"apiVersion": "v1", "kind": "Pod"}).reference.objects[0]  # type: ignore[union-attr]
    names = ("web-5d8f7c-*", "web-*", "store-*")
    assert taken_by_faults(spec, [gone], pods, names) == {"web-5d8f7c-*": 1}
    assert not taken_by_faults(spec, [gone.model_copy(update={"hits": 0})], pods, names), "it was never deleted"
    assert not taken_by_faults(spec, [injection(pod="web-5d8f7c-x7k2q")], pods, names), "it was only hit"
    secret = {"name": "s", "objects": {"apiVersion": "v1", "kind": "Secret", "names": ["password"]}}
    secrets = compares({"apiVersion": "v1", "kind": "Secret"}).reference.objects[0]  # type: ignore[union-attr]
    of = ObjectStatus(api_version="v1", kind="Secret", name="password", uid="1")
    for what, taken in (({"deleted": {}}, {"password": 1}), ({"dataDrift": {"set": {"a": "1"}}}, {})):
        fault: dict[str, Any] = {"name": "cut", "target": "s", "objectFault": what, "durationSeconds": 10}
        spec = experiment(targets=[secret], faults=[fault])
        hit = injection(pod="", object=of, hits=1, vehicle=VehicleKind.OBJECT_PATCH)
        assert taken_by_faults(spec, [hit], secrets, ["password"]) == taken


def test_what_differs_is_told_with_its_name_its_path_and_both_values_but_no_secret() -> None:
    asked = compares(CONFIG_MAPS, {"apiVersion": "v1", "kind": "Secret"}).reference
    assert asked is not None

    def ends(colour: str, token: str, password: str, *more: Any) -> Any:
        maps = [body(data={"colour": colour, "apiToken": token}), *more]
        return [end_state(m, e, UID) for m, e in zip([maps, [body(data={"p": password})]], asked.objects, strict=True)]

    then = record(ends("green", "t0k", "cGFzcw=="), [Lives(), Lives()])
    extra = body("settings-x7k2q", "settings-", data={})
    lives = [with_change(Lives(), "settings-*", "1", came=True), Lives()]
    told = compared(asked, then, ends("red", "n3w", "d29yZA==", extra), lives, [{}, {}], redacted)
    words = {each.name: each.message for each in told if each.result is Judgement.FAILED}
    assert words["ConfigMap settings"] == (
        '/data/apiToken is "***", and was "***" in the reference run; '
        '/data/colour is "red", and was "green" in the reference run'
    )
    assert words["ConfigMap settings-*"] == (
        "0 came and 0 went in the reference run, 1 came and 0 went now; 0 at the end of the reference run, 1 now"
    )
    assert words["Secret settings"] == "/data/p is another (hidden)"
    same = compared(asked, then, ends("green", "t0k", "cGFzcw=="), [Lives(), Lives()], [{}, {}], redacted)
    assert [each.result for each in same] == [Judgement.PASSED, Judgement.PASSED]
    gap = compared(asked, then, ends("green", "t0k", "cGFzcw=="), [Lives(gap="lost"), Lives()], [{}, {}], redacted)
    assert [each.result for each in gap] == [Judgement.INCONCLUSIVE, Judgement.PASSED]


def test_variables_are_told_by_their_names() -> None:
    asked = compares({"apiVersion": "apps/v1", "kind": "Deployment"}).reference
    assert asked is not None

    def ends(value: str) -> Any:
        return [end_state([body("web", spec={"env": [{"name": "PASSWORD", "value": value}]})], asked.objects[0], UID)]

    (told,) = compared(asked, record(ends("horse"), [Lives()]), ends("mule"), [Lives()], [{}], redacted)
    assert "horse" not in told.message and "mule" not in told.message and "/spec/env/0 is" in told.message


def test_only_a_few_of_many_differences_are_told() -> None:
    asked = compares().reference
    assert asked is not None
    now = [end_state([body(f"m{n}", data={}) for n in range(50)], asked.objects[0], UID)]
    told = compared(asked, record([{}], [Lives()]), now, [Lives()], [{}], redacted)
    assert len(told) == 21 and told[-1].message == "30 more objects differ"


def test_what_stands_in_the_status_is_bounded() -> None:
    room = MOST_CHANGED // MOST_ENTRIES
    changed = {f"{n:03}{'x' * 250}": [10_000, 10_000] for n in range(room)}
    lives = [Lives(version="1" * 12, changed=changed, gap="g" * 256)] * MOST_ENTRIES
    assert len(json.dumps(ReferenceStatus(lives=lives, objects=[1000] * MOST_ENTRIES).to_json())) < 100 * 1024


def test_its_record_has_a_name_that_leads_to_the_experiment() -> None:
    assert experiment_of(reference_record(UID)) == UID
    assert len(reference_record(UID)) <= 63, "it is the value of a label"
    assert Mark.PLANNED in {mark.mark for mark in active(compares()).status.marks}


def test_the_lines_of_the_reference_run_are_told_by_its_name_and_those_of_the_next_run_anew() -> None:
    def status(message: str, **more: Any) -> dict[str, Any]:
        line = {"elapsedMilliseconds": 0, "event": "Steady", "message": message}
        return {"metadata": {}, "status": {"timeline": [line], **more}}

    key = Key("shop", "compared", "u")
    text, lines = TextTeller(key, 8), JsonTeller(key)
    for teller, numbers in ((text, (" reference ", "compared     0.0")), (lines, ('"run": 0', ""))):
        (first,) = teller.changed(status("a", reference={"over": False}))
        assert not list(teller.changed(status("a", reference={"over": False})))
        (second,) = teller.changed(status("b", reference={"over": True}))
        assert numbers[0] in first and numbers[0] not in second and numbers[1] in second
    (third,) = TextTeller(key, 8).changed(status("c", reference={"over": True}, runs={"told": "1/3"}))
    assert " 1/3 " in third


@pytest.mark.parametrize(
    ("served", "there", "told"),
    [
        ([{"kind": "ConfigMap", "name": "configmaps", "namespaced": True}], [{}], ["1 ConfigMaps with app=web"]),
        (
            [{"kind": "ConfigMap", "name": "configmaps", "namespaced": True}],
            [],
            ["selects nothing", "0 ConfigMaps"],
        ),
        ([{"kind": "ConfigMap", "name": "configmaps", "namespaced": False}], [], ["not in a namespace"]),
        ([], [], ["serves no such kind"]),
    ],
)
def test_plan_tells_what_would_be_compared(served: list[Any], there: list[Any], told: list[str]) -> None:
    class Asked:
        def served(self, _: str) -> list[Any]:
            return served

        def list(self, *_: object) -> list[Any]:
            return there

    found = list(map(str, would_compare(cast(Cluster, Asked()), "shop", compares())))
    assert len(found) == len(told) and all(words in each for words, each in zip(told, found, strict=True)), found
    assert not list(would_compare(cast(Cluster, Asked()), "shop", experiment()))


def test_the_end_is_read_also_where_a_check_settles_for_longer() -> None:
    spec = compares(settle=0)
    observed = check(observations=[{"name": "stock", "http": {"url": "http://web/"}}], settleSeconds=60)
    state = verifying(spec, checks=[observed], observed={"clear": {}})
    seen = Seen(health=health(), followed=True)
    assert advance(spec, state, seen, at(80)).duties == {Duty.LOOK, Duty.FOLLOW, Duty.OBSERVE_AFTER}
    assert advance(spec, state, replace(seen, after={}), at(81)).duties == {Duty.LOOK, Duty.READ_END}
