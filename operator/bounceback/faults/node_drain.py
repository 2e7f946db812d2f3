"""Node drain: nodes take no new pods for a while, and those of the experiment's namespace are evicted from them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.node_fault import CordonFault
from bounceback.faults.pod_delete import PodEvict
from bounceback.types.selectors import LabelSelector


class NodeDrain(CordonFault):
    """Nodes are cordoned, and pods of the experiment's namespace that are on them are evicted.

    As `kubectl drain` does it: as far as PodDisruptionBudgets allow, not those of DaemonSets. Pods of other namespaces
    stay. A budget that allows no eviction is a reason to refuse the experiment before anything is touched. At the end
    the nodes take pods again; a FaultPolicy must allow it. Proof: the nodes that were cordoned, the pods that went.
    """

    kind: ClassVar[str] = "nodeDrain"
    hit_words: ClassVar[str] = "nodes cordoned and pods evicted"

    pods: LabelSelector | None = Field(
        None, description="Evict only pods with these labels; unset: all of the experiment's namespace."
    )
    grace_period_seconds: int | None = Field(
        None, ge=0, le=3600, description="Time for each pod to end by itself; unset: the pod's own grace period."
    )

    @property
    def eviction(self) -> PodEvict:
        """What happens to the pods."""
        return PodEvict(grace_period_seconds=self.grace_period_seconds)
