"""What each kind of objectFault makes of its target, and which targets it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bounceback.engine import restoring
from bounceback.engine.restoring import Create, Nothing, Patch
from bounceback.faults.object_fault import FIELDS, ObjectFault
from bounceback.types.objects import Dependents, Json
from bounceback.types.outcome import Healing
from bounceback.types.plan import Rung

RUN = "0b5c1c1e-run"
LABELS = {"app.kubernetes.io/managed-by": "bounceback", "bounceback.dev/experiment-uid": RUN}
CONTAINERS: list[Json] = [{"name": "app", "image": "web:1"}, {"name": "log", "image": "log:1", "command": ["tail"]}]
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": CONTAINERS}}
SELECTOR = {"matchLabels": {"app": "web"}}


def target(api_version: str, kind: str, metadata: Json | None = None, **fields: Any) -> Json:
    named = {"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "5", **(metadata or {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": named, **copy.deepcopy(fields)}


DEPLOYMENT = target("apps/v1", "Deployment", spec={"replicas": 3, "selector": SELECTOR, "template": TEMPLATE})
POD = target("v1", "Pod", {"ownerReferences": [{"kind": "ReplicaSet", "name": "r", "uid": "o"}]}, spec=TEMPLATE["spec"])
CRON_JOB = target("batch/v1", "CronJob", spec={"jobTemplate": {"spec": {"template": TEMPLATE}}})
CONFIG = target("v1", "ConfigMap", {"labels": {"app": "web", "team": "a"}}, data={"a": "1", "b": "2"})
SECRET = target("v1", "Secret", data={"password": "c2VjcmV0"}, type="Opaque")
BINDING = target(
    "rbac.authorization.k8s.io/v1",
    "RoleBinding",
    subjects=[{"kind": "ServiceAccount", "name": "web"}, {"kind": "User", "name": "ann"}],
    roleRef={"kind": "Role", "name": "web"},
)
SERVICE = target("v1", "Service", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
LEASE = target(
    "coordination.k8s.io/v1",
    "Lease",
    spec={"holderIdentity": "web-1", "leaseDurationSeconds": 9, "leaseTransitions": 4, "renewTime": "then"},
)
BUDGET = target("policy/v1", "PodDisruptionBudget", spec={"minAvailable": 1, "selector": SELECTOR})
QUOTA = target(
    "v1", "ResourceQuota", spec={"hard": {"pods": "9", "secrets": "9"}}, status={"used": {"pods": "2", "secrets": "0"}}
)
WEBHOOKS = target(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    webhooks=[{"name": "a.example.com", "failurePolicy": "Ignore"}, {"name": "b.example.com", "failurePolicy": "Fail"}],
)
THING = target("example.com/v1", "Thing", spec={"size": 3, "mode": {"fast": True}}, status={"ready": True})
TAKEN = {"holderIdentity": "bounceback", "leaseDurationSeconds": 9, "leaseTransitions": 5, "renewTime": "then"}


def fault(field: str, **fields: Any) -> ObjectFault:
    return ObjectFault.model_validate({field: fields})


def op(what: str, path: str, value: Any = None) -> Json:
    return {"op": what, "path": path} | ({} if what == "remove" else {"value": value})


CONTAINERS_AT = "/spec/template/spec/containers"
LOG = {"name": "log", "image": "log:1", "command": ["false"]}
CRASHING = [{**CONTAINERS[0], "command": ["/bounceback/no-such-program"]}, CONTAINERS[1]]
BAD = "registry.invalid/bounceback/no-such-image:none"


@pytest.mark.parametrize(
    ("made", "of", "ops"),
    [
        (fault("scaledToZero"), DEPLOYMENT, [op("replace", "/spec/replicas", 0)]),
        (fault("crashLoop"), DEPLOYMENT, [op("replace", CONTAINERS_AT, CRASHING)]),
        (fault("crashLoop", container="log", command=["false"]), CRON_JOB,
         [op("replace", f"/spec/jobTemplate{CONTAINERS_AT}", [CONTAINERS[0], LOG])]),
        (fault("badImage"), DEPLOYMENT,
         [op("replace", CONTAINERS_AT, [{**CONTAINERS[0], "image": BAD}, CONTAINERS[1]])]),
        (fault("badImage", container="log", image="x"), POD,
         [op("replace", "/spec/containers", [CONTAINERS[0], {**CONTAINERS[1], "image": "x"}])]),
        (fault("fieldChanged", path="/spec/mode/fast", value=False), THING, [op("replace", "/spec/mode/fast", False)]),
        (fault("fieldChanged", path="/spec/mode/slow", value={"a": [1]}), THING,
         [op("add", "/spec/mode/slow", {"a": [1]})]),
        (fault("fieldRemoved", path="/spec/mode"), THING, [op("remove", "/spec/mode")]),
        (fault("dataDrift", set={"a": "x", "c": "y"}, remove=["b"]), CONFIG,
         [op("replace", "/data/a", "x"), op("remove", "/data/b"), op("add", "/data/c", "y")]),
        (fault("dataDrift", set={"password": "wrong"}), SECRET, [op("replace", "/data/password", "d3Jvbmc=")]),
        (fault("dataDrift", set={"b": "x"}), {**CONFIG, "data": {}, "binaryData": {"b": "AA=="}},
         [op("replace", "/binaryData/b", "eA==")]),
        (fault("labelsChanged", set={"app": "x"}, remove=["team"]), CONFIG,
         [op("replace", "/metadata/labels/app", "x"), op("remove", "/metadata/labels/team")]),
        (fault("ownerReferencesRemoved"), POD, [op("replace", "/metadata/ownerReferences", [])]),
        (fault("stuckFinalizer"), THING, [op("add", "/metadata/finalizers", [f"bounceback.dev/stuck-{RUN}"])]),
        (fault("blockingBudget"), BUDGET, [op("remove", "/spec/minAvailable"), op("add", "/spec/maxUnavailable", 0)]),
        (fault("quotaExhausted"), QUOTA,
         [op("replace", "/spec/hard/pods", "2"), op("replace", "/spec/hard/secrets", "0")]),
        (fault("quotaExhausted", resources=["pods"]), QUOTA, [op("replace", "/spec/hard/pods", "2")]),
        (fault("subjectsCleared"), BINDING, [op("replace", "/subjects", [])]),
        (fault("subjectsCleared", names=["ann"]), BINDING, [op("replace", "/subjects", BINDING["subjects"][:1])]),
        (fault("serviceDown"), SERVICE,
         [op("remove", "/spec/selector/app"), op("add", "/spec/selector/bounceback.dev~1nobody", RUN)]),
        (fault("leaseTaken"), LEASE,
         [op("replace", "/spec/holderIdentity", "bounceback"), op("replace", "/spec/leaseTransitions", 5)]),
        (fault("webhookFailurePolicyChanged", failurePolicy="Fail"), WEBHOOKS,
         [op("replace", "/webhooks", [{"name": "a.example.com", "failurePolicy": "Fail"}, WEBHOOKS["webhooks"][1]])]),
    ],
    ids=lambda value: value.field if isinstance(value, ObjectFault) else None,
)  # fmt: skip
def test_a_change_is_what_it_says_and_its_undo_is_exact(made: ObjectFault, of: Json, ops: list[Json]) -> None:
    untouched = copy.deepcopy(of)
    (change,) = made.changes(of, RUN)
    assert of == untouched
    done = restoring.patch(change)
    assert isinstance(done, Patch)
    assert list(done.ops) == [op("replace", "/metadata/resourceVersion", "5"), *ops]
    undone = restoring.undo(change, change.after)
    assert isinstance(undone, Patch) and undone.left_alone == ()


@pytest.mark.parametrize("of", [DEPLOYMENT, SERVICE], ids=lambda of: of["kind"])
@pytest.mark.parametrize(
    ("made", "kind", "spec"),
    [
        (fault("blockingBudget"), "PodDisruptionBudget", {"maxUnavailable": 0, "selector": SELECTOR}),
        (fault("quotaExhausted"), "ResourceQuota", {"hard": {"pods": "0"}}),
        (fault("quotaExhausted", resources=["count/jobs.batch"]), "ResourceQuota", {"hard": {"count/jobs.batch": "0"}}),
        (fault("denyAllTraffic"), "NetworkPolicy", {"podSelector": SELECTOR, "policyTypes": ["Ingress", "Egress"]}),
        (fault("denyAllTraffic", direction="Egress"), "NetworkPolicy",
         {"podSelector": SELECTOR, "policyTypes": ["Egress"]}),
    ],
)  # fmt: skip
def test_what_is_made_beside_a_target_is_marked_and_goes_again(
    made: ObjectFault, kind: str, spec: Json, of: Json
) -> None:
    (change,) = made.changes(of, RUN)
    done = restoring.patch(change)
    assert isinstance(done, Create)
    assert (done.body["kind"], done.body["spec"]) == (kind, spec)
    assert done.body["metadata"]["labels"] == LABELS
    assert done.body["metadata"]["namespace"] == "shop"
    assert made.changes(of, RUN) == [change], "the same name each time"
    assert made.changes({**of, "metadata": {**of["metadata"], "uid": "u-2"}}, RUN)[0].key != change.key


def test_deleted_keeps_all_that_is_needed_to_make_it_again() -> None:
    (change,) = fault("deleted", dependents="Keep").changes(SECRET, RUN)
    assert (change.before, change.after, change.dependents) == (SECRET, None, Dependents.KEEP)
    (change,) = fault("leaseDeleted").changes(LEASE, RUN)
    assert (change.after, change.whole) == (None, ("/spec",)), "it is renewed all the time"


def test_a_lease_that_is_taken_is_renewed_in_time() -> None:
    (change,) = fault("leaseTaken").changes(LEASE, RUN)
    assert change.kept is not None and change.after is not None
    assert (change.kept.every, change.kept.clocks) == (3.0, ("/spec/renewTime",))
    assert change.after["spec"] == TAKEN


def test_what_is_frozen_is_not_changed() -> None:
    (change,) = fault("frozen").changes(THING, RUN)
    assert restoring.patch(change) == Nothing()
    assert change.kept is not None and change.kept.paths == ("/spec",)
    (change,) = fault("frozen", paths=["/spec/size", "/spec/mode/fast"]).changes(THING, RUN)
    assert change.kept is not None and change.kept.paths == ("/spec/size", "/spec/mode/fast")


REFUSED: list[tuple[str, dict[str, Any], Json, str]] = [
    ("scaledToZero", {}, CONFIG, "ConfigMap web has no spec.replicas"),
    ("scaledToZero", {}, {**DEPLOYMENT, "spec": {"replicas": 0}}, "spec.replicas of Deployment web is 0 already"),
    ("crashLoop", {}, POD, "fixed when a Pod is made"),
    ("crashLoop", {}, CONFIG, "ConfigMap web has no pod template"),
    ("crashLoop", {"container": "db"}, DEPLOYMENT, "Deployment web has no container db; it has app, log"),
    ("crashLoop", {"container": "log", "command": ["tail"]}, DEPLOYMENT, "['tail'] already"),
    ("badImage", {"image": "web:1"}, DEPLOYMENT, "web:1 already"),
    ("badImage", {}, target("batch/v1", "Job"), "fixed when a Job is made"),
    ("deleted", {}, POD, "podDelete is for pods"),
    ("deleted", {}, target("v1", "ServiceAccount"), "tokens of this one never come back"),
    ("deleted", {}, target("batch/v1", "Job"), "it would run again"),
    ("deleted", {}, target("v1", "PersistentVolumeClaim"), "nothing brings that back"),
    ("deleted", {}, target("v1", "Service", {"finalizers": ["example.com/lb"]}), "has finalizers (example.com/lb)"),
    ("frozen", {}, target("v1", "Namespace"), "it can be hit by deleted only"),
    ("deleted", {}, target("v1", "Secret", {"deletionTimestamp": "now"}), "Secret web is being deleted"),
    ("fieldChanged", {"path": "/spec/x/y", "value": 1}, THING, "Thing web has no /spec/x that could hold y"),
    ("fieldChanged", {"path": "/spec/size/y", "value": 1}, THING, "there is no /spec/size that could hold y"),
    ("fieldChanged", {"path": "/spec/size", "value": 3}, THING, "/spec/size of Thing web has that value already"),
    ("fieldRemoved", {"path": "/spec/colour"}, THING, "Thing web has no /spec/colour that could be removed"),
    ("dataDrift", {"remove": ["z"]}, CONFIG, "ConfigMap web has no key z"),
    ("dataDrift", {"set": {"a": "1"}}, CONFIG, "key a of ConfigMap web has that value already"),
    ("dataDrift", {"set": {"a": "2"}}, {**CONFIG, "immutable": True}, "is immutable"),
    ("dataDrift", {"set": {"a": "2"}}, THING, "dataDrift is for ConfigMap and Secret, not for a Thing"),
    ("labelsChanged", {"remove": ["z"]}, CONFIG, "ConfigMap web has no label z"),
    ("labelsChanged", {"set": {"app": "web"}}, CONFIG, "label app of ConfigMap web has that value already"),
    ("ownerReferencesRemoved", {}, CONFIG, "ConfigMap web has no ownerReferences"),
    ("blockingBudget", {}, CONFIG, "ConfigMap web has no spec.selector"),
    ("blockingBudget", {}, {**BUDGET, "spec": {"maxUnavailable": 0}}, "allows no eviction already"),
    ("quotaExhausted", {"resources": ["cpu"]}, QUOTA, "does not say how much of cpu is used"),
    ("quotaExhausted", {}, {**QUOTA, "status": {"used": QUOTA["spec"]["hard"]}}, "is used up already"),
    ("subjectsCleared", {"names": ["bob"]}, BINDING, "has no subject bob; it has web, ann"),
    ("subjectsCleared", {}, DEPLOYMENT, "subjectsCleared is for RoleBinding and ClusterRoleBinding"),
    ("denyAllTraffic", {}, POD, "Pod web has no spec.selector"),
    ("serviceDown", {}, {**SERVICE, "spec": {"type": "ExternalName"}}, "its endpoints are not Kubernetes' own"),
    ("leaseTaken", {"holder": "web-1"}, LEASE, "is held by web-1 already"),
    ("leaseTaken", {}, CONFIG, "leaseTaken is for Lease, not for a ConfigMap"),
    ("frozen", {"paths": ["/spec/x"]}, THING, "Thing web has no /spec/x that could be kept"),
    ("frozen", {}, target("v1", "ServiceAccount"), "has nothing but metadata and status"),
    ("webhookFailurePolicyChanged", {"failurePolicy": "Fail", "names": ["b.example.com"]}, WEBHOOKS,
     "b.example.com whose"),
    ("frozen", {}, target("bounceback.dev/v1alpha1", "RecoveryCheck"), "it belongs to Bounceback"),
    ("frozen", {}, target("v1", "ConfigMap", {"labels": LABELS}, data={}), "it belongs to Bounceback"),
]  # fmt: skip


@pytest.mark.parametrize(("field", "fields", "of", "words"), REFUSED)
def test_a_target_that_does_not_fit_is_refused_in_words(field: str, fields: Json, of: Json, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        fault(field, **fields).changes(of, RUN)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "subject",
    [
        {"kind": "ServiceAccount", "name": "bounceback", "namespace": "shop"},
        {"kind": "ServiceAccount", "name": "bounceback"},
        {"kind": "User", "name": "system:serviceaccount:shop:bounceback"},
        {"kind": "Group", "name": "system:serviceaccounts:shop"},
        {"kind": "Group", "name": "system:authenticated"},
    ],
)
def test_the_rights_that_the_way_back_needs_are_left_alone(subject: Json) -> None:
    binding = {**BINDING, "subjects": [*BINDING["subjects"], subject]}
    for made in (fault("subjectsCleared"), fault("deleted")):
        with pytest.raises(ValueError, match="the experiment's own account bounceback has rights by it"):
            made.changes(binding, RUN, "bounceback")
    assert fault("deleted").changes(BINDING, RUN, "bounceback")
    with pytest.raises(ValueError, match="the experiment itself acts in its name"):
        fault("stuckFinalizer").changes(target("v1", "ServiceAccount", {"name": "bounceback"}), RUN, "bounceback")


def test_an_account_of_that_name_elsewhere_is_another() -> None:
    other = [{"kind": "ServiceAccount", "name": "bounceback", "namespace": "bank"}]
    assert fault("subjectsCleared").changes({**BINDING, "subjects": other}, RUN, "bounceback")


def test_every_kind_says_what_it_needs() -> None:
    reading = {"get deployments.apps", "list deployments.apps", "watch deployments.apps"}
    assert fault("scaledToZero").verbs("deployments.apps") == reading | {"patch deployments.apps"}
    assert fault("deleted").verbs("secrets") >= {"delete secrets", "create secrets"}
    assert fault("blockingBudget").verbs("poddisruptionbudgets.policy") >= {"patch poddisruptionbudgets.policy"}
    for field, made in (("blockingBudget", "poddisruptionbudgets.policy"), ("quotaExhausted", "resourcequotas"),
                        ("denyAllTraffic", "networkpolicies.networking.k8s.io")):  # fmt: skip
        assert fault(field).verbs("deployments.apps") >= reading | {f"create {made}", f"delete {made}"}
        assert "patch deployments.apps" not in fault(field).verbs("deployments.apps")


def test_it_needs_no_kernel_and_says_which_kind_it_is() -> None:
    made = ObjectFault.model_validate({"scaledToZero": {}, "healing": "Required"})
    assert (made.field, made.healing, made.rungs()) == ("scaledToZero", Healing.REQUIRED, (Rung.API,))
    assert len(FIELDS) == len(set(FIELDS)) == 19
