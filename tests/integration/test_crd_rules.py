"""The API server holds every rule, with the models' words, and stores what an operator writes."""

from __future__ import annotations

import copy

import pytest

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.cli.cluster import CHECKS, EXPERIMENTS, POLICIES, Cluster, RefusedError
from tests.commands import Commands
from tests.finished_runs import RUNS
from tests.run_parts import Json, moment
from tests.spec_case import CHECK, EXPERIMENT, Case
from tests.spec_cases import CASES

PLACES = {"FaultExperiment": EXPERIMENTS, "RecoveryCheck": CHECKS, "FaultPolicy": POLICIES}


def manifest(kind: str, namespace: str, spec: Json, name: str = "") -> Json:
    named = {"name": name} if name else {"generateName": "rule-"}
    return {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": kind,
        "metadata": named if kind == "FaultPolicy" else {**named, "namespace": namespace},
        "spec": spec,
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_the_api_server_refuses_what_the_models_refuse(api: Cluster, place: str, case: Case) -> None:
    body = manifest(case.kind, place, case.spec)
    if not case.message:
        assert api.create(PLACES[case.kind], body, dry_run=True)["spec"]
        return
    with pytest.raises(RefusedError) as refused:
        api.create(PLACES[case.kind], body, dry_run=True)
    wanted = case.schema_says or case.message
    told = [f"{field}: {message}" for field, message in refused.value.causes] or [refused.value.words]
    assert any(wanted in each and case.field in each for each in told), told


def test_defaults_are_filled_in_as_the_models_have_them(api: Cluster, place: str) -> None:
    stored = api.create(EXPERIMENTS, manifest("FaultExperiment", place, EXPERIMENT), dry_run=True)["spec"]
    lists = {"abortWhen", "ttlSecondsAfterFinished"}
    expected = FaultExperimentSpec.model_validate(EXPERIMENT).to_json()
    assert FaultExperimentSpec.model_validate(stored).to_json() == expected
    assert {key: stored[key] for key in stored}.keys() == expected.keys() - lists


def started(api: Cluster, place: str) -> Json:
    """An experiment whose run has begun."""
    spec = {**EXPERIMENT, "abortWhen": [{"check": "web-healthy", "failingSeconds": 9}]}
    made = api.create(EXPERIMENTS, manifest("FaultExperiment", place, spec))
    name = made["metadata"]["name"]
    body = {"status": {"phase": "Steady", "startedAt": moment(0)}}
    return api.patch(EXPERIMENTS, place, name, body, subresource="status")


CHANGES = {
    "serviceAccountName": "other",
    "targets": [{**EXPERIMENT["targets"][0], "pods": {"selector": {"matchLabels": {"app": "db"}}}}],
    "faults": [{**EXPERIMENT["faults"][0], "durationSeconds": 31}],
    "checks": [{"name": "web-healthy"}, {"name": "db-healthy"}],
    "expect": "FailSafe",
    "repair": {"byHand": {"instruction": "Renew the certificate."}},
    "impact": "Required",
    "steadyState": {"holdSeconds": 6},
    "proof": {"minHits": 2},
    "abortWhen": [{"check": "web-healthy", "failingSeconds": 10}],
    "recoveryTimeoutSeconds": 301,
    "deadlineSeconds": 3601,
    "seed": 1,
    "runs": {"count": 35},
    "reference": {"objects": [{"apiVersion": "v1", "kind": "ConfigMap", "selector": {"matchLabels": {"app": "db"}}}]},
    "ttlSecondsAfterFinished": 60,
}


def test_the_changes_below_name_every_field() -> None:
    assert {field.alias for field in FaultExperimentSpec.model_fields.values()} == {*CHANGES, "cancel"}


def test_a_started_run_keeps_its_spec(api: Cluster, place: str) -> None:
    name = started(api, place)["metadata"]["name"]
    for field, value in CHANGES.items():
        with pytest.raises(RefusedError) as refused:
            api.patch(EXPERIMENTS, place, name, {"spec": {field: value}})
        assert refused.value.status == 422
        expected = f"{field} must stay as it is once the run has started: only cancel may change"
        assert {path for path, _ in refused.value.causes} == {f"spec.{field}"}
        assert any(expected in message for _, message in refused.value.causes)


def test_what_was_unset_stays_unset_and_what_was_set_stays_set(api: Cluster, place: str) -> None:
    name = started(api, place)["metadata"]["name"]
    with pytest.raises(RefusedError, match="abortWhen must stay as it is"):
        api.patch(EXPERIMENTS, place, name, {"spec": {"abortWhen": None}})


def test_a_started_run_can_be_cancelled_and_stays_so(api: Cluster, place: str) -> None:
    name = started(api, place)["metadata"]["name"]
    assert api.patch(EXPERIMENTS, place, name, {"spec": {"cancel": True}})["spec"]["cancel"] is True
    with pytest.raises(RefusedError, match="cancel must stay true"):
        api.patch(EXPERIMENTS, place, name, {"spec": {"cancel": False}})


def test_a_run_that_has_not_started_may_change(api: Cluster, place: str) -> None:
    name = api.create(EXPERIMENTS, manifest("FaultExperiment", place, EXPERIMENT))["metadata"]["name"]
    assert api.patch(EXPERIMENTS, place, name, {"spec": {"seed": 7}})["spec"]["seed"] == 7


@pytest.mark.parametrize("run", RUNS)
def test_what_an_operator_writes_is_stored_as_it_is(api: Cluster, place: str, run: str) -> None:
    body = RUNS[run]()
    made = api.create(EXPERIMENTS, manifest("FaultExperiment", place, body["spec"]))
    status = copy.deepcopy(body["status"])
    stored = api.patch(EXPERIMENTS, place, made["metadata"]["name"], {"status": status}, subresource="status")
    assert {key: stored["status"][key] for key in status if key != "aspects"} == {
        key: value for key, value in filled(status).items() if key != "aspects"
    }


def filled(status: Json) -> Json:
    """With what the schema's defaults add to it."""
    for each in status.get("injections", []):
        for key, value in DEFAULTS.items():
            each.setdefault(key, value)
    for each in status.get("invariants", []):
        each.setdefault("message", "")
    status["figures"].setdefault("recoveredUnderFault", False) if "figures" in status else None
    return status


DEFAULTS: Json = {
    "plannedUtc": 0,
    "startAt": 0,
    "clockErrorMilliseconds": 0,
    "message": "",
    "owner": "",
    "replaces": "",
    "replacedBy": "",
    "restartsBefore": 0,
    "hostNetwork": False,
    "clockBootMilliseconds": 0,
    "clockAgainst": "",
    "waiting": False,
}


def test_kubectl_shows_the_verdict_and_the_figures(api: Cluster, place: str, commands: Commands) -> None:
    status = RUNS["passed"]()["status"]
    made = api.create(EXPERIMENTS, manifest("FaultExperiment", place, RUNS["passed"]()["spec"], "web-slow"))
    api.patch(EXPERIMENTS, place, made["metadata"]["name"], {"status": status}, subresource="status")
    head, line = commands.kubectl("get", "fe", "web-slow", "--namespace", place).splitlines()
    assert head.split() == ["NAME", "VERDICT", "PHASE", "DETECTED", "RECOVERED", "INJECTION", "AGE"]
    assert line.split()[:6] == ["web-slow", "Passed", "Finished", "0.4s", "1.5s", "Proven"]
    api.create(CHECKS, manifest("RecoveryCheck", place, CHECK, "web-healthy"))
    assert "web-healthy" in commands.kubectl("get", "bounceback", "--namespace", place)
    assert "web-healthy" in commands.kubectl("get", "rck", "--namespace", place)
    told = " ".join(commands.kubectl("explain", "fe.spec.faults.networkDelay.jitterMilliseconds").split())
    assert (
        "Deviation from the delay: the largest one (Uniform), or the standard deviation; must not exceed the delay."
        in told
    )
