"""Pod delete: the target is removed, once or again and again."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.base import Fault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Rung


class PodDelete(Fault):
    """Pods are deleted through the API; what owns them is expected to bring others up.

    With `everySeconds` the pods that the target then selects are deleted again, until the fault's duration is over.
    Proof is the number of pods that were seen to go, told apart from their replacements by UID.
    """

    kind: ClassVar[str] = "podDelete"
    hit_words: ClassVar[str] = "pods deleted"

    grace_period_seconds: int | None = Field(
        None,
        ge=0,
        le=3600,
        description="Time for the pod to end by itself; 0 kills it at once; unset: the pod's own grace period.",
    )
    every_seconds: int | None = Field(
        None, ge=1, le=3600, description="Delete again this often while the fault lasts; unset: one time."
    )

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.API,)
