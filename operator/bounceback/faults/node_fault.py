"""The base of faults on nodes: what is done to a node all pods on it may feel, so a FaultPolicy must allow it."""

from __future__ import annotations

import copy
from enum import StrEnum

from bounceback.faults.base import Fault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.objects import Change, Json, ObjectKey
from bounceback.types.plan import Rung


class NodeFaultKind(StrEnum):
    """The words of a FaultPolicy for what is done to a node."""

    NODE_CORDON = "nodeCordon"
    NODE_DRAIN = "nodeDrain"
    NODE_NOT_READY = "nodeNotReady"
    HOST_NETWORK = "hostNetwork"  # a network fault on a pod that has its node's own network


class NodeFault(Fault):
    """A fault whose target is nodes."""

    @property
    def node_kind(self) -> NodeFaultKind:
        return NodeFaultKind(self.kind)


class CordonFault(NodeFault):
    """One by which nodes take no new pods."""

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.API,)

    def changes(self, node: Json) -> list[Change]:
        """What it takes, of a node as the API server has it, with its apiVersion and kind.

        Raises ValueError, with words for the user, where it is cordoned already: nothing would be ours to undo.
        """
        metadata = {key: value for key, value in node["metadata"].items() if key != "managedFields"}
        before: Json = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": node.get("spec") or {}}
        if before["spec"].get("unschedulable"):
            raise ValueError(f"Node {metadata['name']} is cordoned already, by others; choose nodes that take pods")
        after = copy.deepcopy(before)
        after["spec"]["unschedulable"] = True
        return [Change(ObjectKey.of(before), before, after)]
