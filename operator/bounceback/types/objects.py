"""Kubernetes objects that a fault changes: which, from what, to what. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

Json = dict[str, Any]
SECRET_KINDS: Final = frozenset({"Secret"})
"""What the API server says about these may repeat what they hold: only its status and reason are told."""
ANEW: Final = "bounceback-undo"
"""The field manager by which the API server notes that an object was made again by our undo, and not by others."""
RBAC: Final = "rbac.authorization.k8s.io/"
ADMISSION: Final = "admissionregistration.k8s.io/v1"
RUN_LABEL: Final = "bounceback.dev/experiment-uid"
"""On all that is made for a run: whose it is."""


@dataclass(frozen=True, slots=True)
class ObjectKey:
    """One object, as a manifest names it; `namespace` is "" for one of the whole cluster."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> ObjectKey:
        metadata = body["metadata"]
        return cls(body["apiVersion"], body["kind"], metadata.get("namespace") or "", metadata["name"])

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class ClusterKind(StrEnum):
    """Kinds without a namespace of which objects may be changed, where a FaultPolicy allows it."""

    VALIDATING_WEBHOOKS = "ValidatingWebhookConfiguration"
    MUTATING_WEBHOOKS = "MutatingWebhookConfiguration"
    NAMESPACE = "Namespace"


class ClusterFaultKind(StrEnum):
    """What may be done to them."""

    WEBHOOK_FAILURE_POLICY_CHANGED = "webhookFailurePolicyChanged"
    DELETED = "deleted"


OF_CLUSTER: Final[Mapping[tuple[str, str], ClusterFaultKind]] = {
    (ADMISSION, ClusterKind.VALIDATING_WEBHOOKS): ClusterFaultKind.WEBHOOK_FAILURE_POLICY_CHANGED,
    (ADMISSION, ClusterKind.MUTATING_WEBHOOKS): ClusterFaultKind.WEBHOOK_FAILURE_POLICY_CHANGED,
    ("v1", ClusterKind.NAMESPACE): ClusterFaultKind.DELETED,
}
"""By apiVersion and kind: the one thing that may be done to them. Who may make or delete some of a kind without a
namespace may do so to all, as far as RBAC goes: that takes admission to confine it (vehicles/namespace_access.py)."""


def of_cluster(api_version: str, kind: str) -> bool:
    """Objects of that kind have no namespace, and a policy may allow them to be changed."""
    return (api_version, kind) in OF_CLUSTER


class Dependents(StrEnum):
    """What becomes of what an object owns when it is deleted."""

    DELETE = "Delete"
    KEEP = "Keep"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is set back while the fault lasts, whatever others write."""

    paths: tuple[str, ...]  # JSON pointers (RFC 6901): these have the values of `after`
    every: float = 0.0  # seconds after which it is written again though nobody changed it; 0: never
    clocks: tuple[str, ...] = ()  # JSON pointers, within `paths`: times, which are now at each write


@dataclass(frozen=True, slots=True)
class Change:
    """What a fault does to one object. `before` is as it was read, UID and resourceVersion included.

    `before` None: it is created; `after` None: it is deleted. Both may hold what nobody else may see (Secrets): a
    Change is kept in the journal, and never shown.
    """

    key: ObjectKey
    before: Json | None
    after: Json | None
    whole: tuple[str, ...] = ()  # JSON pointers, not into lists: who changes a part of one has changed all of it
    kept: Kept | None = None
    dependents: Dependents = Dependents.DELETE  # of a deletion
    along: bool = False  # it goes with its namespace, which is deleted; only the way back is for us to do

    def __repr__(self) -> str:
        """Without what the object holds: this may come into a log."""
        return f"Change({self.key})"

    @property
    def uid(self) -> str:
        """Of the object that was there before; "" where there was none."""
        return str(self.before["metadata"]["uid"]) if self.before else ""

    def to_json(self) -> Json:
        key = self.key
        return {
            "apiVersion": key.api_version,
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "before": self.before,
            "after": self.after,
            "whole": list(self.whole),
            "kept": asdict(self.kept) if self.kept else None,
            "dependents": str(self.dependents),
            "along": self.along,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        """Raises KeyError for something else."""
        key = ObjectKey(data["apiVersion"], data["kind"], data["namespace"], data["name"])
        kept = data["kept"]
        return cls(
            key,
            data["before"],
            data["after"],
            tuple(data["whole"]),
            Kept(tuple(kept["paths"]), kept["every"], tuple(kept["clocks"])) if kept else None,
            Dependents(data["dependents"]),
            bool(data.get("along")),  # journals of operators before this one do not say
        )
