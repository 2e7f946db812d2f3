"""Whether a pod that is being created may come to a node, as far as its specification tells. Pure.

More nodes than the scheduler will see fit: room, ports, volumes, other pods and preferences are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bounceback.kube.client import Json

KEEPS_AWAY: Final = frozenset({"NoSchedule", "NoExecute"})
"""Effects of a taint for which a pod must have a toleration."""


@dataclass(frozen=True, slots=True)
class Place:
    """What pods can choose a node by."""

    node: str
    labels: Mapping[str, str]
    taints: tuple[Json, ...] = ()

    @classmethod
    def of(cls, node: Json) -> Place:
        """Of a Node object."""
        metadata = node["metadata"]
        taints = [{name: taint.get(name, "") for name in ("key", "value", "effect")} for taint in _taints(node)]
        return cls(metadata["name"], metadata.get("labels") or {}, tuple(taints))


def may_come(spec: Json, place: Place) -> bool:
    """`spec` is a pod's, as the API server hands it to admission."""
    if node := spec.get("nodeName"):
        return bool(node == place.node)
    if any(place.labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None and not any(_fits(term, place) for term in required.get("nodeSelectorTerms") or []):
        return False
    tolerations = spec.get("tolerations") or []
    return all(
        any(_tolerates(toleration, taint) for toleration in tolerations)
        for taint in place.taints
        if taint["effect"] in KEEPS_AWAY
    )


def _taints(node: Json) -> list[Json]:
    return (node.get("spec") or {}).get("taints") or []


def _fits(term: Json, place: Place) -> bool:
    """One of nodeSelectorTerms; an empty one fits nothing (kubernetes component-helpers/scheduling/corev1)."""
    labels, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    about = [*((each, place.labels) for each in labels), *((each, {"metadata.name": place.node}) for each in fields)]
    return bool(about) and all(_holds(requirement, values) for requirement, values in about)


def _holds(requirement: Json, values: Mapping[str, str]) -> bool:
    found, named = values.get(requirement["key"]), requirement.get("values") or []
    match requirement["operator"]:
        case "In":
            return found in named
        case "NotIn":
            return found not in named
        case "Exists":
            return found is not None
        case "DoesNotExist":
            return found is None
        case "Gt" | "Lt" as operator:
            try:
                have, bound = int(found or ""), int(named[0])
            except (ValueError, IndexError):
                return False
            return have > bound if operator == "Gt" else have < bound
    return True  # one that we do not know: it may


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    key, operator = toleration.get("key") or "", toleration.get("operator") or "Equal"
    if key and key != taint["key"]:
        return False
    if operator == "Equal":
        return bool(key) and (toleration.get("value") or "") == taint["value"]
    return True  # Exists, or one that we do not know: it may
