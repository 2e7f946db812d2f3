"""What becomes of the lease of a leader election: another holds it, or it is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Final

from pydantic import Field

from bounceback.faults.object_kinds.base import ByWhom, ObjectKind, changed, named
from bounceback.faults.object_kinds.removal import Deleted
from bounceback.types.objects import Change, Json, Kept
from bounceback.types.pointers import pointer

SPEC: Final = ("spec",)
RENEWED: Final = ("spec", "renewTime")
DURATION: Final = 15
"""Seconds: what client-go takes where nobody says otherwise."""


class LeaseTaken(ObjectKind):
    """Another holds the Lease, and renews it in time: the leader loses its election, and nobody else can win it.

    At the end it is the former holder's again, and its time has run out: whoever sees that first takes it.
    """

    targets: ClassVar[tuple[str, ...]] = ("Lease",)
    keeps: ClassVar[bool] = True

    holder: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        "bounceback", description="The identity of the one who holds it while the fault lasts."
    )

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        lease = target.get("spec") or {}
        if lease.get("holderIdentity") == self.holder:
            raise ValueError(f"{named(target)} is held by {self.holder} already")
        taken = {**lease, "holderIdentity": self.holder, "leaseTransitions": lease.get("leaseTransitions", 0) + 1}
        every = max(1.0, (lease.get("leaseDurationSeconds") or DURATION) / 3)
        kept = Kept((pointer(SPEC),), every, (pointer(RENEWED),))
        return [replace(changed(target, {SPEC: taken}, whole=[SPEC]), kept=kept)]


class LeaseDeleted(Deleted):
    """The Lease is deleted: the leader loses its election, or makes another one."""

    targets: ClassVar[tuple[str, ...]] = ("Lease",)

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        """Who holds it renews it all the time: that is nothing that would be lost."""
        return [replace(change, whole=(pointer(SPEC),)) for change in super().changes(target, by)]
