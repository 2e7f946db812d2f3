"""`agent probe`: what this node's kernel can do, tried where nobody else is: a network, a file of the probe's own."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bounceback.agent.evidence import tell
from bounceback.drivers import tc
from bounceback.drivers.capabilities import features
from bounceback.drivers.fanotify import features as features_of_files
from bounceback.drivers.netns import Netns
from bounceback.types.plan import Feature
from bounceback.types.realms import Realm
from bounceback.types.told import Told


def probe(asked: Sequence[str]) -> int:
    """About those realms; the network's where none is named. Raises ValueError for one that there is not."""
    found: set[Feature] = set()
    for realm in [Realm(each) for each in asked] or [Realm.NETWORK]:
        if realm is Realm.NETWORK:
            own = Netns()
            tc.run(own, "ip", ["link set lo up"])
            found |= set(features(own))
        else:
            found |= features_of_files()
    told = [str(feature) for feature in Feature if feature in found]
    tell(Told.CAPABLE, detail={"features": told, "kernel": os.uname().release})
    return 0
