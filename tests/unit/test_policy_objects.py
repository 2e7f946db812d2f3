"""Objects without a namespace: changed only as a policy allows, and never those that the way back leads through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.policy import FaultPolicySpec
from bounceback.cli.linting import lint
from bounceback.cli.main import main
from bounceback.engine import restoring
from bounceback.engine.policy import Labelled, NodeUse, ObjectUse, Policy, changes_of_cluster, takes_policy, withheld
from bounceback.engine.restoring import Patch
from bounceback.engine.webhook_guard import kept_from
from bounceback.faults import ObjectFault
from bounceback.faults.node_fault import NodeFaultKind
from bounceback.faults.object_fault import FIELDS
from bounceback.types.objects import ADMISSION, ClusterFaultKind, ClusterKind, Json
from tests.spec_case import EXPERIMENT, POLICY
from tests.unit.engine_values import injection

CHANGED, VALIDATING, MUTATING, NAMESPACE = str(ClusterFaultKind.WEBHOOK_FAILURE_POLICY_CHANGED), *map(str, ClusterKind)
SHOP = Labelled("shop", {"kubernetes.io/metadata.name": "shop"})
HOME = Labelled("bounceback-system", {"kubernetes.io/metadata.name": "bounceback-system"})
GUARD = Labelled("guard", {"team": "shop"})
PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


def policy(name: str = "p", namespace: str = "shop", **objects: Any) -> Policy:
    allowed = {"kind": VALIDATING, "faults": [CHANGED], **objects}
    spec = {"experiments": {"namespaces": {"names": [namespace]}}, "allow": {"objects": [allowed]}}
    return Policy(name, FaultPolicySpec.model_validate(spec))


def use(on: Labelled = GUARD, kind: str = VALIDATING) -> ObjectUse:
    return ObjectUse("ignored", CHANGED, kind, on)


def against(policies: list[Policy], *uses: ObjectUse | NodeUse) -> str:
    found = withheld(policies, SHOP, uses)
    return found.words if found else ""


def test_a_policy_allows_the_objects_that_it_names() -> None:
    assert not against([policy(names=["guard"])], use())
    assert not against([policy(selector={"matchLabels": {"team": "shop"}})], use())
    assert not against([policy("one", names=["other"]), policy("two", names=["guard"])], use())


@pytest.mark.parametrize(
    ("policies", "why"),
    [
        ([], f"no FaultPolicy allows {CHANGED} on {VALIDATING} guard: of 0 policies none is for namespace shop"),
        ([policy(names=["other"])], f"p is about {VALIDATING} other"),
        ([policy(names=["guard"], kind=MUTATING)], f"p is about {MUTATING} guard"),
        ([policy(selector={"matchLabels": {"team": "bank"}})], f"p is about {VALIDATING} team=bank"),
        ([policy(names=["guard"], namespace="bank")], "of 1 policies none is for namespace shop"),
        ([Policy("of-nodes", FaultPolicySpec.model_validate(POLICY))], "of-nodes is about nodes only"),
    ],
)
def test_what_no_policy_names_is_not_touched(policies: list[Policy], why: str) -> None:
    assert why in against(policies, use())


def test_who_may_change_webhooks_may_do_nothing_to_nodes() -> None:
    node = NodeUse("cordon", NodeFaultKind.NODE_CORDON, Labelled("node-1", {}))
    assert "p is about no nodes" in against([policy(names=["guard"])], node)


def experiment(names: list[str] | None = None, kind: str = VALIDATING, **fault: Any) -> Json:
    targets = {"apiVersion": ADMISSION, "kind": kind, "names": names or ["guard"]}
    done = fault or {CHANGED: {"failurePolicy": "Ignore"}}
    return {
        **EXPERIMENT,
        "targets": [{"name": "web", "objects": targets}],
        "faults": [{"name": "ignored", "target": "web", "objectFault": done}],
    }


def test_what_takes_a_policy_is_known_from_the_spec() -> None:
    spec = FaultExperimentSpec.model_validate(experiment())
    assert takes_policy(spec, []) and list(changes_of_cluster(spec)) == ["ignored"]
    within = FaultExperimentSpec.model_validate(EXPERIMENT)
    assert not takes_policy(within, [injection()])
    assert takes_policy(within, [injection(), injection(host_network=True)])


def test_a_policy_knows_faults_that_there_are_and_no_other_hits_such_objects() -> None:
    assert set(map(str, ClusterFaultKind)) <= set(FIELDS)
    assert not ObjectFault.model_validate({"deleted": {}}).unfit("v1", NAMESPACE)
    assert "hit by deleted only" in ObjectFault.model_validate({"stuckFinalizer": {}}).unfit("v1", NAMESPACE)
    for field, values in {"deleted": {}, "frozen": {}, "fieldRemoved": {"path": "/webhooks"}}.items():
        fault = ObjectFault.model_validate({field: values})
        assert fault.unfit(ADMISSION, VALIDATING) == (
            f"a {VALIDATING} has no namespace: of the objectFaults it can be hit by {CHANGED} only"
        )


def remarks(folder: Path, *objects: Json) -> str:
    file = folder / "given.yaml"
    file.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return "\n".join(str(remark).removeprefix(str(file)) for remark in lint([str(file)]).remarks)


def manifest(kind: str, spec: Json, **metadata: str) -> Json:
    return {"apiVersion": "bounceback.dev/v1alpha1", "kind": kind, "metadata": {"name": "x", **metadata}, "spec": spec}


def test_lint_tells_of_objects_that_no_policy_of_the_files_allows(tmp_path: Path) -> None:
    def told(**objects: Any) -> bool:
        allowed = {"allow": {"objects": [{"kind": VALIDATING, "faults": [CHANGED], **objects}]}}
        files = [manifest("FaultPolicy", {**POLICY, **allowed})] if objects else []
        words = remarks(tmp_path, manifest("FaultExperiment", experiment(), namespace="shop"), *files)
        return f"spec.faults[0].objectFault.{CHANGED}: takes a FaultPolicy" in words

    assert told() and told(names=["other"]) and told(names=["guard"], kind=MUTATING)
    assert not told(names=["guard"]) and not told(selector={"matchLabels": {"team": "shop"}})


def test_lint_refuses_what_no_policy_can_allow(tmp_path: Path) -> None:
    words = remarks(tmp_path, manifest("FaultExperiment", experiment(deleted={})))
    assert f"it can be hit by {CHANGED} only" in words


def test_rights_are_printed_for_the_objects_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    resource = "validatingwebhookconfigurations.admissionregistration.k8s.io"
    assert main(["access", "shop", "--cluster-objects", f"{resource}/guard,{resource}/bank"]) == 0
    role, binding = [
        each for each in yaml.safe_load_all(capsys.readouterr().out) if each["kind"].startswith("ClusterRole")
    ]
    assert role["rules"] == [
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["validatingwebhookconfigurations"],
            "resourceNames": ["guard", "bank"],
            "verbs": ["get", "list", "watch", "patch"],
        }
    ]
    assert role["metadata"]["name"] == binding["roleRef"]["name"] == "bounceback-objects:shop:bounceback"
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "bounceback", "namespace": "shop"}]


def test_rights_to_delete_a_namespace_are_confined_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["access", "shop", "--account", "chaos", "--cluster-objects", "namespaces/tenant,namespaces/other"]) == 0
    )
    made = list(yaml.safe_load_all(capsys.readouterr().out))
    role, contents = [each for each in made if each["kind"] == "ClusterRole"]
    assert {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["create"]} in role["rules"]
    bind = next(rule for rule in role["rules"] if rule["verbs"] == ["bind"])
    assert bind["resourceNames"] == [contents["metadata"]["name"]]
    bound = [each for each in made if each["kind"] == "RoleBinding"]
    there = [each for each in bound if each["roleRef"]["name"] == bind["resourceNames"][0]]
    assert [each["metadata"]["namespace"] for each in there] == ["tenant", "other"]
    policy, binding = [each for each in made if each["kind"].startswith("ValidatingAdmissionPolicy")]
    assert policy["metadata"]["name"] == binding["spec"]["policyName"] == "bounceback.shop.chaos"
    assert policy["spec"]["matchConditions"][0]["expression"].endswith("'system:serviceaccount:shop:chaos'")
    assert all("['tenant', 'other']" in each["expression"] for each in policy["spec"]["validations"])
    assert binding["spec"]["validationActions"] == ["Deny"]


@pytest.mark.parametrize("wrong", ["webhooks", "configmaps/x", "namespaces/A", "a.b/", "A.b/c"])
def test_what_names_no_object_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["access", "shop", "--cluster-objects", wrong])
    assert "must be RESOURCE.GROUP/NAME" in capsys.readouterr().err


def webhook(name: str = "a.example.com", service: str = "shop", **more: Any) -> Json:
    client = {"service": {"name": "guard", "namespace": service}}
    return {"name": name, "failurePolicy": "Ignore", "clientConfig": client, "rules": [PODS], **more}


def configuration(*webhooks: Json, name: str = "guard", **metadata: Any) -> Json:
    metadata = {"name": name, "uid": "u", "resourceVersion": "5", **metadata}
    return {"apiVersion": ADMISSION, "kind": VALIDATING, "metadata": metadata, "webhooks": list(webhooks)}


def to(failure_policy: str, *names: str) -> ObjectFault:
    return ObjectFault.model_validate({CHANGED: {"failurePolicy": failure_policy, "names": list(names)}})


def why(body: Json, fault: ObjectFault) -> str:
    return kept_from(body, fault, HOME, SHOP, ["second-arming"])


HERE: Json = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (configuration(webhook(), name="second-arming"), "it belongs to Bounceback"),
        (configuration(labels={"app.kubernetes.io/name": "bounceback"}), "it belongs to Bounceback"),
        (configuration(webhook(), webhook("x.arming.bounceback.dev")), "it belongs to Bounceback"),
        (configuration(webhook(service="bounceback-system")), "it belongs to Bounceback"),
        (configuration(webhook(service="kube-system")), "it is the cluster's own, and answered from kube-system"),
    ],
)
def test_bouncebacks_own_webhooks_and_the_clusters_are_left_alone(body: Json, words: str) -> None:
    for policy in ("Ignore", "Fail"):
        assert words in why(body, to(policy))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"namespaceSelector": {}},
        {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}},
        {"rules": [{**PODS, "resources": ["*/*"], "apiGroups": ["*"]}]},
        {"rules": [{**PODS, "resources": ["leases"], "apiGroups": ["coordination.k8s.io"]}]},
        {**HERE, "rules": [{**PODS, "resources": ["faultexperiments/status"], "apiGroups": ["bounceback.dev"]}]},
    ],
)
def test_a_webhook_that_is_asked_about_bouncebacks_own_writes_must_not_come_to_fail(asked: Json) -> None:
    body = configuration(webhook(**asked))
    assert "must not come to refuse requests" in why(body, to("Fail"))
    assert not why(body, to("Ignore")), "that lets more pass, and is in nobody's way"
    assert not why(configuration(webhook(**asked), webhook("b.example.com", **HERE)), to("Fail", "b.example.com"))


@pytest.mark.parametrize(
    "asked",
    [
        HERE,
        {"rules": [{**PODS, "resources": ["deployments"], "apiGroups": ["apps"]}]},
        {"rules": [{**PODS, "resources": ["*"], "apiGroups": ["*"], "scope": "Cluster"}]},
    ],
)
def test_a_webhook_that_is_asked_about_others_may_come_to_fail(asked: Json) -> None:
    assert not why(configuration(webhook(**asked)), to("Fail"))


def test_what_a_webhook_writes_into_its_own_configuration_meanwhile_stays() -> None:
    """Its authority, when it starts anew: only the failure policy is put back."""
    fields: Json = {"matchPolicy": "Equivalent", **HERE}
    (change,) = to("Fail").changes(configuration(webhook(**fields), webhook("b.example.com", **fields)), "run")
    back = restoring.back_again(change)
    assert isinstance(back, Patch) and change.before is not None and change.after is not None
    assert back.ops[-1] == {"op": "replace", "path": "/webhooks", "value": change.before["webhooks"]}
    now = {**change.after, "metadata": {**change.after["metadata"], "resourceVersion": "9"}}
    now["webhooks"] = [
        {**each, "clientConfig": {**each["clientConfig"], "caBundle": "new"}} for each in now["webhooks"]
    ]
    undone = restoring.undo(change, now)
    assert isinstance(undone, Patch) and undone.left_alone == ()
    (written,) = [op["value"] for op in undone.ops if op["path"] == "/webhooks"]
    assert [(each["failurePolicy"], each["clientConfig"]["caBundle"]) for each in written] == [("Ignore", "new")] * 2
