"""Writing an experiment gives nobody a right that they have not: the API server itself refuses."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator

import pytest

from tests.commands import SYSTEM, Commands, Json, Result, until

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("policy")]

OWN_RESOURCES = {"apiGroups": ["bounceback.dev"], "resources": ["*"], "verbs": ["*"]}
PODS = {"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["update"]}
OPERATOR = "system:serviceaccount:bounceback-system:bounceback"


def impersonation(account: str) -> Json:
    rule = {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}
    return {**rule, "resourceNames": [account]}


def experiment(name: str, **spec: object) -> Json:
    return {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": "FaultExperiment",
        "metadata": {"name": name},
        "spec": {
            "targets": [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "nobody"}}}}],
            "faults": [{"name": "gone", "target": "web", "podDelete": {}}],
            "checks": [{"name": "none"}],
            **spec,
        },
    }


@pytest.fixture
def namespace(commands: Commands) -> Iterator[str]:
    with commands.namespace("authors") as name:
        yield name


def allow(commands: Commands, namespace: str, user: str, *rules: Json) -> None:
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": user}}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    }
    commands.apply(namespace, {**role, "rules": list(rules)}, binding)
    for rule in rules:
        until(functools.partial(may, commands, namespace, user, rule), f"the authorizer knows {rule}")


def may(commands: Commands, namespace: str, user: str, rule: Json) -> bool:
    """Whether the authorizer knows the rule: it hears of one a moment after it is written."""
    named = "".join(f"/{name}" for name in rule.get("resourceNames", []))
    resource = "faultexperiments.bounceback.dev" if rule is OWN_RESOURCES else rule["resources"][0]
    kind, _, part = resource.partition("/")
    words = [rule["verbs"][0].replace("*", "create"), kind + named, f"--subresource={part}"]
    return commands.ask("kubectl", "auth", "can-i", *words, "-n", namespace, "--as", user).code == 0


def create(commands: Commands, namespace: str, user: str, body: Json) -> Result:
    words = ["create", "--namespace", namespace, "--as", user, "-f", "-"]
    return commands.ask("kubectl", *words, stdin=json.dumps(body))


def test_an_author_who_may_not_impersonate_the_account_is_refused(commands: Commands, namespace: str) -> None:
    allow(commands, namespace, "ann", OWN_RESOURCES, PODS)
    answer = create(commands, namespace, "ann", experiment("a"))
    assert answer.code != 0
    assert f"ann must be allowed to impersonate service account bounceback in namespace {namespace}" in answer.err


def test_the_account_that_the_experiment_names_is_the_one_that_counts(commands: Commands, namespace: str) -> None:
    allow(commands, namespace, "ann", OWN_RESOURCES, PODS, impersonation("bounceback"))
    answer = create(commands, namespace, "ann", experiment("a", serviceAccountName="admin"))
    assert answer.code != 0
    assert "impersonate service account admin" in answer.err


def test_an_author_who_may_not_change_ephemeral_containers_is_refused(commands: Commands, namespace: str) -> None:
    allow(commands, namespace, "ben", OWN_RESOURCES, impersonation("bounceback"))
    answer = create(commands, namespace, "ben", experiment("b"))
    assert answer.code != 0
    assert f"ben must be allowed to update pods/ephemeralcontainers in namespace {namespace}" in answer.err


def test_an_author_with_both_rights_is_let_in_but_to_no_other_account_later(commands: Commands, namespace: str) -> None:
    allow(commands, namespace, "cleo", OWN_RESOURCES, PODS, impersonation("bounceback"))
    answer = create(commands, namespace, "cleo", experiment("c"))
    assert answer.code == 0, answer.err
    patch = ["patch", "fe", "c", "-n", namespace, "--as", "cleo", "--type=merge", "-p"]
    changed = commands.ask("kubectl", *patch, '{"spec": {"serviceAccountName": "admin"}}')
    assert changed.code != 0
    assert "impersonate service account admin" in changed.err


def test_rights_in_one_namespace_are_worth_nothing_in_another(commands: Commands, namespace: str) -> None:
    allow(commands, namespace, "dan", OWN_RESOURCES, PODS, impersonation("bounceback"))
    with commands.namespace("others") as other:
        allow(commands, other, "dan", OWN_RESOURCES)
        answer = create(commands, other, "dan", experiment("d"))
        assert answer.code != 0
        assert f"in namespace {other}" in answer.err


def test_a_check_that_watches_by_itself_gives_no_right_either(commands: Commands, namespace: str) -> None:
    allow(commands, namespace, "eve", OWN_RESOURCES)
    probe = {"name": "web", "tcp": {"host": "web", "port": 80}}
    check = {"apiVersion": "bounceback.dev/v1alpha1", "kind": "RecoveryCheck", "metadata": {"name": "f"}}
    answer = create(commands, namespace, "eve", {**check, "spec": {"probes": [probe], "mode": "Continuous"}})
    assert answer.code != 0
    assert f"eve must be allowed to impersonate service account bounceback in namespace {namespace}" in answer.err
    answer = create(commands, namespace, "eve", {**check, "spec": {"probes": [probe]}})
    assert answer.code == 0, answer.err
    patch = [
        "patch",
        "rck",
        "f",
        "-n",
        namespace,
        "--as",
        "eve",
        "--type=merge",
        "-p",
        '{"spec": {"mode": "Continuous"}}',
    ]
    assert "impersonate service account bounceback" in commands.ask("kubectl", *patch).err
    allow(commands, namespace, "eve", OWN_RESOURCES, impersonation("bounceback"))
    changed = commands.ask("kubectl", *patch)
    assert changed.code == 0, changed.err


@pytest.mark.parametrize("protected", ["kube-system", SYSTEM])
def test_the_cluster_and_the_operator_are_no_targets_even_for_an_administrator(
    commands: Commands, protected: str
) -> None:
    words = ["create", "--namespace", protected, "--dry-run=server", "-f", "-"]
    answer = commands.ask("kubectl", *words, stdin=json.dumps(experiment("e")))
    assert answer.code != 0
    assert f"namespace {protected} is never a target" in answer.err


def test_the_operator_writes_status_finalizers_and_annotations_without_those_rights(
    commands: Commands, namespace: str
) -> None:
    commands.apply(namespace, experiment("f"))
    patch = ["patch", "fe", "f", "-n", namespace, "--as", OPERATOR, "--type=merge", "-p"]
    marks = {"finalizers": ["bounceback.dev/cleanup"], "annotations": {"bounceback.dev/started-uid": "x"}}
    commands.kubectl(*patch, json.dumps({"metadata": marks}))
    body = {**commands.get("fe", "f", "-n", namespace), "status": {"phase": "Steady", "runUid": "x"}}
    words = ["replace", "-n", namespace, "--as", OPERATOR, "--subresource=status", "-f", "-"]
    commands.kubectl(*words, stdin=json.dumps(body))
    commands.kubectl(*patch, '{"metadata": {"finalizers": null}}')


def test_the_operator_itself_cannot_be_talked_into_another_spec(commands: Commands, namespace: str) -> None:
    commands.apply(namespace, experiment("g"))
    patch = ["patch", "fe", "g", "-n", namespace, "--as", OPERATOR, "--type=merge", "-p"]
    answer = commands.ask("kubectl", *patch, '{"spec": {"serviceAccountName": "admin"}}')
    assert answer.code != 0
    assert "impersonate service account admin" in answer.err


def test_whoever_may_update_a_started_experiment_may_end_it(commands: Commands, namespace: str) -> None:
    commands.apply(namespace, experiment("h"))
    started = '{"status": {"phase": "Active", "runUid": "x"}}'
    commands.kubectl("patch", "fe", "h", "-n", namespace, "--type=merge", "--subresource=status", "-p", started)
    allow(commands, namespace, "eve", OWN_RESOURCES)
    patch = ["patch", "fe", "h", "-n", namespace, "--as", "eve", "--type=merge", "-p"]
    commands.kubectl(*patch, '{"spec": {"cancel": true}}')
