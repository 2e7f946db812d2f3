from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from bounceback.kube import KubeError
from bounceback.types.api_rule import Act, Answer, ApiRule, Crash
from bounceback.types.plan import NOTES_VARIABLE, ApiRules, Direction, Drop, Flow, Order, Plan
from bounceback.types.realms import Realm
from bounceback.vehicles.containers import (
    LONGEST_PLAN,
    USER,
    Ended,
    Missing,
    Running,
    State,
    Waiting,
    plan_in,
    state_of,
)
from bounceback.vehicles.errors import Refused, refusal
from bounceback.vehicles.node_pod import SLACK, agent_pod, capabilities, probe_pod, verify_pod
from bounceback.vehicles.sidecar import patch_for, trial_patch

NOW = 1_000_000.0


def plan(flows: tuple[Flow, ...] = (), *, orders: int = 1, guarded: bool = False) -> Plan:
    made = tuple(
        Order(f"f-{n}", "f", "shop", f"web-{n}", f"uid-{n}", Drop(), Direction.BOTH, flows, NOW, NOW + 60, NOW + 90, 30)
        for n in range(orders)
    )
    return Plan("run-uid", "bb-0123456789", False, made, ("10.250.0.2/32",), guarded)


def pod(state: dict[str, Any], phase: str = "Running", **status: Any) -> dict[str, Any]:
    told = [{"name": "bb-0123456789", "state": state}] if state else []
    return {
        "spec": {"containers": [{"name": "main"}], "ephemeralContainers": [{"name": "bb-0123456789"}]},
        "status": {"phase": phase, "ephemeralContainerStatuses": told, **status},
    }


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (pod({"running": {}}), Running()),
        (pod({}), Waiting("not yet begun by the kubelet")),
        (
            pod({"waiting": {"reason": "ErrImagePull", "message": "no such image"}}),
            Waiting("ErrImagePull: no such image"),
        ),
        (pod({"terminated": {"reason": "OOMKilled", "exitCode": 137}}), Ended("OOMKilled, exit code 137", True, 137)),
        (
            pod({"terminated": {"reason": "Error", "exitCode": 137, "message": '"told": "hits"}'}}),
            Ended("Error, exit code 137", True, 137),
        ),
        (
            pod({"terminated": {"reason": "StartError", "exitCode": 128, "message": "unable to apply caps"}}),
            Ended("StartError, exit code 128: unable to apply caps", False, 128),
        ),
        (
            pod({"terminated": {"reason": "Error", "exitCode": 1, "message": "a line\n" * 200 + "OSError: why\n"}}),
            Ended("Error, exit code 1: " + ("a line\n" * 200 + "OSError: why")[-400:], True, 1),
        ),
        (pod({}, "Failed", reason="OutOfpods", message="full"), Ended("OutOfpods: full", False)),
        ({"spec": {"containers": [{"name": "main"}]}, "status": {}}, Missing()),
    ],
)
def test_how_an_agent_fares_is_read_off_its_pod(found: dict[str, Any], state: State) -> None:
    assert state_of(found, "bb-0123456789") == state


def test_only_what_cannot_be_made_is_hopeless() -> None:
    assert Waiting("ImagePullBackOff: Back-off pulling image").hopeless
    assert not Waiting("ContainerCreating").hopeless
    assert not Waiting("PodInitializing").hopeless


def test_a_sidecar_drops_all_rights_but_the_one_it_uses() -> None:
    body = patch_for(plan(guarded=True), "bounceback:dev", "IfNotPresent")
    assert body["metadata"]["uid"] == "uid-0", "a namesake of the pod is not patched"
    agent, guard = body["spec"]["ephemeralContainers"]
    assert (agent["name"], guard["name"]) == ("bb-0123456789", "bb-0123456789-guard")
    assert agent["command"] == ["python3", "-m", "bounceback.agent", "run"]
    assert guard["command"] == ["python3", "-m", "bounceback.agent", "guard"]
    assert agent["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert agent["securityContext"]["allowPrivilegeEscalation"] is False
    assert agent["env"] == guard["env"]


def test_an_agent_that_only_hands_rules_to_the_proxy_has_no_right_at_all() -> None:
    handing = replace(plan(), orders=(replace(plan().orders[0], act=ApiRules("[]")),))
    (agent,) = patch_for(handing, "bounceback:dev", "IfNotPresent")["spec"]["ephemeralContainers"]
    held = agent["securityContext"]
    assert (held["runAsNonRoot"], held["runAsUser"], held["capabilities"]) == (True, USER, {"drop": ["ALL"]})
    tried = trial_patch("uid-0", False, "bounceback:dev", "IfNotPresent", kernel=False)["spec"]["ephemeralContainers"]
    assert tried[0]["securityContext"] == held, "what was tried is what comes"
    both = replace(plan(), orders=(*handing.orders, *plan().orders))
    (agent,) = patch_for(both, "bounceback:dev", "IfNotPresent")["spec"]["ephemeralContainers"]
    assert agent["securityContext"]["capabilities"]["add"] == ["NET_ADMIN"]


def test_a_node_pod_ends_by_the_kubelets_clock_too() -> None:
    body = agent_pod(plan(), "node-1", "bounceback-system", "bounceback:dev", "IfNotPresent", NOW + 0.5)
    spec = body["spec"]
    assert spec["activeDeadlineSeconds"] == 90 + SLACK
    assert spec["nodeName"] == "node-1" and spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["hostPID"] and "hostNetwork" not in spec
    assert spec["restartPolicy"] == "Never" and spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "bounceback-agent"
    assert body["metadata"]["labels"]["bounceback.dev/experiment-uid"] == "run-uid"
    assert body["metadata"]["labels"]["bounceback.dev/role"] == "agent"
    (agent,) = spec["containers"]
    assert agent["securityContext"]["capabilities"] == {
        "drop": ["ALL"],
        "add": ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"],
    }
    assert "privileged" not in agent["securityContext"]
    late = agent_pod(plan(), "node-1", "ns", "i", "Always", NOW + 10_000)
    assert late["spec"]["activeDeadlineSeconds"] == 1 + SLACK


@pytest.mark.parametrize(("act", "more"), [(Crash(), ["DAC_READ_SEARCH", "KILL"]), (Answer(503), [])])
def test_an_agent_that_kills_clients_may(act: Act, more: list[str]) -> None:
    rules = ApiRules(json.dumps([asdict(ApiRule("it", act))]))
    killing = replace(plan(), orders=tuple(replace(each, act=rules) for each in plan().orders))
    assert capabilities(killing) == more


def test_who_verifies_looks_from_the_node() -> None:
    notes = {"bbi-1": {"unit": "kubelet.service"}, "bbi-2": {"long": "x" * LONGEST_PLAN}, "bbi-3": {}}
    body = verify_pod(plan(), "node-1", "ns", "image", "Always", notes)
    found = plan_in(body, "agent")
    assert found is not None and found.on_node
    assert body["metadata"]["name"] == "bb-0123456789-verify"
    environment = {each["name"]: each["value"] for each in body["spec"]["containers"][0]["env"]}
    assert json.loads(environment[NOTES_VARIABLE]) == {**notes, "bbi-2": {}}, "what has no room is undone without"


def test_a_probe_pod_sees_no_processes_of_the_node() -> None:
    def probe(boot: str) -> dict[str, Any]:
        return probe_pod("node-1", boot, Realm.NETWORK, "ns", "image", "Always")

    body = probe("boot")
    assert not body["spec"]["hostPID"]
    assert body["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] == ["NET_ADMIN"]
    assert body["metadata"]["name"] == probe("boot")["metadata"]["name"]
    assert body["metadata"]["name"] != probe("other")["metadata"]["name"]


def test_a_plan_comes_back_out_of_the_pod_it_was_given_to() -> None:
    for one in (plan(), plan(tuple(Flow(f"10.0.{n}.0/24") for n in range(200)), orders=50)):
        body = {"spec": patch_for(one, "image", "Always")["spec"]}
        assert plan_in(body, one.agent) == one
        assert plan_in(body, "another") is None


def test_a_plan_that_fits_in_no_variable_is_refused_with_the_way_out() -> None:
    noise = tuple(
        Flow(f"10.{n * 7919 % 256}.{n * 104729 % 256}.{n % 256}/32", "TCP", (n % 65535 + 1,)) for n in range(60_000)
    )
    with pytest.raises(Refused, match="choose fewer targets") as refused:
        patch_for(plan(noise), "image", "Always")
    assert refused.value.reason == "PlanTooLarge"


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (403, 'pods "web-0" is forbidden: violates PodSecurity "restricted:latest": x', "PodSecurity"),
        (403, 'User "op" cannot impersonate resource "serviceaccounts"', "Forbidden"),
        (403, 'User "x" cannot patch resource "pods/ephemeralcontainers"', "Forbidden"),
        (400, 'admission webhook "validate.kyverno.svc" denied the request', "AdmissionDenied"),
        (422, "ValidatingAdmissionPolicy 'no-debug' denied request", "AdmissionDenied"),
        (422, "static pods do not support ephemeral containers", "Unsupported"),
        (404, 'pods "web-0" not found', "TargetGone"),
        (429, "too many requests", None),
        (500, "etcdserver: leader changed", None),
    ],
)
def test_an_answer_is_told_in_the_users_words(status: int, message: str, reason: str | None) -> None:
    error = KubeError(status, "NotFound" if status == 404 else "", message)
    refused = refusal(error, "account a", "an agent in pod web-0")
    assert (refused.reason if refused else None) == reason
    assert refused is None or "pod web-0" in refused.message or "impersonate" in refused.message
