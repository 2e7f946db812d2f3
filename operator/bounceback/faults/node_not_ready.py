"""Node not ready: the node's kubelet stands still, so the cluster hears nothing of it."""

from __future__ import annotations

from typing import ClassVar

from bounceback.faults.node_fault import NodeFault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.kubelet import StopKubelet
from bounceback.types.plan import Rung


class NodeNotReady(NodeFault):
    """The kubelet of a node is stopped (SIGSTOP) and goes on at the end; the node's containers run on.

    Once the node has not been heard of for as long as the cluster allows (usually 40 to 50 s), its Ready condition is
    Unknown, and its pods are out of their Services; five minutes later they are replaced. A FaultPolicy must allow it,
    and it cannot be ended early: what ends a fault goes by the kubelet. Proof is the time in which it stood still.
    """

    kind: ClassVar[str] = "nodeNotReady"
    hit_words: ClassVar[str] = "milliseconds without its kubelet"

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.NODE,)

    def act(self) -> StopKubelet:
        return StopKubelet()
