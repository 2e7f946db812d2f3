"""What the account of an experiment may do to objects without a namespace: asked beforehand, and how to grant it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from bounceback.kube.client import Json, Kube
from bounceback.kube.resources import ACCESS_REVIEWS, Resource
from bounceback.vehicles import namespace_access
from bounceback.vehicles.access import FIELD
from bounceback.vehicles.errors import FORBIDDEN, Refused
from bounceback.vehicles.namespace_access import Need

ROLE: Final = "bounceback-objects"
VERBS: Final = ("get", "list", "watch", "patch")
"""Of the objects that are named, and no others: what would make or delete some RBAC cannot confine to names."""
RBAC: Final = "rbac.authorization.k8s.io"


async def check_cluster_access(
    acting: Kube, namespace: str, account: str, resource: Resource, names: Sequence[str]
) -> None:
    """Raises Refused where the account may not change these objects, KubeError where the API server has trouble."""
    if resource.plural == namespace_access.RESOURCE:
        asked = namespace_access.needs(names)
    else:
        group = resource.api_version.partition("/")[0]
        asked = [Need(verb, group, resource.plural, name) for name in names for verb in VERBS]
    answers = await asyncio.gather(*(_allowed(acting, need) for need in asked))
    lacking = [str(need) for need, allowed in zip(asked, answers, strict=True) if not allowed]
    if lacking:
        more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
        raise Refused(
            FIELD,
            FORBIDDEN,
            f"service account {account} of namespace {namespace} must be allowed to {', '.join(lacking[:5])}{more}; "
            f"{way_out(namespace, account, resource, names)}",
        )


def way_out(namespace: str, account: str, resource: Resource, names: Iterable[str]) -> str:
    words = f"bounceback access {namespace}" + (f" --account {account}" if account != "bounceback" else "")
    listed = ",".join(f"{_written(resource)}/{name}" for name in names)
    return f"`{words} --cluster-objects {listed} | kubectl apply -f -` grants what is needed"


def cluster_access_manifest(namespace: str, account: str, objects: Sequence[tuple[str, str]]) -> list[Json]:
    """The right to change these objects: (resource as kubectl writes it, name).

    A FaultPolicy says what may be done to them.
    """
    name = f"{ROLE}:{namespace}:{account}"  # neither of them can hold a colon
    metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": "bounceback"}}
    by_resource: dict[str, list[str]] = {}
    for resource, each in objects:
        by_resource.setdefault(resource, []).append(each)
    rules, more = [], []
    for resource, names in by_resource.items():
        if resource == namespace_access.RESOURCE:
            rules += namespace_access.rules(namespace, account, names)
            more = namespace_access.confined(namespace, account, names)
            continue
        plural, _, group = resource.partition(".")
        rules.append({"apiGroups": [group], "resources": [plural], "resourceNames": names, "verbs": list(VERBS)})
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    api = f"{RBAC}/v1"
    binding = {"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": metadata}
    return [
        {"apiVersion": api, "kind": "ClusterRole", "metadata": metadata, "rules": rules},
        {**binding, "roleRef": reference, "subjects": subjects},
        *more,
    ]


def _written(resource: Resource) -> str:
    group, slash, _ = resource.api_version.partition("/")
    return f"{resource.plural}.{group}" if slash else resource.plural


async def _allowed(acting: Kube, need: Need) -> bool:
    attributes = {
        "verb": need.verb,
        "group": need.group,
        "resource": need.plural,
        "name": need.name,
        "namespace": need.namespace,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    review = await acting.create(ACCESS_REVIEWS, None, body)
    return bool(review["status"].get("allowed"))
