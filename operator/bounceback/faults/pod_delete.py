"""Pods that have to go: deleted or evicted, once or again and again."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.repeated import Repeated
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Rung


class PodRemoval(Repeated):
    """A request to the API; what owns the pods is expected to bring others up."""

    grace_period_seconds: int | None = Field(
        None,
        ge=0,
        le=3600,
        description="Time for the pod to end by itself; 0 kills it at once; unset: the pod's own grace period.",
    )

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.API,)

    @property
    def asks(self) -> bool:
        """It is by leave of the PodDisruptionBudgets, through pods/eviction."""
        return False


class PodDelete(PodRemoval):
    """Pods are deleted through the API; what owns them is expected to bring others up.

    With `everySeconds` the pods that the target then selects are deleted again, until the fault's duration is over.
    Proof is the number of pods that were seen to go, told apart from their replacements by UID.
    """

    kind: ClassVar[str] = "podDelete"
    hit_words: ClassVar[str] = "pods deleted"


class PodEvict(PodRemoval):
    """Pods are evicted, as a drain of their node does it: as far as their PodDisruptionBudgets allow.

    A budget that allows none of it is a reason to refuse the experiment before anything is touched; one that allows
    some is waited for while the fault lasts, and pods that it kept to the end were not hit. With
    `respectBudgets: false` nobody is asked: pods are deleted. Proof is the number of pods that were seen to go.
    """

    kind: ClassVar[str] = "podEvict"
    hit_words: ClassVar[str] = "pods evicted"

    respect_budgets: bool = Field(True, description="False: whatever PodDisruptionBudgets say.")

    @property
    def asks(self) -> bool:
        return self.respect_budgets
