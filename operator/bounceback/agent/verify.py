"""`agent verify`: looks for what a plan's orders may have left, and touches nothing."""

from __future__ import annotations

import os

from bounceback.agent import places
from bounceback.agent.evidence import tell
from bounceback.drivers import KernelError, Refused
from bounceback.types.plan import Plan
from bounceback.types.told import Told


def verify(plan: Plan) -> int:
    """Always 0: what is left is in the evidence. A pod that is gone took everything with it."""
    tell(Told.STARTED, detail={"pid": os.getpid(), "mode": "verify"})
    found = places.find(plan)
    for order in plan.orders:
        place = found[order.pod_uid]
        if isinstance(place, Refused):
            tell(Told.VERIFIED, order.injection, {"leftovers": [], "target": "gone"})
            continue
        try:
            left = places.left_by(plan, order, place, [])
        except (KernelError, OSError) as error:
            left = [f"nobody could look: {error}"]
        tell(Told.VERIFIED, order.injection, {"leftovers": left})
    tell(Told.FINISHED)
    return 0
