"""Uninstalling clears what runs, and leaves nothing of ours but the reports."""

from __future__ import annotations

import pytest

from tests.commands import SYSTEM, Commands, Json, until
from tests.conftest import IMAGE, installed
from tests.e2e.shops import example, shop

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LONG = 600
OURS = "app.kubernetes.io/instance=bounceback"


def agents_running(commands: Commands, namespace: str) -> list[str]:
    pods = commands.get("pods", "-n", namespace)["items"]
    statuses: list[Json] = [s for pod in pods for s in pod["status"].get("ephemeralContainerStatuses", [])]
    return [s["name"] for s in statuses if "running" in s["state"]]


def test_what_runs_is_cleared_and_reported_and_no_finalizer_stays(commands: Commands) -> None:
    values = f"image.tag={IMAGE.partition(':')[2]}"
    with shop(commands, "web") as namespace:
        check, experiment = example("A1.9-partition")
        experiment["spec"]["faults"][0]["durationSeconds"] = LONG
        name = experiment["metadata"]["name"]

        def current() -> Json:
            return commands.get("faultexperiment", name, "-n", namespace)

        with installed(commands, values):
            commands.apply(namespace, check, experiment)
            until(lambda: current().get("status", {}).get("phase") == "Active", "the fault is in force", 120)
            assert agents_running(commands, namespace)

        ended = current()
        assert not ended["metadata"].get("finalizers")
        assert ended["status"]["phase"] == "Finished"
        assert ended["status"]["verdict"] == "Aborted"
        assert ended["status"]["axes"]["cleanup"] == "Clean"
        assert until(lambda: not agents_running(commands, namespace), "the agents have ended")
        commands.kubectl("rollout", "status", "-n", namespace, "deployment/web", "--timeout=60s")
    assert not commands.get("secrets", "-n", SYSTEM, "--field-selector", "type=bounceback.dev/journal")["items"]
    assert commands.ask("kubectl", "get", "configmap", "bounceback-freeze", "-n", SYSTEM).code != 0
    left = "deployments,jobs,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings"
    assert not commands.get(left, "-n", SYSTEM, "-l", OURS)["items"]
