"""`agent verify`: looks for what a plan's orders may have left; what is left of those that were in force is undone.

It comes when an agent is gone and its guard is, too. Of an order of which nobody knows that it was in force nothing is
touched: what looks like its doing may be somebody else's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bounceback.agent import places
from bounceback.agent.evidence import tell
from bounceback.drivers import KernelError, Notes, Refused
from bounceback.drivers.targets import Target
from bounceback.types.plan import Order, Plan
from bounceback.types.told import Told


def verify(plan: Plan, notes: Mapping[str, Mapping[str, Any]]) -> int:
    """Always 0: what is left is in the evidence. A pod that is gone took everything with it.

    `notes`: by injection, of those that were in force, what their agents wrote down to undo them by.
    """
    tell(Told.STARTED, detail={"pid": os.getpid(), "mode": "verify"})
    found = places.find(plan)
    looks = [
        _Look(plan, order, place, notes.get(order.injection))
        for order in plan.orders
        if isinstance(place := found[order.pod_uid], Target)
    ]
    for look in looks:  # all of them first, so that none waits for another's inspection
        look.undo()
    for look in looks:
        look.tell()
    for order in plan.orders:
        if isinstance(found[order.pod_uid], Refused):
            tell(Told.VERIFIED, order.injection, {"leftovers": [], "target": "gone"})
    tell(Told.FINISHED)
    return 0


class _Look:
    """At what one order may have left."""

    def __init__(self, plan: Plan, order: Order, target: Target, kept: Mapping[str, Any] | None) -> None:
        """`kept`: None for one of which nobody knows that it was in force."""
        self._plan, self._order, self._target = plan, order, target
        self._notes = None if kept is None else Notes(kept)
        self._undone: list[str] = []
        self._trouble: list[str] = []

    def undo(self) -> None:
        if self._notes is None:
            return
        try:
            there = self._look()
            if there:
                places.undo(self._plan, self._order, self._target, self._notes)
        except (KernelError, OSError) as error:
            self._trouble = [f"could not be undone: {error}"]
        except (KeyError, TypeError, ValueError) as error:
            self._trouble = [f"could not be undone: the agent's notes lack {error}"]
        else:
            self._undone = there

    def tell(self) -> None:
        try:
            left = self._look()
        except (KernelError, OSError) as error:
            left = [f"nobody could look: {error}"]
        if self._undone and not left:
            seen = f"agent and guard were gone, and left {', '.join(self._undone[:3])}: undone now"
            tell(Told.CLEARED, self._order.injection, {"why": "AgentLost", "seen": [seen]})
        tell(Told.VERIFIED, self._order.injection, {"leftovers": [*left, *(self._trouble if left else ())]})

    def _look(self) -> list[str]:
        """Raises KernelError, OSError."""
        return places.left_by(self._plan, self._order, self._target, [], self._notes)
