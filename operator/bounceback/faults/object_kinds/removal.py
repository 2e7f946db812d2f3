"""What becomes of an object as a whole: it is deleted, and made anew at the end unless somebody else did."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from bounceback.faults.object_kinds.base import MAKING, ByWhom, ObjectKind, named, needs
from bounceback.types.objects import Change, Dependents, Json, ObjectKey

NOT_DELETED: Final = {
    "Pod": "what replaces a pod has another name; podDelete is for pods",
    "Job": "made anew it would run again",
    "ServiceAccount": "made anew it is another one, and the tokens of this one never come back",
    "PersistentVolumeClaim": "what it holds may go with it, and nothing brings that back",
}


class Deleted(ObjectKind):
    """The object is deleted; at the end it is made anew, as it was, unless the system did so before."""

    dependents: Dependents = Field(
        Dependents.DELETE,
        description="What becomes of what it owns, a Deployment's ReplicaSets and pods for example: Delete or Keep.",
    )

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        if why := NOT_DELETED.get(target["kind"]):
            raise ValueError(f"{named(target)} must not be deleted: {why}")
        if finalizers := target["metadata"].get("finalizers"):
            raise ValueError(
                f"{named(target)} has finalizers ({', '.join(finalizers)}): when it goes is up to those, and what they "
                "clean up cannot be brought back"
            )
        return [Change(ObjectKey.of(target), target, None, dependents=self.dependents)]

    def verbs(self, resource: str) -> frozenset[str]:
        return needs(resource, *MAKING)
