"""Names that follow from what they name: whoever makes them again gets the same ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from bounceback.types.inside import OURS as OUR_CONTAINERS

REPORTER: Final = "bounceback.dev/operator"
"""Who tells of an Event of ours."""
_OURS: Final = re.compile(
    r"(bb(-(image|probe|rollback))?|bounceback(-(probe|prober|repair))?)-[0-9a-f]{10}(-[a-z0-9]{1,8})?"
)
_CONTAINER: Final = re.compile(r"spec\.\w+\{(?P<name>[^}]*)\}")


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


def of_ours(event: Mapping[str, Any]) -> bool:
    """Whether a Kubernetes Event is ours, or about an object or a container of ours: not the system's."""
    about = event.get("involvedObject") or {}
    container = _CONTAINER.fullmatch(str(about.get("fieldPath") or ""))
    if event.get("reportingComponent") == REPORTER or (container and OUR_CONTAINERS.fullmatch(container["name"])):
        return True
    return _OURS.fullmatch(str(about.get("name", ""))) is not None
