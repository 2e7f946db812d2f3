"""Kubernetes objects that a fault changes: which, from what, to what. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


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


@dataclass(frozen=True, slots=True)
class Change:
    """What a fault does to one object. `before` is as it was read, UID and resourceVersion included.

    `before` None: it is created; `after` None: it is deleted. Both may hold what nobody else may see (Secrets): a
    Change is kept in the journal, and never shown.
    """

    key: ObjectKey
    before: Json | None
    after: Json | None

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
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        """Raises KeyError for something else."""
        key = ObjectKey(data["apiVersion"], data["kind"], data["namespace"], data["name"])
        return cls(key, data["before"], data["after"])
