"""On which nodes our image is known not to be had: written down by who asks, read by who arms pods. Pure.

Only what is wrong is written down, with what pods choose nodes by, so that whoever arms pods needs nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from bounceback.kube.client import Json
from bounceback.vehicles.scheduling import Place

RECORD: Final = "bounceback-image"
"""The ConfigMap, in the operator's namespace."""
NODES_KEY: Final = "nodes.json"
LASTS: Final = 15 * 60.0
"""Seconds for which an answer counts that nobody has asked for again: the one who asks may be gone."""
LARGEST: Final = 640 * 1024
"""Bytes of them all: a ConfigMap takes 1 MiB. Nodes beyond that count as not asked."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A node that was seen not to get our image."""

    place: Place
    why: str  # in the kubelet's words
    at: float  # UTC seconds

    def to_json(self) -> Json:
        place = self.place
        return {
            "node": place.node,
            "labels": dict(place.labels),
            "taints": list(place.taints),
            "why": self.why,
            "at": round(self.at),
        }

    @classmethod
    def from_json(cls, entry: Json) -> Lacking:
        """Raises KeyError, TypeError or ValueError for anything else."""
        place = Place(str(entry["node"]), dict(entry["labels"]), tuple(dict(taint) for taint in entry["taints"]))
        return cls(place, str(entry["why"]), float(entry["at"]))


def record_of(lacking: Iterable[Lacking], image: str, pull_policy: str) -> dict[str, str]:
    """What the ConfigMap holds of them: of that very image, pulled that way."""
    entries: list[Json] = []
    room = LARGEST
    for each in sorted(lacking, key=lambda one: one.place.node):
        entry = each.to_json()
        room -= len(json.dumps(entry))
        if room > 0:
            entries.append(entry)
    return {NODES_KEY: json.dumps({"image": image, "pullPolicy": pull_policy, "nodes": entries})}


def read_record(data: Json, image: str, pull_policy: str) -> tuple[Lacking, ...]:
    """What it says of that image; nothing where it is of another, or can be read by nobody."""
    try:
        told = json.loads(data.get(NODES_KEY) or "{}")
        if (told.get("image"), told.get("pullPolicy")) != (image, pull_policy):
            return ()
        return tuple(Lacking.from_json(entry) for entry in told["nodes"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ()


def still(lacking: Iterable[Lacking], now: float) -> Iterator[Lacking]:
    """Those that count at that time."""
    return (each for each in lacking if now - each.at < LASTS)
