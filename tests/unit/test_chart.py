"""The chart asks for no more than it needs, and says what it is told."""

from __future__ import annotations

import json
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bounceback.controller.settings import Settings
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.admission import LEADS
from bounceback.vehicles.arming import RESOURCES
from bounceback.vehicles.cluster_access import cluster_access_manifest
from dev import build, chart

Json = dict[str, Any]
CHART = chart.CHART
CRDS = sorted((chart.PROJECT / "crds").glob("*.yaml"))
NAMESPACE = "bounceback-system"
KUBERNETES = "1.36"
WRITING = {"create", "update", "patch", "delete", "deletecollection", "impersonate", "*"}
HELM = next(component for component in build.CLUSTER if component.name == "helm")


@cache
def helm() -> str:
    """Its path: the one that is installed, or the development cluster's."""
    return shutil.which("helm") or str(build.build(HELM) / "helm")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm(), *words], capture_output=True, text=True)


def render(*values: str, release: str = "bounceback") -> list[Json]:
    """Every object but the definitions of a release with these values (`--set`)."""
    return render_all("crds.enabled=false", *values, release=release)


@cache
def render_all(*values: str, release: str = "bounceback") -> list[Json]:
    options = [word for value in values for word in ("--set", value)]
    done = run("template", release, str(CHART), "--namespace", NAMESPACE, *options)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if document]


def definitions(*values: str) -> list[Json]:
    return [o for o in render_all(*values) if o["kind"] == "CustomResourceDefinition"]


def one(objects: list[Json], kind: str, name: str) -> Json:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def pods(objects: list[Json]) -> list[Json]:
    return [o["spec"]["template"]["spec"] for o in objects if o["kind"] in ("Deployment", "Job")]


def is_hook(an_object: Json) -> bool:
    return "helm.sh/hook" in an_object["metadata"].get("annotations", {})


def test_helm_finds_nothing_wrong() -> None:
    done = run("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_knows_every_field_of_it() -> None:
    objects = render(
        "targetNamespaces[0].name=shop",
        "watchNamespaces={shop}",
        "metrics.service.enabled=true",
        "podDisruptionBudget.enabled=true",
        "namespace.create=true",
        "image.pullSecrets[0].name=pull",
        "priorityClassName=high",
        "arming.enabled=true",
        "admissionFaults.enabled=true",
    )
    for each in objects:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_what_is_generated_is_up_to_date() -> None:
    for path, text in chart.files().items():
        assert path.read_text() == text, f"{path.name} is not what `make generate` writes"


def test_the_chart_carries_every_definition() -> None:
    assert {o["metadata"]["name"] for o in definitions()} == {path.stem + ".bounceback.dev" for path in CRDS}
    assert not definitions("crds.enabled=false")


@pytest.mark.parametrize(("keep", "policy"), [("true", "keep"), ("false", None)])
def test_definitions_outlive_the_release_only_where_asked_to(keep: str, policy: str | None) -> None:
    annotations = [o["metadata"].get("annotations", {}) for o in definitions(f"crds.keep={keep}")]
    assert {each.get("helm.sh/resource-policy") for each in annotations} == {policy}


def names(schema: Json, prefix: str = "") -> set[str]:
    nested = {n: part for n, part in schema["properties"].items() if "properties" in part}
    plain = {prefix + n for n in schema["properties"] if n not in nested}
    return plain.union(*(names(part, f"{prefix}{n}.") for n, part in nested.items()))


def leaves(values: Json, known: set[str], prefix: str = "") -> set[str]:
    found = set()
    for name, value in values.items():
        whole = prefix + name
        inner = isinstance(value, dict) and value and whole not in known
        found |= leaves(value, known, f"{whole}.") if inner else {whole}
    return found


def test_schema_and_values_name_the_same() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = names(schema)
    assert leaves(values, known) == known - {"global"}


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("replicas=0.5", "replicas"),
        ("replica=2", "replica"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("targetNamespaces[0].serviceAccount=x", "name"),
        ("targetNamespaces[0].name=kube-system", "targetNamespaces"),
        ("targetNamespaces[0].name=Shop", "targetNamespaces"),
    ],
)
def test_values_that_make_no_sense_are_refused(value: str, complaint: str) -> None:
    done = run("template", "bounceback", str(CHART), "--set", value)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_an_account_reads_the_secrets_that_are_named_and_no_others() -> None:
    def of_secrets(*values: str) -> list[Json]:
        role = one(render("targetNamespaces[0].name=shop", *values), "Role", "bounceback-experiments")
        return [rule for rule in role["rules"] if "secrets" in rule["resources"]]

    assert of_secrets() == []
    assert of_secrets("targetNamespaces[0].secrets={shop-ca}") == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["shop-ca"], "verbs": ["get"]}
    ]


def test_an_account_changes_the_objects_that_are_named_and_no_others() -> None:
    def changing(*values: str) -> list[Json]:
        role = one(render("targetNamespaces[0].name=shop", *values), "Role", "bounceback-experiments")
        return [rule for rule in role["rules"] if {"create", "patch"} <= set(rule["verbs"])]

    verbs = ["get", "list", "watch", "create", "patch", "delete"]
    assert changing() == []
    assert changing("targetNamespaces[0].objects={deployments.apps,configmaps,roles.rbac.authorization.k8s.io}") == [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": verbs},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": verbs},
    ]


def test_what_has_no_namespace_is_granted_by_name() -> None:
    name = "bounceback-objects:shop:bounceback"
    guard = "validatingwebhookconfigurations.admissionregistration.k8s.io/shop-guard"
    objects = render("targetNamespaces[0].name=shop", f"targetNamespaces[0].clusterObjects={{{guard}}}")
    assert one(objects, "ClusterRole", name)["rules"] == [
        {
            "apiGroups": ["admissionregistration.k8s.io"],
            "resources": ["validatingwebhookconfigurations"],
            "resourceNames": ["shop-guard"],
            "verbs": ["get", "list", "watch", "patch"],
        }
    ]
    (subject,) = one(objects, "ClusterRoleBinding", name)["subjects"]
    assert (subject["name"], subject["namespace"]) == ("bounceback", "shop")
    assert not [o for o in render("targetNamespaces[0].name=shop") if o["metadata"]["name"] == name]


def test_namespaces_that_may_be_deleted_are_granted_as_the_command_grants_them() -> None:
    wanted = cluster_access_manifest("shop", "bounceback", [("namespaces", "a"), ("namespaces", "b")])
    objects = render("targetNamespaces[0].name=shop", "targetNamespaces[0].clusterObjects={namespaces/a,namespaces/b}")

    def plain(body: Json) -> Json:
        metadata = {key: value for key, value in body["metadata"].items() if key != "labels"}
        return {**body, "metadata": metadata}

    made = [plain(body) for body in objects]
    assert [body["kind"] for body in wanted if plain(body) not in made] == []
    other = render("targetNamespaces[0].name=shop", "targetNamespaces[0].clusterObjects={a.b/c}")
    assert not [body for body in other if "contents" in body["metadata"]["name"]]


def test_no_pod_of_the_release_has_any_privilege() -> None:
    for pod in pods(render()):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]


def test_one_port_is_open_and_no_service_leads_to_it_unless_asked_for() -> None:
    (container,) = pods(render())[0]["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [8080]
    assert not [o for o in render() if o["kind"] in ("Service", "ServiceMonitor", "PodDisruptionBudget")]
    asked = render("metrics.serviceMonitor.enabled=true", "podDisruptionBudget.enabled=true")
    assert {"Service", "ServiceMonitor", "PodDisruptionBudget"} <= {o["kind"] for o in asked}


def test_the_operator_understands_what_the_chart_tells_it() -> None:
    tolerated = "tolerations[0].key=dedicated,tolerations[0].operator=Exists"
    deployment = one(render("image.tag=v9", "watchNamespaces={a,b}", tolerated), "Deployment", "bounceback")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    told = {e["name"]: e.get("value") or e["valueFrom"]["fieldRef"]["fieldPath"] for e in container["env"]}
    settings = Settings.from_environment(told)
    assert settings.namespace == "metadata.namespace"
    assert settings.identity == "metadata.name"
    assert settings.image == container["image"] == "bounceback:v9"
    assert settings.pull_policy == "IfNotPresent"
    assert settings.tolerations == ({"key": "dedicated", "operator": "Exists"},), "rollback pods go where it may"
    assert settings.watch_namespaces == ("a", "b")
    assert settings.own_addresses == ("status.podIPs",)
    assert settings.metrics_port == 8080


SELECTORS = ("namespaceSelector", "objectSelector", "objectSelector")
"""Where the webhooks that arm pods are told who asks for it."""


def test_pods_are_armed_only_where_that_is_asked_for_and_nobody_is_kept_from_making_one() -> None:
    assert not [o for o in render() if o["kind"] == "MutatingWebhookConfiguration"]
    webhooks = one(render("arming.enabled=true"), "MutatingWebhookConfiguration", "bounceback-arming")["webhooks"]
    asked = {"key": "bounceback.dev/arm", "operator": "In", "values": ["enabled"]}
    for webhook, selector, path in zip(webhooks, SELECTORS, ("/arm", "/arm", "/arm-clock"), strict=True):
        assert webhook["clientConfig"]["service"]["path"] == path
        asked["key"] = f"bounceback.dev{path}"
        assert webhook["failurePolicy"] == "Ignore"
        assert webhook["sideEffects"] == "None"
        assert webhook["timeoutSeconds"] <= 5
        assert [(rule["operations"], rule["resources"]) for rule in webhook["rules"]] == [(["CREATE"], ["pods"])]
        assert asked in webhook[selector]["matchExpressions"]
        (never,) = [e for e in webhook["namespaceSelector"]["matchExpressions"] if e["key"].startswith("kubernetes.io")]
        assert never["operator"] == "NotIn"
        assert set(never["values"]) == {"kube-system", NAMESPACE}
    in_namespace = webhooks[0]["objectSelector"]["matchExpressions"][0]
    assert in_namespace["operator"] == "NotIn"
    assert "disabled" in in_namespace["values"], "a pod may say no"


def test_with_named_namespaces_no_other_is_armed() -> None:
    objects = render("arming.enabled=true", "watchNamespaces={shop,bank}")
    only = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["shop", "bank"]}
    for webhook in one(objects, "MutatingWebhookConfiguration", "bounceback-arming")["webhooks"]:
        assert only in webhook["namespaceSelector"]["matchExpressions"]


def test_the_operator_arms_under_the_name_that_the_chart_gives_its_webhook() -> None:
    objects = render("arming.enabled=true", "image.pullSecrets[0].name=pull", release="second")
    name = "second-bounceback-arming"
    assert one(objects, "MutatingWebhookConfiguration", name)["webhooks"][0]["clientConfig"]["service"]["name"] == name
    assert not one(objects, "Secret", name).get("data"), "Helm would put back what it wrote"
    (container,) = one(objects, "Deployment", "second-bounceback")["spec"]["template"]["spec"]["containers"]
    settings = Settings.from_environment({e["name"]: e.get("value") or "" for e in container["env"]})
    assert settings.arming == name
    assert settings.arming_resources == RESOURCES
    assert settings.arming_needs_secret
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8080, "webhooks": settings.webhook_port}
    (port,) = one(objects, "Service", name)["spec"]["ports"]
    assert port["targetPort"] == "webhooks"
    role = one(objects, "ClusterRole", "second-bounceback")
    assert {each for each in rules(role) if each[1].startswith("admissionregistration")} == {
        (verb, "admissionregistration.k8s.io/mutatingwebhookconfigurations", name) for verb in ("get", "patch")
    }


@pytest.mark.parametrize("asks", [True, False])
def test_nodes_are_asked_for_the_image_unless_that_is_not_wanted(asks: bool) -> None:
    objects = render("arming.enabled=true", *([] if asks else ["arming.askNodes=false"]))
    (container,) = one(objects, "Deployment", "bounceback")["spec"]["template"]["spec"]["containers"]
    settings = Settings.from_environment({e["name"]: e.get("value") or "" for e in container["env"]})
    assert settings.arming_asks_nodes is asks


def test_faults_by_admission_are_the_right_to_write_one_configuration() -> None:
    assert not [o for o in render() if o["kind"] == "ValidatingWebhookConfiguration"]
    objects = render("admissionFaults.enabled=true")
    name = "bounceback-admission-faults"
    assert not one(objects, "ValidatingWebhookConfiguration", name).get("webhooks"), "Helm would put them back"
    assert not one(objects, "Secret", name).get("data"), "Helm would put back what the operator wrote"
    (container,) = one(objects, "Deployment", "bounceback")["spec"]["template"]["spec"]["containers"]
    settings = Settings.from_environment({e["name"]: e.get("value") or "" for e in container["env"]})
    assert (settings.admission, settings.arming) == (name, "")
    service = one(objects, "Service", name)["spec"]
    assert service["selector"][LEADS] == "true"
    assert service["ports"][0]["targetPort"] == "webhooks"
    assert {
        each for each in rules(one(objects, "ClusterRole", "bounceback")) if each[1].startswith("admissionreg")
    } == {(verb, "admissionregistration.k8s.io/validatingwebhookconfigurations", name) for verb in ("get", "patch")}
    both = render("admissionFaults.enabled=true", "arming.enabled=true")
    assert not [o for o in both if o["kind"] == "Secret" and o["metadata"]["name"] == name], "one pair for both"


def rules(an_object: Json) -> set[tuple[str, str, str]]:
    """(verb, group/resource, object name or "")."""
    return {
        (verb, f"{group}/{resource}".lstrip("/"), name)
        for rule in an_object["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
    }


def test_cluster_wide_the_operator_may_write_only_what_is_its_own_and_events() -> None:
    everywhere = [o for o in render() if o["kind"] == "ClusterRole" and not is_hook(o)]
    written = {resource.split("/")[0] for o in everywhere for verb, resource, _ in rules(o) if verb in WRITING}
    assert written == {"bounceback.dev", "events"}
    read = {resource for o in everywhere for verb, resource, _ in rules(o) if verb not in WRITING}
    assert {r for r in read if not r.startswith("bounceback.dev")} <= {"nodes", "namespaces"}


def test_with_named_namespaces_even_its_own_resources_are_confined_to_them() -> None:
    objects = render("watchNamespaces={shop}", "rbac.aggregate=false")
    everywhere = [o for o in objects if o["kind"] == "ClusterRole" and not is_hook(o)]
    ours = {(verb, r) for o in everywhere for verb, r, _ in rules(o) if r.startswith("bounceback.dev")}
    assert ours == {(verb, "bounceback.dev/faultpolicies") for verb in ("get", "list", "watch")}, (
        "those have no namespace"
    )
    assert one(objects, "Role", "bounceback-resources")["metadata"]["namespace"] == "shop"


def bound_in_shop(*values: str) -> dict[str, str]:
    """By Role: who has it."""
    return {
        binding["roleRef"]["name"]: subject["name"]
        for binding in render("targetNamespaces[0].name=shop", "targetNamespaces[0].serviceAccount=chaos", *values)
        if binding["kind"] == "RoleBinding" and binding["metadata"]["namespace"] == "shop"
        for subject in binding["subjects"]
    }


def test_nothing_of_a_target_namespace_belongs_to_the_operator_but_one_name_and_evidence() -> None:
    objects = render("targetNamespaces[0].name=shop", "targetNamespaces[0].serviceAccount=chaos")
    own = {"bounceback-impersonation": "bounceback", "bounceback-evidence": "bounceback"}
    assert bound_in_shop() == {"bounceback-experiments": "chaos", **own}
    assert rules(one(objects, "Role", "bounceback-impersonation")) == {("impersonate", "serviceaccounts", "chaos")}
    verbs = {verb for verb, resource, _ in rules(one(objects, "Role", "bounceback-evidence"))}
    assert verbs == {"create", "get", "list", "delete"}, "a ConfigMap that is there is never changed"


BUCKET = (
    "evidence.store=ObjectStorage",
    "evidence.objectStorage.bucket=kept",
    "evidence.objectStorage.secretName=bucket-keys",
)
ELSEWHERE = [("evidence.store=None",), ("evidence.store=Volume", "evidence.volume.claim=kept"), BUCKET]


@pytest.mark.parametrize("values", ELSEWHERE)
def test_evidence_that_is_elsewhere_needs_no_right_there(values: tuple[str, ...]) -> None:
    assert "bounceback-evidence" not in bound_in_shop(*values)


def test_large_numbers_of_a_values_file_stay_whole_numbers(tmp_path: Path) -> None:
    """Helm reads those as floating point: 1.048576e+06."""
    (tmp_path / "values.yaml").write_text("evidence: {runMebibytes: 1024, namespaceMebibytes: 1048576}\n")
    done = run("template", "bounceback", str(CHART), "--values", str(tmp_path / "values.yaml"))
    objects = [document for document in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if document]
    (container,) = one(objects, "Deployment", "bounceback")["spec"]["template"]["spec"]["containers"]
    environment = {each["name"]: each.get("value", "") for each in container["env"]}
    kept = Settings.from_environment(environment).evidence
    assert (kept.run_bytes, kept.namespace_bytes) == (1024 * 2**20, 1048576 * 2**20)


def test_a_volume_for_evidence_is_mounted_and_must_be_named() -> None:
    pod = one(render("evidence.store=Volume", "evidence.volume.claim=kept"), "Deployment", "bounceback")["spec"]
    (container,) = pod["template"]["spec"]["containers"]
    claims = [v["persistentVolumeClaim"] for v in pod["template"]["spec"]["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [{"claimName": "kept"}]
    environment = {each["name"]: each.get("value", "") for each in container["env"]}
    directory = Settings.from_environment(environment).evidence.directory
    assert {"name": "evidence", "mountPath": directory} in container["volumeMounts"]
    refused = run("template", "bounceback", str(CHART), "--set", "evidence.store=Volume")
    assert "evidence.volume.claim must name a PersistentVolumeClaim" in refused.stderr
    refused = run("template", "bounceback", str(CHART), "--set", "evidence.store=S3")
    assert "evidence" in refused.stderr
    assert refused.returncode


def test_a_bucket_for_evidence_is_named_and_its_keys_are_mounted_and_in_no_variable() -> None:
    more = ("endpoint=https://minio.store:9000", "prefix=team/a", "region=eu-west-1")
    values = (*BUCKET, *(f"evidence.objectStorage.{each}" for each in more))
    pod = one(render(*values), "Deployment", "bounceback")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {each["name"]: each.get("value", "") for each in container["env"]}
    bucket = Settings.from_environment(environment).evidence.bucket
    assert (bucket.bucket, bucket.endpoint, bucket.prefix) == ("kept", "https://minio.store:9000", "team/a")
    assert bucket.region == "eu-west-1"
    secrets = [each["secret"] for each in pod["volumes"] if "secret" in each]
    assert secrets == [{"secretName": "bucket-keys", "defaultMode": 0o440}]
    mount = {"name": "object-storage", "mountPath": bucket.keys, "readOnly": True}
    assert mount in container["volumeMounts"]
    assert not any("secretKeyRef" in str(each) for each in container["env"])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("evidence.objectStorage.bucket=", "bucket must name the bucket"),
        ("evidence.objectStorage.secretName=", "secretName must name a Secret"),
        ("evidence.objectStorage.endpoint=http://minio:9000", "must begin with https://, unless"),
        ("evidence.objectStorage.endpoint=minio:9000", "endpoint"),
        ("evidence.objectStorage.prefix=/a", "prefix"),
    ],
)
def test_a_bucket_that_cannot_be_meant_is_refused_before_anything_is_installed(value: str, says: str) -> None:
    sets = [word for each in (*BUCKET, value) for word in ("--set", each)]
    refused = run("template", "bounceback", str(CHART), *sets)
    assert refused.returncode
    assert says in refused.stderr


def test_the_chart_and_the_command_line_grant_the_same() -> None:
    objects = [o for o in render("targetNamespaces[0].name=shop") if o["metadata"].get("namespace") == "shop"]
    for other in access_manifest("shop", "bounceback", NAMESPACE, "bounceback"):
        ours = one(objects, other["kind"], other["metadata"]["name"])
        if other["kind"] == "Role":
            assert rules(ours) == rules(other)
        if other["kind"] == "RoleBinding":
            assert (ours["roleRef"], ours["subjects"]) == (other["roleRef"], other["subjects"])


def test_an_account_that_exists_already_is_left_alone() -> None:
    objects = render("targetNamespaces[0].name=shop", "targetNamespaces[0].createServiceAccount=false")
    assert not [o for o in objects if o["kind"] == "ServiceAccount" and o["metadata"]["namespace"] == "shop"]


def test_the_policy_refuses_when_it_cannot_decide() -> None:
    policy = one(render(), "ValidatingAdmissionPolicy", "bounceback-authors")
    assert policy["spec"]["failurePolicy"] == "Fail"
    assert one(render(), "ValidatingAdmissionPolicyBinding", "bounceback-authors")["spec"]["validationActions"] == [
        "Deny"
    ]


def test_what_drains_exists_only_while_it_drains() -> None:
    drain = [o for o in render() if o["metadata"]["name"].endswith("-drain")]
    assert {o["kind"] for o in drain} >= {"Job", "ServiceAccount", "Role", "ClusterRole"}
    assert all(is_hook(o) for o in drain)
    assert not [o for o in render("drain.enabled=false") if is_hook(o)]


def test_two_releases_do_not_share_names_cluster_wide() -> None:
    def cluster_wide(release: str) -> set[str]:
        objects = render(release=release)
        return {f"{o['kind']}/{o['metadata']['name']}" for o in objects if not o["metadata"].get("namespace")}

    assert not cluster_wide("bounceback") & cluster_wide("second")


def test_the_chart_speaks_of_this_version() -> None:
    described = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = (chart.PROJECT / "pyproject.toml").read_text()
    assert f'version = "{described["appVersion"]}"' in project
