"""The base of what an objectFault does to an object."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from bounceback.types.fields import Model
from bounceback.types.objects import Change, Json, ObjectKey

READING: Final = ("get", "list", "watch")


@dataclass(frozen=True)
class ByWhom:
    """Whose change it is."""

    run: str  # the experiment's UID
    account: str = ""  # the service account of the target's namespace in whose name it is made; "": unknown


class ObjectKind(Model):
    """One way to change an object."""

    targets: ClassVar[tuple[str, ...]] = ()  # the only kinds of objects that it is for; empty: any that has the field
    keeps: ClassVar[bool] = False  # what others change is set back while it lasts: it cannot heal

    @abstractmethod
    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        """What it takes. `target` is as the API server has it. Raises ValueError where it does not fit."""

    def verbs(self, resource: str) -> frozenset[str]:
        """What the account must be allowed to, for a target of that resource (deployments.apps)."""
        return needs(resource, *READING, "patch")


def needs(resource: str, *verbs: str) -> frozenset[str]:
    return frozenset(f"{verb} {resource}" for verb in verbs)


def changed(target: Json, **fields: Any) -> Change:
    """The target with other values in its top-level fields."""
    return Change(ObjectKey.of(target), target, {**copy.deepcopy(target), **fields})


def named(target: Mapping[str, Any]) -> str:
    return f"{target['kind']} {target['metadata']['name']}"
