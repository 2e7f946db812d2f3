"""What is in a namespace that is to be deleted: what we make again, what others make, and what nobody could."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bounceback.engine.restoring import as_read
from bounceback.types.objects import RBAC, Change, Json, ObjectKey

MOST_OBJECTS: Final = 500
MOST_BYTES: Final = 8 * 1024 * 1024
"""As JSON: all of it is in the journal, and is made again one by one."""
NEVER_OURS: Final = frozenset({("", "Event"), ("events.k8s.io", "Event")})
MADE_BY_CLUSTER: Final = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})
"""What controllers of the cluster make in each namespace."""
BARE_METADATA: Final = frozenset({"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "managedFields"})
TOKENS: Final = "kubernetes.io/service-account-token"
LOST: Final = {
    "PersistentVolumeClaim": "what it holds may go with it, and nothing brings that back",
    "Pod": "nobody owns it, so nobody would make it again",
    "Job": "nobody owns it, and made anew it would run again",
}
RENEWED: Final = {"Lease": ("/spec",)}
"""By whoever holds it, all the time."""
EARLY: Final = (
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "LimitRange",
    "ConfigMap",
    "Secret",
    "NetworkPolicy",
    "Service",
)
LATE: Final = (
    "ReplicationController",
    "ReplicaSet",
    "StatefulSet",
    "DaemonSet",
    "Deployment",
    "CronJob",
    "HorizontalPodAutoscaler",
    "ResourceQuota",
)
"""What others need is there before them; kinds that are in neither list are made in between. Until a quota's controller
has counted what is there nothing can be made: it comes last."""


@dataclass(frozen=True, slots=True)
class Way:
    """The RoleBinding by which the account may do all in the namespace: it is the first to be made again."""

    name: str


def contents(namespace: str, found: Iterable[Json], way: Way) -> tuple[Change, ...]:
    """Of all objects in the namespace those that are ours to make again, the last to be made first.

    The objects are as the API server has them, with apiVersion and kind. What a controller owns is its to make again,
    and what the cluster makes in each namespace is made by it. Raises ValueError, with words for the user, where
    something could not be as it was.
    """
    unique = {body["metadata"]["uid"]: body for body in found}
    theirs = {(b["kind"], b["metadata"]["name"]) for b in unique.values() if b["kind"] == "Service" and _selects(b)}
    ours = [body for body in unique.values() if _is_ours(body, theirs)]
    for body in sorted(unique.values(), key=_named):
        if why := _lost(body, unique):
            raise ValueError(f"namespace {namespace} must not be deleted: {_named(body)} is in it: {why}")
    if len(ours) > MOST_OBJECTS or _size(ours) > MOST_BYTES:
        raise ValueError(
            f"namespace {namespace} must not be deleted: it has {len(ours)} objects of {_size(ours)} bytes to be made "
            f"again; it may have {MOST_OBJECTS}, of {MOST_BYTES} bytes in all"
        )
    ours.sort(key=lambda body: _order(body, way), reverse=True)
    return tuple(
        Change(ObjectKey.of(body), body, None, whole=RENEWED.get(body["kind"], ()), along=True) for body in ours
    )


def differences(planned: Sequence[Change], now: Sequence[Change]) -> list[str]:
    """What others have made, changed or deleted since: it would not be as it was."""
    then, there = ({change.key: change for change in changes} for changes in (planned, now))
    told = [f"{key} was made" for key in there if key not in then]
    told += [f"{key} was deleted" for key in then if key not in there]
    for key, change in then.items():
        if key in there and not as_read(change, there[key].before):
            told.append(f"{key} was changed")
    return sorted(told)


def served_from(body: Mapping[str, Any]) -> set[str]:
    """Namespaces that the cluster asks for that object's sake: of webhooks, of an APIService, of a CRD's conversion."""
    spec = body.get("spec") or {}
    clients = [each.get("clientConfig") for each in body.get("webhooks") or []]
    clients += [spec, ((spec.get("conversion") or {}).get("webhook") or {}).get("clientConfig")]
    return {place for client in clients if (place := service_namespace(client))}


def service_namespace(client: Mapping[str, Any] | None) -> str:
    """Of the Service that a clientConfig names; "": it is outside the cluster."""
    service = (client or {}).get("service") or {}
    return str(service.get("namespace", ""))


def _is_ours(body: Json, selecting: Collection[tuple[str, str]]) -> bool:
    metadata, kind = body["metadata"], body["kind"]
    if (_group(body), kind) in NEVER_OURS or metadata.get("deletionTimestamp") or _controller(body):
        return False
    if kind == "Endpoints" and ("Service", metadata["name"]) in selecting:
        return False
    return (kind, metadata["name"]) not in MADE_BY_CLUSTER


def _lost(body: Json, there: Mapping[str, Json]) -> str:
    """Why it could not be as it was; "" where it can."""
    metadata, kind = body["metadata"], body["kind"]
    if _group(body) == "bounceback.dev" or (metadata.get("labels") or {}).get("bounceback.dev/experiment-uid"):
        return "it belongs to Bounceback, and experiments go on in that namespace"
    if kind == "PersistentVolumeClaim":
        return LOST[kind]
    if _controller(body) or (_group(body), kind) in NEVER_OURS or metadata.get("deletionTimestamp"):
        return ""
    if kind in LOST and _group(body) in ("", "batch"):
        return LOST[kind]
    if finalizers := metadata.get("finalizers"):
        return f"it has finalizers ({', '.join(finalizers)}), and what they clean up cannot be brought back"
    if kind == "Secret" and body.get("type") == TOKENS:
        return "the token that it holds would never be good again"
    if (kind, metadata["name"]) == ("ServiceAccount", "default") and not _is_bare(body):
        return "it is not as the cluster makes it, and the cluster would make it anew"
    if owners := [each["name"] for each in metadata.get("ownerReferences") or [] if each["uid"] in there]:
        return f"its owner {owners[0]} would have another UID, and is not the one that makes it"
    return ""


def _is_bare(account: Json) -> bool:
    return set(account) <= {"apiVersion", "kind", "metadata"} and set(account["metadata"]) <= BARE_METADATA


def _controller(body: Json) -> bool:
    return any(each.get("controller") for each in body["metadata"].get("ownerReferences") or [])


def _selects(service: Json) -> bool:
    return bool((service.get("spec") or {}).get("selector"))


def _order(body: Json, way: Way) -> tuple[int, int, str, str]:
    kind, name = body["kind"], body["metadata"]["name"]
    if body["apiVersion"].startswith(RBAC) and (kind, name) == ("RoleBinding", way.name):
        return (0, 0, kind, name)
    if kind in EARLY:
        return (1, EARLY.index(kind), kind, name)
    return (3, LATE.index(kind), kind, name) if kind in LATE else (2, 0, kind, name)


def _group(body: Json) -> str:
    group, slash, _ = str(body["apiVersion"]).partition("/")
    return group if slash else ""


def _named(body: Json) -> str:
    return f"{body['kind']} {body['metadata']['name']}"


def _size(bodies: Iterable[Json]) -> int:
    return sum(len(json.dumps(body)) for body in bodies)


def by_kind(changes: Iterable[Change]) -> Iterator[tuple[tuple[str, str], list[Change]]]:
    """Changes of one kind each, by apiVersion and kind."""
    sorts: dict[tuple[str, str], list[Change]] = {}
    for change in changes:
        sorts.setdefault((change.key.api_version, change.key.kind), []).append(change)
    yield from sorts.items()
