"""Faults between clients in pods and the Kubernetes API: by the proxy of armed pods, with a verdict on each client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.commands import Commands, Json, until
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
    with arming(commands):
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


def test_who_is_not_armed_is_not_touched(commands: Commands, operator: None) -> None:
    with clients(commands, label="disabled") as namespace:
        commands.apply(namespace, check("patient"), experiment("patient", **THROTTLED))
        status = ended(commands, namespace, "patient")
        assert (status["verdict"], status.get("injections") or []) == ("Aborted", [])
        assert "has no API proxy" in status["message"]
