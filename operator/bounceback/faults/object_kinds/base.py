"""The base of what an objectFault does to an object."""

from __future__ import annotations

import copy
import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.types.fields import Model
from bounceback.types.objects import RUN_LABEL, Change, Json, ObjectKey
from bounceback.types.pointers import Parts, pointer, value_at, with_value
from bounceback.types.rules import Rule, refuse

READING: Final = ("get", "list", "watch")
MAKING: Final = (*READING, "create", "delete")
SERVICE_ACCOUNT_GROUPS: Final = ("system:authenticated", "system:serviceaccounts")


@dataclass(frozen=True, slots=True)
class ByWhom:
    """Whose change it is."""

    run: str  # the experiment's UID
    account: str = ""  # the service account of the target's namespace in whose name it is made; "": unknown


class ObjectKind(Model):
    """One way to change an object."""

    targets: ClassVar[tuple[str, ...]] = ()  # the only kinds of objects that it is for; empty: what has the fields
    keeps: ClassVar[bool] = False  # what others change is set back while it lasts: nothing can heal

    @abstractmethod
    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        """What it takes. `target` is as the API server has it. Raises ValueError where it does not fit."""

    def verbs(self, resource: str) -> frozenset[str]:
        """What the account must be allowed to, for a target of that resource (deployments.apps)."""
        return needs(resource, *READING, "patch")


SOME: Final = "set or remove must name at least one key"
ONCE: Final = "remove must not name a key that set names"


class KeysKind(ObjectKind):
    """Keys of a map get values, or are removed."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.set) && size(self.set) > 0) || (has(self.remove) && size(self.remove) > 0)",
            SOME,
            reason="FieldValueRequired",
        ),
        Rule("!has(self.set) || !has(self.remove) || self.remove.all(k, !(k in self.set))", ONCE, ".remove"),
    )

    set: Mapping[str, str] = Field(default_factory=dict, max_length=20)
    remove: list[str] = Field(default_factory=list, max_length=20)

    @model_validator(mode="after")
    def _is_some(self) -> Self:
        if not self.set and not self.remove:
            raise refuse(SOME)
        if any(key in self.set for key in self.remove):
            raise refuse(ONCE, "remove")
        return self


def said(kind: type[ObjectKind]) -> str:
    """What `kubectl explain` tells of it."""
    return " ".join((kind.__doc__ or "").split())


def needs(resource: str, *verbs: str) -> frozenset[str]:
    return frozenset(f"{verb} {resource}" for verb in verbs)


def changed(target: Json, values: Mapping[Parts, Any], whole: Iterable[Parts] = ()) -> Change:
    """The target with other values at these places; MISSING: without what is there."""
    after = target
    for way, value in values.items():
        after = with_value(after, way, value)
    return Change(ObjectKey.of(target), target, after, tuple(map(pointer, whole)))


def created(target: Json, by: ByWhom, api_version: str, kind: str, spec: Json) -> Change:
    """A new object beside the target, under a name that follows from the run and the target."""
    seed = "\0".join((by.run, kind, target["metadata"]["uid"]))
    metadata = {
        "name": f"bounceback-{hashlib.sha256(seed.encode()).hexdigest()[:10]}",
        "namespace": target["metadata"]["namespace"],
        "labels": {"app.kubernetes.io/managed-by": "bounceback", RUN_LABEL: by.run},
    }
    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}
    return Change(ObjectKey.of(body), None, body)


def named(target: Mapping[str, Any]) -> str:
    return f"{target['kind']} {target['metadata']['name']}"


def pod_selector(target: Json) -> Json:
    """The label selector by which the target finds its pods. Raises ValueError where it has none."""
    selector = value_at(target, ("spec", "selector"))
    if not isinstance(selector, dict) or not selector:
        raise ValueError(f"{named(target)} has no spec.selector; the target must be what selects pods by label")
    if target["kind"] in ("Service", "ReplicationController"):
        return {"matchLabels": copy.deepcopy(selector)}
    return copy.deepcopy(selector)


def speaks_for(subject: Mapping[str, Any], namespace: str, account: str) -> bool:
    """This subject of a binding is that service account, or a group that it is in."""
    if subject["kind"] == "ServiceAccount":
        return bool(subject["name"] == account and subject.get("namespace", namespace) == namespace)
    if subject["kind"] == "Group":
        return subject["name"] in (*SERVICE_ACCOUNT_GROUPS, f"system:serviceaccounts:{namespace}")
    return bool(subject["name"] == f"system:serviceaccount:{namespace}:{account}")
