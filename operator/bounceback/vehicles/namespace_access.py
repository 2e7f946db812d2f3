"""What it takes to delete a namespace and to make it again, and what confines that to the namespaces that are named.

RBAC confines no POST to a name, and no right to a namespace that is not there. So who may make the one namespace, and
a RoleBinding in it by which the account gets back in, may as far as RBAC goes make others too; a
ValidatingAdmissionPolicy (Kubernetes 1.30) refuses that. What is in the namespace is made by a ClusterRole that is
bound in that namespace only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bounceback.kube.client import Json

RBAC: Final = "rbac.authorization.k8s.io"
ADMISSION: Final = "admissionregistration.k8s.io"
RESOURCE: Final = "namespaces"
"""As `--cluster-objects` has it: namespaces/NAME."""
READ_OF_CLUSTER: Final = (
    (ADMISSION, ("validatingwebhookconfigurations", "mutatingwebhookconfigurations")),
    ("apiregistration.k8s.io", ("apiservices",)),
    ("apiextensions.k8s.io", ("customresourcedefinitions",)),
)
"""Seen before: whether something of the whole cluster is answered from the namespace."""


@dataclass(frozen=True, slots=True)
class Need:
    """One right; `name` and `namespace` empty: whichever."""

    verb: str
    group: str
    plural: str
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        resource = f"{self.plural}.{self.group}" if self.group and self.group != "*" else self.plural
        words = "everything" if (self.verb, self.plural) == ("*", "*") else f"{self.verb} {resource}"
        return words + (f" {self.name}" if self.name else "") + (f" in {self.namespace}" if self.namespace else "")


def needs(names: Sequence[str]) -> list[Need]:
    """What it takes to delete these namespaces, and to make them again."""
    return [
        *(Need(verb, "", RESOURCE, name) for name in names for verb in ("get", "list", "watch", "delete")),
        Need("create", "", RESOURCE),
        *(Need("create", RBAC, "rolebindings", namespace=name) for name in names),
        *(Need("*", "*", "*", namespace=name) for name in names),
        *(Need("list", group, plural) for group, plurals in READ_OF_CLUSTER for plural in plurals),
    ]


def contents_role(namespace: str, account: str) -> str:
    """The ClusterRole by which the account does what it has to in such namespaces, and the RoleBinding to it there."""
    return f"bounceback-contents:{namespace}:{account}"


def policy_name(namespace: str, account: str) -> str:
    return f"bounceback.{namespace}.{account}"  # no namespace has a dot in its name


def rules(namespace: str, account: str, names: Sequence[str]) -> list[Json]:
    """Of the account in the whole cluster."""
    named = {"apiGroups": [""], "resources": [RESOURCE], "resourceNames": list(names)}
    role = {"apiGroups": [RBAC], "resources": ["clusterroles"], "resourceNames": [contents_role(namespace, account)]}
    return [
        {**named, "verbs": ["get", "list", "watch", "delete"]},
        {"apiGroups": [""], "resources": [RESOURCE], "verbs": ["create"]},
        {"apiGroups": [RBAC], "resources": ["rolebindings"], "verbs": ["create"]},
        {**role, "verbs": ["bind"]},
        *({"apiGroups": [group], "resources": [*plurals], "verbs": ["list"]} for group, plurals in READ_OF_CLUSTER),
    ]


def confined(namespace: str, account: str, names: Sequence[str]) -> list[Json]:
    """The ClusterRole for what is in the namespaces, its RoleBinding in each, and a policy that there are no others."""
    role, labels = contents_role(namespace, account), {"app.kubernetes.io/managed-by": "bounceback"}
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": role}
    made = {"apiVersion": f"{RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": role, "labels": labels}}
    bound = {"apiVersion": f"{RBAC}/v1", "kind": "RoleBinding", "roleRef": reference, "subjects": subjects}
    return [
        {**made, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]},
        *({**bound, "metadata": {"name": role, "namespace": name, "labels": labels}} for name in names),
        *_policy(namespace, account, names, labels),
    ]


def _policy(namespace: str, account: str, names: Sequence[str], labels: Json) -> list[Json]:
    user, role = f"system:serviceaccount:{namespace}:{account}", contents_role(namespace, account)
    policy, api = policy_name(namespace, account), f"{ADMISSION}/v1"
    metadata = {"name": policy, "labels": labels}
    listed, spaces = ", ".join(f"'{name}'" for name in names), f"request.resource.resource == '{RESOURCE}'"
    at_home = f"(request.namespace == '{namespace}' && object.roleRef.name != '{role}')"
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [_making("", RESOURCE), _making(RBAC, "rolebindings")]},
        "matchConditions": [{"name": "account", "expression": f"request.userInfo.username == '{user}'"}],
        "validations": [
            {
                "expression": f"!({spaces}) || object.metadata.name in [{listed}]",
                "message": f"{user} may make no namespace but {', '.join(names)}",
            },
            {
                "expression": f"{spaces} || request.namespace in [{listed}] || {at_home}",
                "message": f"{user} may make RoleBindings in {', '.join(names)} only, and to {role} nowhere else",
            },
        ],
    }
    binding = {"policyName": policy, "validationActions": ["Deny"]}
    return [
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec},
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata, "spec": binding},
    ]


def _making(group: str, plural: str) -> Json:
    return {"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE"], "resources": [plural]}
