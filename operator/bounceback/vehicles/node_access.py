"""What the account of an experiment may do to nodes: asked before anything is touched, and how to grant it."""

from __future__ import annotations

import asyncio
from typing import Final

from bounceback.kube.client import Json, Kube
from bounceback.kube.resources import ACCESS_REVIEWS, NODES
from bounceback.vehicles.access import FIELD
from bounceback.vehicles.errors import FORBIDDEN, Refused

ROLE: Final = "bounceback-nodes"
VERBS: Final = ("get", "list", "watch", "patch")
"""Of nodes; also where an agent does the work: who may not change a node may not break it either."""
RBAC: Final = "rbac.authorization.k8s.io"


async def check_node_access(acting: Kube, namespace: str, account: str) -> None:
    """Raises Refused where the account may not change nodes, KubeError where the API server has trouble of its own."""
    answers = await asyncio.gather(*(_allowed(acting, verb) for verb in VERBS))
    if lacking := [verb for verb, allowed in zip(VERBS, answers, strict=True) if not allowed]:
        words = f"bounceback access {namespace} --nodes" + (f" --account {account}" if account != "bounceback" else "")
        raise Refused(
            FIELD,
            FORBIDDEN,
            f"service account {account} of namespace {namespace} must be allowed to {', '.join(lacking)} nodes; "
            f"`{words} | kubectl apply -f -` grants what is needed",
        )


async def may_change(acting: Kube, name: str, uid: str) -> None:
    """A dry run that would change nothing: raises KubeError where that node may not be changed, or is another now."""
    await acting.patch(NODES, None, name, {"metadata": {"uid": uid}}, dry_run=True)


def node_access_manifest(namespace: str, account: str) -> list[Json]:
    """The right to change nodes; a FaultPolicy says which of them, and what may be done to them."""
    labels = {"app.kubernetes.io/managed-by": "bounceback"}
    reference = {"apiGroup": RBAC, "kind": "ClusterRole", "name": ROLE}
    binding = {"name": f"{ROLE}-{namespace}-{account}", "labels": labels}
    return [
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": ROLE, "labels": labels},
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": list(VERBS)}],
        },
        {
            "apiVersion": f"{RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": binding,
            "roleRef": reference,
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}],
        },
    ]


async def _allowed(acting: Kube, verb: str) -> bool:
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": verb, "group": "", "resource": "nodes"}},
    }
    review = await acting.create(ACCESS_REVIEWS, None, body)
    return bool(review["status"].get("allowed"))
