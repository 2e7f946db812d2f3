"""Names that follow from what they name: whoever makes them again gets the same ones."""

from __future__ import annotations

import hashlib


def digest(*parts: str) -> str:
    """Ten hexadecimal digits that stand for these parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def injection_name(run: str, fault: str, uid: str) -> str:
    """`uid` is the target's."""
    return f"{fault}-{digest(run, fault, uid)}"


def repair_name(run: str) -> str:
    """Of the Job that repairs; a person says it, too, so that nobody says beforehand that all is well."""
    return f"bounceback-repair-{digest(run, 'repair')}"


def agent_name(run: str, place: str) -> str:
    """`place` is the pod's UID for a sidecar, the node's name for a NodePod."""
    return f"bb-{digest(run, place)}"
