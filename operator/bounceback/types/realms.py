"""What a probe of a node's kernel asks about: each realm takes a right that the other does not."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from bounceback.types.plan import Feature


class Realm(StrEnum):
    NETWORK = "network"
    FILES = "files"


OF_FILES: Final = frozenset({Feature.FANOTIFY, Feature.FANOTIFY_ERRNO})
"""The features of that realm; all others are the network's."""
