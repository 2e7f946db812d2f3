"""Which of the pods that match are hit."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from bounceback.api.experiment import Mode, PodTargets
from bounceback.engine.model import PodInfo

PROTECTED: Final = ("kube-system", "kube-public", "kube-node-lease")
"""Namespaces in which no experiment runs; the operator's own is one more."""


def choose(pods: Sequence[PodInfo], targets: PodTargets, seed: int, target: str) -> list[PodInfo]:
    """The chosen ones of the running pods, in an order that only the seed, the target's and the pods' names decide.

    A share is rounded up, so that a percentage of a small number still hits somebody.
    """
    ranked = sorted((p for p in pods if p.running), key=lambda pod: _rank(seed, target, pod.name))
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


def _rank(seed: int, target: str, pod: str) -> str:
    return hashlib.sha256(f"{seed}\0{target}\0{pod}".encode()).hexdigest()
