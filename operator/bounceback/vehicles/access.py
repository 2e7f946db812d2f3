"""What the account of an experiment may do in its namespace: asked before anything is touched, and how to grant it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Final

from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import ACCESS_REVIEWS, RULES_REVIEWS, SERVICE_ACCOUNTS
from bounceback.vehicles.errors import FORBIDDEN, Refused

FIELD: Final = "spec.serviceAccountName"

# A need is "verb resource", the resource written as kubectl does: pods/log, endpointslices.discovery.k8s.io
PODS_NEEDS: Final = frozenset({"get pods", "list pods", "watch pods"})
AGENT_NEEDS: Final = PODS_NEEDS | {
    "patch pods/ephemeralcontainers",  # also for NodePods: who may not change the pod may not break it either
    "get pods/log",
    "create pods/exec",
    "get pods/exec",  # what the API server asks for a WebSocket; newer ones ask for create
}
PEER_NEEDS: Final = frozenset(
    {
        *(f"{verb} {resource}" for verb in ("get", "list", "watch") for resource in ("services", "pods")),
        *(f"{verb} endpointslices.discovery.k8s.io" for verb in ("list", "watch")),
    }
)
CHANGING: Final = ("create", "patch", "delete")
"""What it takes to change objects, and to put them right."""
EVIDENCE_RULES: Final[list[Json]] = [
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "list", "delete"]}
]
"""The operator's own: what it takes to keep evidence there, and to give up the oldest. It changes no ConfigMap."""
DELETE_NEEDS: Final = PODS_NEEDS | {"delete pods"}
EVICT_NEEDS: Final = PODS_NEEDS | {"create pods/eviction"}


async def check_access(
    acting: Kube,
    namespace: str,
    account: str,
    *,
    needs: Set[str],
    objects: Iterable[str] = (),
    read: Iterable[str] = (),
) -> None:
    """`objects` are the resources among the needs that objectFault changes, `read` those that are only read.

    Raises Refused where the account is missing, may not do all of `needs`, or may not be spoken for by the operator.

    One question about the rules (SelfSubjectRulesReview, in the account's name) and one about the account. Raises
    KubeError where the API server has trouble of its own.
    """
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    }
    try:
        review, there = await asyncio.gather(
            acting.create(RULES_REVIEWS, None, body), _exists(acting, namespace, account)
        )
    except KubeError as error:
        if error.status != 403:
            raise
        way = way_out(namespace, account, objects=objects, read=read)
        raise Refused(FIELD, FORBIDDEN, _not_spoken_for(namespace, account, error.message, way)) from error
    if there is False:
        raise Refused(
            FIELD,
            "AccountNotFound",
            f"service account {account} does not exist in namespace {namespace}; "
            f"{way_out(namespace, account, objects=objects, read=read)}",
        )
    status = review["status"]
    lacking = missing(status.get("resourceRules") or [], needs)
    if lacking and status.get("incomplete"):
        lacking = [need for need in lacking if not await _allowed(acting, namespace, need)]
    if lacking:
        raise Refused(
            FIELD,
            FORBIDDEN,
            f"service account {account} of namespace {namespace} must be allowed to {', '.join(lacking)}; "
            f"{way_out(namespace, account, objects=objects, read=read)}",
        )


def way_out(
    namespace: str, account: str, secret: str = "", objects: Iterable[str] = (), read: Iterable[str] = ()
) -> str:
    """`secret` is one that it is to be allowed to read, `objects` are resources that it is to change."""
    words = f"bounceback access {namespace}" + (f" --account {account}" if account != "bounceback" else "")
    words += f" --secret {secret}" if secret else ""
    words += f" --objects {','.join(listed)}" if (listed := sorted(set(objects))) else ""
    words += f" --read {','.join(seen)}" if (seen := sorted(set(read) - set(listed))) else ""
    return f"`{words} | kubectl apply -f -` grants what is needed"


def missing(rules: Sequence[Mapping[str, Sequence[str]]], needs: Iterable[str]) -> list[str]:
    """The needs that no rule covers; a rule for named objects only covers none."""
    return sorted(need for need in needs if not any(_covers(rule, need) for rule in rules))


def access_manifest(
    namespace: str,
    account: str,
    operator_namespace: str,
    operator_account: str,
    secrets: Sequence[str] = (),
    objects: Sequence[str] = (),
    read: Sequence[str] = (),
) -> list[Json]:
    """All that lets experiments of a namespace run: the account, its rights, the operator's to speak for it.

    And the operator's to keep their evidence there.

    `secrets` are those that may be read, and no others: credentials of probes, authorities of tlsFault.
    `objects` are resources that objectFault may change, written as kubectl does: configmaps, deployments.apps; `read`
    those that it may see, and no more.
    """
    here = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
    operator = [{"kind": "ServiceAccount", "name": operator_account, "namespace": operator_namespace}]
    reading = ["get", "list", "watch"]
    rights = [
        _rule("", ["pods"], [*reading, "delete"]),
        _rule("", ["pods/ephemeralcontainers"], ["patch", "update"]),
        _rule("", ["pods/eviction"], ["create"]),
        _rule("", ["pods/log"], ["get"]),
        _rule("", ["pods/exec"], ["create", "get"]),
        _rule("", ["services", "events"], reading),
        _rule("discovery.k8s.io", ["endpointslices"], reading),
        _rule("apps", ["deployments", "statefulsets", "daemonsets", "replicasets"], reading),
        {**_rule("", ["serviceaccounts"], ["get"]), "resourceNames": [account]},
        *([{**_rule("", ["secrets"], ["get"]), "resourceNames": list(secrets)}] if secrets else []),
        *(_rule(group, [plural], [*reading, *CHANGING]) for plural, _, group in (o.partition(".") for o in objects)),
        *(_rule(group, [plural], reading) for plural, _, group in (each.partition(".") for each in read)),
    ]
    speaking = [{**_rule("", ["serviceaccounts"], ["impersonate"]), "resourceNames": [account]}]
    return [
        {**_object("v1", "ServiceAccount", namespace, account), "automountServiceAccountToken": False},
        *_granted(namespace, "bounceback-experiments", account, rights, here),
        *_granted(namespace, "bounceback-impersonation", account, speaking, operator),
        *_granted(namespace, "bounceback-evidence", account, EVIDENCE_RULES, operator),
    ]


def _covers(rule: Mapping[str, Sequence[str]], need: str) -> bool:
    verb, _, whole = need.partition(" ")
    kind, slash, part = whole.partition("/")
    plural, _, group = kind.partition(".")
    resource = plural + slash + part
    wanted = {"*", resource, f"*/{part}"} if slash else {"*", resource}
    return (
        not rule.get("resourceNames")
        and bool({"*", verb} & set(rule.get("verbs") or ()))
        and bool({"*", group} & set(rule.get("apiGroups") or ()))
        and bool(wanted & set(rule.get("resources") or ()))
    )


async def _exists(acting: Kube, namespace: str, account: str) -> bool | None:
    """None where the account may not look at itself."""
    try:
        await acting.get(SERVICE_ACCOUNTS, namespace, account)
    except KubeError as error:
        if error.gone:
            return False
        if error.status == 403:
            return None
        raise
    return True


async def _allowed(acting: Kube, namespace: str, need: str) -> bool:
    """One question about one need, where the rules could not all be told (a webhook authorizes)."""
    verb, _, whole = need.partition(" ")
    kind, _, part = whole.partition("/")
    plural, _, group = kind.partition(".")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": plural, "subresource": part}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    review = await acting.create(ACCESS_REVIEWS, None, body)
    return bool(review["status"].get("allowed"))


def _not_spoken_for(namespace: str, account: str, message: str, way: str) -> str:
    if "cannot impersonate" in message:
        return f"the operator may not act as service account {account} of namespace {namespace}: {message}; {way}"
    return f"service account {account} of namespace {namespace} may not even ask for its rights: {message}"


def _rule(group: str, resources: list[str], verbs: list[str]) -> Json:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _object(api_version: str, kind: str, namespace: str, name: str) -> Json:
    labels = {"app.kubernetes.io/managed-by": "bounceback"}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}


def _granted(namespace: str, purpose: str, account: str, rules: list[Json], subjects: list[Json]) -> list[Json]:
    """A Role and its binding, under a name that tells the accounts of one namespace apart."""
    name = purpose if account == "bounceback" else f"{purpose}-{account}"
    rbac = "rbac.authorization.k8s.io"
    role = {**_object(f"{rbac}/v1", "Role", namespace, name), "rules": rules}
    reference = {"apiGroup": rbac, "kind": "Role", "name": name}
    binding = {**_object(f"{rbac}/v1", "RoleBinding", namespace, name), "roleRef": reference, "subjects": subjects}
    return [role, binding]
