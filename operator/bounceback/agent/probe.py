"""`agent probe`: what this node's kernel can do, tried in the network namespace of the probe's own pod."""

from __future__ import annotations

import os

from bounceback.agent.evidence import tell
from bounceback.drivers import tc
from bounceback.drivers.capabilities import features
from bounceback.drivers.netns import Netns
from bounceback.types.plan import Told


def probe() -> int:
    own = Netns()
    tc.run(own, "ip", ["link set lo up"])
    found = [str(feature) for feature in features(own)]
    tell(Told.CAPABLE, detail={"features": found, "kernel": os.uname().release})
    return 0
