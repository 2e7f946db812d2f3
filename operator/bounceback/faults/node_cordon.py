"""Node cordon: nodes take no new pods for a while."""

from __future__ import annotations

from typing import ClassVar

from bounceback.faults.node_fault import CordonFault


class NodeCordon(CordonFault):
    """Nodes are marked unschedulable, as `kubectl cordon` does it: pods on them stay, new ones go elsewhere or wait.

    At the end they are as they were before; who uncordons one meanwhile ends the fault there. A FaultPolicy must allow
    it. Proof is the number of nodes that were cordoned.
    """

    kind: ClassVar[str] = "nodeCordon"
    hit_words: ClassVar[str] = "nodes cordoned"
