"""Which of the pods or objects that match are hit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, TypeVar

from bounceback.api.targets import Mode, Share
from bounceback.engine.model import ObjectInfo, PodInfo

PROTECTED: Final = ("kube-system", "kube-public", "kube-node-lease")
"""Namespaces in which no experiment runs; the operator's own is one more."""


Info = TypeVar("Info", PodInfo, ObjectInfo)


def choose(found: Sequence[Info], targets: Share, seed: int, target: str) -> list[Info]:
    """The chosen ones of those that run, in an order that only the seed, the target's and their own names decide.

    A share is rounded up, so that a percentage of a small number still hits somebody.
    """
    ranked = sorted((each for each in found if each.running), key=lambda each: _rank(seed, target, each.name))
    match targets.mode:
        case Mode.ALL:
            count = len(ranked)
        case Mode.ONE:
            count = 1
        case Mode.FIXED:
            count = targets.value or 0
        case Mode.PERCENT:
            count = -(-len(ranked) * (targets.value or 0) // 100)
    if targets.max_count is not None:
        count = min(count, targets.max_count)
    return ranked[:count]


def _rank(seed: int, target: str, name: str) -> str:
    return hashlib.sha256(f"{seed}\0{target}\0{name}".encode()).hexdigest()
