"""Pods are not armed while our image cannot be had where they may come to, and are once it can: on a real kubelet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bounceback.vehicles.arming import ARM_LABEL, NOT_ARMED, PROXY
from dev.state import clusters_folder
from tests.commands import SYSTEM, Commands, Json, Result, until
from tests.conftest import IMAGE, run_dev
from tests.e2e.armed_clients import check, experiment
from tests.e2e.arming import READY, arming, client_pod, is_armed

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LATER = "localhost:1/bounceback:later"
"""The image of a registry that refuses at once; a name that must be looked up first may take the kubelet a minute."""
ASKS = {ARM_LABEL: "enabled"}
NO_PULL = 60
FAULT = {"apiFault": {"requests": [{"verbs": ["get"], "resources": ["configmaps"]}], "answer": {"code": 503}}}


@pytest.fixture(scope="module")
def absent(commands: Commands) -> Iterator[None]:
    """An operator whose image is on no node, though it runs itself."""
    with arming(commands):
        commands.kubectl("set", "env", "-n", SYSTEM, "deployment/bounceback", f"BOUNCEBACK_IMAGE={LATER}")
        commands.kubectl("rollout", "status", "-n", SYSTEM, "deployment/bounceback", f"--timeout={READY}s")
        yield


def tried(commands: Commands, namespace: str, body: Json) -> Result:
    """Made by a dry run."""
    words = ["create", "-n", namespace, "--dry-run=server", "-o", "json", "-f", "-"]
    return commands.ask("kubectl", *words, stdin=json.dumps(body))


def test_no_pod_is_armed_that_would_wait_for_the_image_and_all_are_once_it_is_there(
    commands: Commands, absent: None
) -> None:
    with commands.namespace("bb-absent") as place:
        commands.kubectl("apply", "-f", "-", stdin=commands.bounceback("access", place).out)
        anywhere = client_pod("patient", labels=ASKS)
        warned = until(lambda: told(commands, place), "a pod is not armed", NO_PULL)
        assert f"image {LATER} cannot be had" in warned
        elsewhere = client_pod("elsewhere", labels=ASKS, nodeSelector={"kubernetes.io/hostname": "another"})
        assert is_armed(json.loads(tried(commands, place, elsewhere).out)), "it never comes to this node"

        made = commands.ask("kubectl", "create", "-n", place, "-f", "-", stdin=json.dumps(anywhere))
        assert made.code == 0
        assert "Warning: Bounceback does not arm this pod: it may come to node " in made.err
        commands.kubectl("wait", "-n", place, "pod/patient", "--for=condition=Ready", f"--timeout={READY}s")
        pod = commands.get("pod", "patient", "-n", place)
        assert not is_armed(pod)
        why = pod["metadata"]["annotations"][NOT_ARMED]
        assert "ErrImagePull" in why or "ImagePullBackOff" in why

        commands.apply(place, check("patient", behavior=None), experiment("patient", **FAULT))
        refused = until(lambda: finished(commands, place, "patient"), "the experiment is refused", READY)
        assert (refused["verdict"], refused.get("injections") or []) == ("Aborted", [])
        assert f"pod patient has no API proxy: {why}" in refused["message"]
        planned = commands.bounceback("plan", "-n", place, "patient")
        assert planned.code == 2
        assert f"image {LATER} cannot be had" in planned.out

        pulled(commands)
        until(lambda: not told(commands, place), "pods are armed again", NO_PULL)
        commands.kubectl("delete", "pod", "-n", place, "patient", "--grace-period=0", "--force")
        commands.kubectl("create", "-n", place, "-f", "-", stdin=json.dumps(anywhere))
        commands.kubectl("wait", "-n", place, "pod/patient", "--for=condition=Ready", f"--timeout={READY}s")
        pod = commands.get("pod", "patient", "-n", place)
        assert is_armed(pod)
        assert {each["name"]: each["image"] for each in pod["spec"]["initContainers"]} == {PROXY: LATER}
        assert not commands.get("pods", "-n", SYSTEM, "-l", "bounceback.dev/role=image")["items"]


def told(commands: Commands, namespace: str) -> str:
    """Of a pod that may come anywhere: the warning, or nothing where it would be armed."""
    result = tried(commands, namespace, client_pod("tried", labels=ASKS))
    assert result.code == 0, result.err
    return result.err if "does not arm" in result.err else ""


def finished(commands: Commands, namespace: str, name: str) -> Json | None:
    status = commands.get("faultexperiment", name, "-n", namespace).get("status") or {}
    return status if status.get("phase") == "Finished" else None


def pulled(commands: Commands) -> None:
    """As if the registry had it now."""
    place = Path(commands.kubeconfig).parent
    if clusters_folder() not in place.parents:
        pytest.skip("the rest needs the node's own containerd")
    name = ["dev", "exec", "--name", place.name, "--", commands.programs["ctr"], "-n", "k8s.io", "images"]
    run_dev(*name, "tag", "--force", f"docker.io/library/{IMAGE}", LATER)
