"""The base of faults on nodes: what is done to a node all pods on it may feel, so a FaultPolicy must allow it."""

from __future__ import annotations

from enum import StrEnum

from bounceback.faults.base import Fault


class NodeFaultKind(StrEnum):
    """The words of a FaultPolicy for them."""

    NODE_CORDON = "nodeCordon"
    NODE_DRAIN = "nodeDrain"
    NODE_NOT_READY = "nodeNotReady"


class NodeFault(Fault):
    """A fault whose target is nodes."""

    @property
    def node_kind(self) -> NodeFaultKind:
        return NodeFaultKind(self.kind)
