"""What a store of evidence is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from bounceback.controller.settings import StoreKind
from bounceback.kube.client import Json
from bounceback.report.bundle import Bundle
from bounceback.types.outcome import EvidenceKind


class Refusing(Exception):  # noqa: N818 - a state, not a defect
    """The store will not take it; trying again does not help."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class Stored:
    """What is in the store now."""

    place: str
    manifest: bytes
    bytes: int
    failed: dict[EvidenceKind, str] = field(default_factory=dict)


class Store(Protocol):
    """Each method raises Refusing where the store says no; KubeError, OSError or TimeoutError in passing trouble."""

    name: StoreKind
    most: int  # bytes in a namespace

    async def try_out(self, owner: Json, run: str) -> None:
        """Whether something would be taken, without leaving anything there."""

    async def keep(self, owner: Json, run: str, bundle: Bundle) -> Stored:
        """Under a name that follows from the run. Again: nothing is written twice, and what others wrote stays."""

    async def find(self, owner: Json, run: str) -> Stored | None:
        """What is there under the name of that run, whoever wrote it."""

    async def make_room(self, namespace: str, run: str) -> int:
        """Oldest first, until the evidence of the namespace is within its bound; that of `run` stays. What is left."""


def surplus(sizes: dict[str, int], ages: dict[str, str], kept: str, most: int) -> list[str]:
    """What must go, oldest first."""
    total, gone = sum(sizes.values()), []
    for name in sorted(sizes, key=lambda each: (ages[each], each)):
        if total <= most:
            break
        if name != kept:
            gone.append(name)
            total -= sizes[name]
    return gone
