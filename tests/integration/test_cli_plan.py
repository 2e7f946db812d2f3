"""`bounceback plan`: what would be touched, found out on a real cluster, with nothing touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from bounceback.cli.cluster import EXPERIMENTS, Cluster
from bounceback.types.realms import Realm
from bounceback.vehicles.capabilities import cache_key
from tests.commands import Commands, until
from tests.run_parts import Json, injection
from tests.spec_case import CHECK

PODS = 4
PARTITION: Json = {"networkPartition": {}}
DELAY: Json = {"networkDelay": {"delayMilliseconds": 200}}
SLOW: Json = {"ioDelay": {"path": "/tmp", "delayMilliseconds": 200}}
DELETE: Json = {"podDelete": {}}
WEB: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": PODS,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "web",
                        "image": "bounceback:dev",
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["python3", "-c", "import signal; signal.pause()"],
                    }
                ],
            },
        },
    },
}

Plan = Callable[..., Json]


@pytest.fixture(scope="module")
def shop(commands: Commands, api: Cluster) -> Iterator[str]:
    """A namespace that is open to experiments, with four pods in it."""
    with commands.namespace("bb-plan") as name:
        commands.kubectl("apply", "-f", "-", stdin=commands.bounceback("access", name).out)
        commands.apply(name, WEB)
        commands.kubectl("rollout", "status", "deployment/web", "--namespace", name, "--timeout=120s")
        yield name


@pytest.fixture(scope="module")
def home(commands: Commands) -> Iterator[str]:
    """A namespace in the place of the operator's."""
    with commands.namespace("bb-plan-home") as name:
        yield name


@pytest.fixture
def knows(commands: Commands, shop: str, home: str) -> Iterator[Callable[..., None]]:
    """Writes down what the node's kernel can do, as an operator would have."""

    def know(*features: str, realm: Realm = Realm.NETWORK) -> None:
        pods = commands.get("pods", "--namespace", shop)["items"]
        entry = {"boot": "b", "kernel": "6.1", "image": "i", "features": list(features), "at": 1}
        nodes = {cache_key(pod["spec"]["nodeName"], realm): json.dumps(entry) for pod in pods}
        metadata = {"name": "bounceback-nodes"}
        commands.apply(home, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": nodes})

    yield know
    commands.kubectl("delete", "configmap", "bounceback-nodes", "--namespace", home, "--ignore-not-found")


@pytest.fixture
def plan(commands: Commands, shop: str, home: str, tmp_path: Path) -> Plan:
    def run(*faults: Json, code: int = 0, namespace: str = "", **fields: object) -> Json:
        selector = {"selector": {"matchLabels": {"app": "web"}}, "mode": "Percent", "value": 50}
        spec = {
            "targets": [{"name": "web", "pods": selector}],
            "faults": [{"name": f"fault-{n}", "target": "web", **fault} for n, fault in enumerate(faults)],
            "checks": [{"name": "web-healthy"}],
            **fields,
        }
        common = {"apiVersion": "bounceback.dev/v1alpha1"}
        objects = [
            {**common, "kind": "RecoveryCheck", "metadata": {"name": "web-healthy"}, "spec": CHECK},
            {**common, "kind": "FaultExperiment", "metadata": {"name": "planned"}, "spec": spec},
        ]
        file = tmp_path / "planned.yaml"
        file.write_text(yaml.safe_dump_all(objects))
        words = ["plan", "-n", namespace or shop, "--operator-namespace", home, "-o", "json", str(file)]
        result = commands.bounceback(*words)
        assert result.code == code, result.err + result.out
        told: Json = json.loads(result.out)
        return told

    return run


def test_pods_vehicle_and_rung_are_foreseen_and_nothing_is_touched(
    commands: Commands, shop: str, plan: Plan, knows: Callable[..., None]
) -> None:
    knows("nft-inet", "nft-owner")
    versions = [p["metadata"]["resourceVersion"] for p in commands.get("pods", "--namespace", shop)["items"]]
    told = plan(PARTITION, {**DELETE, "startAfterSeconds": 5})
    assert told["matching"] == {"web": PODS}
    assert [(each["vehicle"], each["rung"]) for each in told["faults"]["fault-0"]] == [("Sidecar", "Nft")] * 2
    assert [(each["vehicle"], each["rung"]) for each in told["faults"]["fault-1"]] == [("PodDelete", "Api")] * 2
    assert {each["pod"] for each in told["faults"]["fault-0"]} == {each["pod"] for each in told["faults"]["fault-1"]}
    after = commands.get("pods", "--namespace", shop)["items"]
    assert [pod["metadata"]["resourceVersion"] for pod in after] == versions
    assert commands.get("fe,rck", "--namespace", shop)["items"] == []


def test_the_seed_decides_and_the_same_seed_decides_alike(plan: Plan) -> None:
    chosen = [
        tuple(each["pod"] for each in plan(DELETE, seed=seed)["faults"]["fault-0"]) for seed in (1, 1, 2, 3, 4, 5)
    ]
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) > 1


def test_a_kernel_that_nobody_has_probed_is_unknown(plan: Plan) -> None:
    assert {each["rung"] for each in plan(DELAY)["faults"]["fault-0"]} == {"unknown: probed at the start"}


def test_a_kernel_that_cannot_is_named_with_what_it_lacks(plan: Plan, knows: Callable[..., None]) -> None:
    knows("nft-inet", "sch_prio")
    told = plan(DELAY, code=2)
    [refusal] = told["refusals"]
    assert refusal.startswith("spec.faults[0].networkDelay: node ")
    assert "Netem needs cls_u32, sch_netem" in refusal


def test_what_a_kernel_asks_about_files_is_foreseen_or_said_to_be_unknown(
    plan: Plan, knows: Callable[..., None]
) -> None:
    told = plan(SLOW)
    assert {each["vehicle"] for each in told["faults"]["fault-0"]} == {"NodePod"}
    assert any("is probed at the start, by a pod of ours there with SYS_ADMIN" in note for note in told["notes"])
    knows("fanotify-perm", realm=Realm.FILES)
    assert not any("SYS_ADMIN" in note for note in plan(SLOW)["notes"])
    [refusal] = plan({"ioError": {"path": "/tmp", "error": "EIO"}}, code=2)["refusals"]
    assert refusal.startswith("spec.faults[0].ioError: node ")
    assert "Node needs fanotify-errno; use error EPERM" in refusal
    absent = plan({"ioDelay": {**SLOW["ioDelay"], "container": "db"}}, code=2)["refusals"]
    assert "it has no container db; it has web" in absent[0]


def test_pod_security_leads_to_a_node_pod_for_all_faults_of_the_pod(
    commands: Commands, shop: str, plan: Plan, knows: Callable[..., None]
) -> None:
    knows("nft-inet")
    label = "pod-security.kubernetes.io/enforce"
    commands.kubectl("label", "namespace", shop, f"{label}=baseline")
    try:
        told = plan(PARTITION)
        assert {each["vehicle"] for each in told["faults"]["fault-0"]} == {"NodePod"}
        refused = plan({**PARTITION, "vehicle": "Sidecar"}, code=2)
        assert "spec.faults[0].vehicle" in refused["refusals"][0]
    finally:
        commands.kubectl("label", "namespace", shop, f"{label}-")


ROLES = "roles.rbac.authorization.k8s.io"


def test_rights_that_could_not_be_given_back_are_foreseen(commands: Commands, shop: str, plan: Plan) -> None:
    commands.kubectl("apply", "-f", "-", stdin=commands.bounceback("access", shop, "--objects", ROLES).out)
    role = ["create", "role", "deployer", "--namespace", shop, "--verb=update", "--resource=deployments.apps"]
    commands.kubectl(*role)
    target = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "names": ["deployer"]}
    taken: Json = {"objectFault": {"deleted": {}}}

    def refusals() -> list[str]:
        """Once the API server's authorizer knows of the account's new right."""
        told: list[str] = plan(taken, code=2, targets=[{"name": "web", "objects": target}])["refusals"]
        return told if "attempting to grant" in "".join(told) else []

    [refusal] = until(refusals, "it is foreseen")
    assert refusal.startswith("spec.serviceAccountName: ")
    assert "attempting to grant RBAC permissions not currently held" in refusal


THROTTLED: Json = {"apiFault": {"requests": [{"verbs": ["update"]}], "answer": {"code": 429}}}
KILL: Json = {"containerKill": {}}
NOBODYS: Json = {
    "containers": [{"name": "main", "image": "bounceback:dev"}],
    "initContainers": [{"name": "bounceback-api-proxy", "image": "bounceback:dev", "restartPolicy": "Always"}],
    "nodeName": "nowhere",
    "hostUsers": False,
}
"""An armed pod with users of its own, on a node whose kubelet nobody has."""


def test_rules_for_a_pod_with_users_of_its_own_do_not_travel_with_what_takes_a_node_pod(
    commands: Commands, shop: str, plan: Plan
) -> None:
    metadata = {"name": "own-users", "labels": {"app": "own-users"}}
    commands.apply(shop, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": NOBODYS})
    running = ["--subresource=status", "-p", '{"status": {"phase": "Running"}}']
    commands.kubectl("patch", "pod", "own-users", "--namespace", shop, *running)
    try:
        targets = [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "own-users"}}}}]
        [alone] = plan(THROTTLED, targets=targets)["faults"]["fault-0"]
        assert (alone["vehicle"], alone["rung"]) == ("Sidecar", "Proxy")
        [refusal] = plan(THROTTLED, KILL, code=2, targets=targets)["refusals"]
        assert refusal.startswith("spec.faults: pod own-users has users of its own (hostUsers: false)")
        assert "put them in experiments of their own" in refusal
    finally:
        commands.kubectl("delete", "pod", "own-users", "--namespace", shop, "--grace-period=0", "--force")


def test_no_pod_no_check_no_account_and_a_freeze_all_stand_against_it(
    commands: Commands, shop: str, home: str, plan: Plan, tmp_path: Path
) -> None:
    nobody = [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "nobody"}}}}]
    assert "app=nobody matches 0 pods" in plan(DELETE, code=2, targets=nobody)["refusals"][0]
    missing = plan(DELETE, code=2, checks=[{"name": "absent"}])["refusals"]
    assert missing == [f"spec.checks[0].name: there is no RecoveryCheck absent in {shop}"]
    [account] = plan(DELETE, code=2, serviceAccountName="poor")["refusals"]
    assert account.startswith("spec.serviceAccountName: ")
    assert "poor" in account
    commands.bounceback("freeze", "--operator-namespace", home, "--reason", "quarter end")
    assert plan(DELETE, code=2)["refusals"] == ["the operator: all experiments are frozen: quarter end"]
    commands.bounceback("freeze", "--operator-namespace", home, "--off")


def test_a_protected_namespace_is_refused(plan: Plan) -> None:
    told = plan(DELETE, code=2, namespace="kube-system")
    assert told["refusals"] == ["metadata.namespace: experiments in kube-system are refused"]


def test_pods_that_another_experiment_holds_are_named(commands: Commands, shop: str, api: Cluster, plan: Plan) -> None:
    pods = commands.get("pods", "--namespace", shop)["items"]
    spec = {
        "targets": [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "web"}}}}],
        "faults": [{"name": "kill", "target": "web", **DELETE}],
        "checks": [{"name": "web-healthy"}],
    }
    body = {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": "FaultExperiment",
        "metadata": {"name": "holder", "namespace": shop},
        "spec": spec,
    }
    made = api.create(EXPERIMENTS, body)
    held = [
        injection(n, "kill", pod["metadata"]["name"], podUid=pod["metadata"]["uid"], state="Active")
        for n, pod in enumerate(pods)
    ]
    api.patch(EXPERIMENTS, shop, "holder", {"status": {"phase": "Active", "injections": held}}, subresource="status")
    try:
        assert "are held by holder, which still runs" in plan(DELETE, code=2)["refusals"][0]
        named = commands.bounceback("plan", "-n", shop, "holder")
        assert "there is no RecoveryCheck web-healthy" in named.out
        assert f"kill on {PODS} pods" in named.out
        assert f"web: {PODS} running pods to choose from" in named.out
    finally:
        api.delete(EXPERIMENTS, shop, "holder", made["metadata"]["uid"])


def test_what_is_neither_a_file_nor_an_experiment_is_told(commands: Commands, shop: str, api: Cluster) -> None:
    result = commands.bounceback("plan", "-n", shop, "nothing")
    assert result.code == 2
    assert f"there is no FaultExperiment nothing in {shop}" in result.err
