"""Faults between clients in pods and the Kubernetes API: by the proxy of armed pods, with a verdict on each client."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.commands import SYSTEM, Commands, Json, until
from tests.e2e.armed_clients import check, clients, experiment
from tests.e2e.arming import arming

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

RUN_SECONDS = 120
THROTTLED = {
    "apiFault": {
        "requests": [{"verbs": ["update"], "resources": ["configmaps"]}],
        "answer": {"code": 429, "retryAfterSeconds": 2},
    }
}


@pytest.fixture(scope="module")
def operator(commands: Commands) -> Iterator[None]:
    with arming(commands, ",admissionFaults.enabled=true"):
        yield


def ended(commands: Commands, namespace: str, name: str) -> Json:
    def status() -> Json:
        return dict(commands.get("faultexperiment", name, "-n", namespace).get("status") or {})

    until(lambda: status().get("phase") == "Finished", f"{name} is finished", RUN_SECONDS)
    return status()


def reasons(status: Json) -> list[str]:
    return [finding["reason"] for finding in status.get("findings") or []]


def test_who_waits_passes_and_who_does_not_fails(commands: Commands, operator: None) -> None:
    with clients(commands) as namespace:
        for name in ("patient", "hasty"):
            commands.apply(namespace, check(name), experiment(name, **THROTTLED))
        patient, hasty = (ended(commands, namespace, name) for name in ("patient", "hasty"))
        assert (patient["verdict"], reasons(patient)) == ("Passed", []), patient
        assert patient["aspects"]["strategy"] == "Passed"
        how = {key: patient["injections"][0][key] for key in ("rung", "vehicle")}
        assert how == {"rung": "Proxy", "vehicle": "Sidecar"}, (
            "which Pod Security's restricted takes: it needs no right"
        )
        assert patient["injections"][0]["hits"] >= 2
        assert patient["axes"] == {
            "injection": "Proven",
            "recovery": "Passed",
            "consistency": "Passed",
            "cleanup": "Clean",
        }
        assert hasty["verdict"] == "Failed", hasty
        assert reasons(hasty)[0] == "ClientMisbehaved"


CRASH = {
    "apiFault": {"requests": [{"verbs": ["update"], "resources": ["configmaps"]}], "crash": {}},
    "nth": 3,
    "firstN": 1,
}


STAYS = {"maxRestarts": 0}


def test_a_client_is_killed_at_its_third_write_before_it_hears_of_it_and_who_ends_by_itself_fails(
    commands: Commands, operator: None
) -> None:
    with clients(commands, names=("patient", "frail")) as namespace:
        for name, fault in (("patient", CRASH), ("frail", {**THROTTLED, "firstN": 1})):
            commands.apply(namespace, check(name, behavior=STAYS), experiment(name, **fault))
        frail = ended(commands, namespace, "frail")
        assert (frail["verdict"], reasons(frail)) == ("Failed", ["ClientMisbehaved"]), frail
        assert frail["injections"][0]["restarts"] == 1
        status = ended(commands, namespace, "patient")
        assert (status["verdict"], status["axes"]["cleanup"]) == ("Passed", "Clean"), status
        (injection,) = status["injections"]
        assert (injection["vehicle"], injection["rung"], injection["hits"]) == ("NodePod", "Proxy", 1)
        (pod,) = commands.get("pods", "-n", namespace, "-l", "app=patient")["items"]
        (client,) = pod["status"]["containerStatuses"]
        assert client["restartCount"] == 1
        assert client["lastState"]["terminated"]["exitCode"] == 137
        (proxy,) = pod["status"]["initContainerStatuses"]
        assert proxy["restartCount"] == 0


READ = {"apiFault": {"requests": [{"verbs": ["get"], "resources": ["configmaps"]}], "answer": {"code": 503}}}


def logged(commands: Commands, namespace: str, name: str) -> list[Json]:
    """The Statuses that a client was told."""
    lines = commands.kubectl("logs", "-n", namespace, f"deployment/{name}").splitlines()
    return [json.loads(line.partition(" ")[2]) for line in lines if line.startswith("429 ")]


def webhooks(commands: Commands) -> list[Json]:
    return commands.get("validatingwebhookconfiguration", "bounceback-admission-faults").get("webhooks") or []


def test_what_pods_without_a_proxy_write_is_hit_by_admission_and_nobody_elses(
    commands: Commands, operator: None
) -> None:
    with clients(commands, label="disabled") as namespace:
        reading = experiment("reading", **READ)
        reading["spec"]["targets"][0]["pods"]["selector"]["matchLabels"]["app"] = "hasty"
        reading["spec"]["checks"] = [{"name": "patient"}]
        commands.apply(namespace, check("patient", behavior=None), experiment("patient", **THROTTLED), reading)
        refused = ended(commands, namespace, "reading")
        assert (refused["verdict"], refused.get("injections") or []) == ("Aborted", [])
        assert "has no API proxy" in refused["message"]
        assert "nobody is asked about others" in refused["message"], "a read cannot be hit by admission"
        status = ended(commands, namespace, "patient")
        assert (status["verdict"], status["axes"]["cleanup"]) == ("Passed", "Clean"), status
        (injection,) = status["injections"]
        assert (injection["vehicle"], injection["rung"]) == ("Admission", "Admission")
        told = logged(commands, namespace, "patient")
        assert len(told) == injection["hits"] >= 2
        assert told[0]["reason"] == "TooManyRequests"
        assert told[0]["details"]["retryAfterSeconds"] == 2
        assert logged(commands, namespace, "hasty") == [], "it is another pod"
        assert webhooks(commands) == []


def test_faults_by_admission_end_with_their_time_whoever_is_left(commands: Commands, operator: None) -> None:
    """The operator is killed for good while it answers: the API server goes on without it."""
    with clients(commands, label="disabled") as namespace:
        throttled = experiment("patient", **{**THROTTLED, "durationSeconds": 30})
        commands.apply(namespace, check("patient", behavior=None), throttled)
        until(lambda: bool(logged(commands, namespace, "patient")), "it is hit", RUN_SECONDS)
        commands.kubectl("scale", "-n", SYSTEM, "deployment/bounceback", "--replicas=0")
        commands.kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator", "--force")
        assert webhooks(commands) != [], "nobody was there to take it away"
        before = count(commands, namespace)
        until(lambda: count(commands, namespace) > before + 2, "it writes again", RUN_SECONDS)
        commands.kubectl("scale", "-n", SYSTEM, "deployment/bounceback", "--replicas=1")
        status = ended(commands, namespace, "patient")
        assert status["axes"]["cleanup"] == "Clean", status
        assert webhooks(commands) == []


def count(commands: Commands, namespace: str) -> int:
    return int(commands.get("configmap", "patient", "-n", namespace).get("data", {}).get("count", 0))
