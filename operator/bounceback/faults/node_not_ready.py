"""Node not ready: the node's kubelet stands still or is stopped, so the cluster hears nothing of it."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from bounceback.faults.node_fault import NodeFault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.inside import InsideAct
from bounceback.types.kubelet import StopKubelet, StopKubeletService
from bounceback.types.plan import Rung


class KubeletMode(StrEnum):
    """What becomes of the kubelet."""

    FREEZE = "Freeze"
    STOP = "Stop"


class NodeNotReady(NodeFault):
    """The kubelet of a node stands still (SIGSTOP) or is stopped, and goes on at the end; the node's containers run on.

    Once the node has not been heard of for as long as the cluster allows (usually 40 to 50 s), its Ready condition is
    Unknown, and its pods are out of their Services; five minutes later they are replaced. A FaultPolicy must allow it,
    and it cannot be ended early: what ends a fault goes by the kubelet. Proof is the time in which it stood still.
    """

    kind: ClassVar[str] = "nodeNotReady"
    hit_words: ClassVar[str] = "milliseconds without its kubelet"

    mode: KubeletMode = Field(
        KubeletMode.FREEZE,
        description="Freeze: the same kubelet goes on where it stood still. Stop: its service is stopped, and at the "
        "end another kubelet begins anew, as after a crash or an upgrade; only where the node's systemd runs it.",
    )

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.NODE,)

    def act(self) -> InsideAct:
        return StopKubelet() if self.mode is KubeletMode.FREEZE else StopKubeletService()
