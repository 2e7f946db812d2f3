"""What objects are like in the end, without what differs from run to run anyway; and how two such states differ."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from bounceback.engine.merging import same
from bounceback.types.objects import RUN_LABEL, SECRET_KINDS, Json
from bounceback.types.pointers import MISSING, Parts, parts, pointer

ANY: Final = "*"
GENERATED: Final = re.compile("[bcdfghjklmnpqrstvwxz2456789]{5}")
"""What the API server puts behind a generateName, and nothing else."""
LONGEST_STEM: Final = 58
"""Characters of a generateName that are kept before that."""
TOKEN_VOLUME: Final = re.compile(rf"kube-api-access-{GENERATED.pattern}")
"""Of a pod: the API server makes up its name."""
MASKS: Final[Mapping[str, tuple[str, ...]]] = {
    "": (
        "/metadata/name",  # it is what the objects are told apart by
        "/metadata/namespace",
        "/metadata/uid",
        "/metadata/resourceVersion",
        "/metadata/generation",
        "/metadata/selfLink",
        "/metadata/creationTimestamp",
        "/metadata/deletionGracePeriodSeconds",
        "/metadata/managedFields",  # who wrote what, and when
        "/metadata/ownerReferences/*/uid",
        "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration",
        "/metadata/annotations/control-plane.alpha.kubernetes.io~1leader",
    ),
    "Pod": (
        "/metadata/labels/controller-uid",
        "/metadata/labels/batch.kubernetes.io~1controller-uid",
        "/spec/nodeName",  # the scheduler's choice
        "/spec/ephemeralContainers",  # ours
    ),
    "Job": (
        "/metadata/labels/controller-uid",
        "/metadata/labels/batch.kubernetes.io~1controller-uid",
        "/spec/selector/matchLabels/controller-uid",
        "/spec/selector/matchLabels/batch.kubernetes.io~1controller-uid",
        "/spec/template/metadata/labels/controller-uid",
        "/spec/template/metadata/labels/batch.kubernetes.io~1controller-uid",
    ),
    "Deployment": ("/metadata/annotations/deployment.kubernetes.io~1revision",),  # counts on from run to run
    "ReplicaSet": (
        "/metadata/annotations/deployment.kubernetes.io~1revision",
        "/metadata/annotations/deployment.kubernetes.io~1revision-history",
    ),
    "Service": (  # given out by the cluster; that it was made anew its lives tell
        "/spec/clusterIP",
        "/spec/clusterIPs",
        "/spec/healthCheckNodePort",
        "/spec/ports/*/nodePort",
    ),
    "PersistentVolumeClaim": (
        "/spec/volumeName",
        "/metadata/annotations/volume.kubernetes.io~1selected-node",
    ),
    "EndpointSlice": (
        "/metadata/annotations/endpoints.kubernetes.io~1last-change-trigger-time",
        "/endpoints/*/addresses",
        "/endpoints/*/nodeName",
        "/endpoints/*/zone",
        "/endpoints/*/hints",
        "/endpoints/*/targetRef/name",
        "/endpoints/*/targetRef/uid",
    ),
    "Lease": (  # who leads, and since when
        "/spec/acquireTime",
        "/spec/renewTime",
        "/spec/holderIdentity",
        "/spec/leaseTransitions",
    ),
}
"""What the cluster gives out, counts or stamps: by kind, and "" for all. docs/reference-runs.md says it, too."""


class Compared(Protocol):
    """What of objects is compared: an entry of a reference run, or an observation that must stay as it is."""

    @property
    def kind(self) -> str: ...
    @property
    def masks(self) -> Sequence[str]: ...
    @property
    def status_fields(self) -> Sequence[str]: ...


EndState = Mapping[str, Sequence[Json]]
"""By stable name: one object, or those that the API server named alike, in the order in which they came."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was in the reference run; MISSING stands for what is not there."""

    name: str  # the object's stable one
    path: str  # a JSON pointer; "" for how many there are
    reference: Any
    now: Any


def is_ours(body: Json) -> bool:
    """Made by Bounceback: agents, evidence."""
    labels = body["metadata"].get("labels") or {}
    return RUN_LABEL in labels or labels.get("app.kubernetes.io/managed-by") == "bounceback"


def stable_name(body: Json) -> str:
    """Its name; of one that the API server made up, what it was asked for, and *."""
    metadata = body["metadata"]
    name, stem = str(metadata["name"]), str(metadata.get("generateName") or "")[:LONGEST_STEM]
    made_up = stem and name.startswith(stem) and GENERATED.fullmatch(name[len(stem) :])
    return f"{stem}{ANY}" if made_up else name


def end_state(bodies: Iterable[Json], entry: Compared, salt: str) -> dict[str, list[Json]]:
    """What is compared of them. What Secrets hold is nothing but digests, which `salt` makes of no use elsewhere."""
    found: dict[str, list[Json]] = {}
    order = sorted(bodies, key=lambda b: (b["metadata"].get("creationTimestamp") or "", b["metadata"]["name"]))
    for body in order:
        found.setdefault(stable_name(body), []).append(_compared(body, entry, salt))
    return found


def _compared(body: Json, entry: Compared, salt: str) -> Json:
    kept: Json = json.loads(TOKEN_VOLUME.sub("kube-api-access-*", json.dumps(body)))
    status = {"status": kept.pop("status", MISSING)}
    for part in ("apiVersion", "kind"):  # entries of lists go without
        kept.pop(part, None)
    for mask in (*MASKS[""], *MASKS.get(entry.kind, ()), *entry.masks):
        kept = without(kept, parts(mask))
    if body["metadata"].get("deletionTimestamp"):
        kept["metadata"] = {**kept.get("metadata", {}), "deletionTimestamp": "set"}  # that it goes, not when
    if entry.kind in SECRET_KINDS:
        kept = {key: _digests(value, salt) if key in ("data", "stringData") else value for key, value in kept.items()}
    for field in entry.status_fields:
        kept = _with(kept, _only(status, parts(field)))
    return kept


def _digests(data: Any, salt: str) -> Any:
    if not isinstance(data, dict):
        return None
    return {key: hashlib.sha256(f"{salt}\0{key}\0{value}".encode()).hexdigest() for key, value in data.items()}


def without(value: Any, way: Parts) -> Any:
    """A copy without what stands there; maps that are empty then go with it, as the API server leaves them out."""
    first, rest = way[0], way[1:]
    if isinstance(value, list):
        if not rest:
            return [each for number, each in enumerate(value) if first not in (ANY, str(number))]
        return [without(each, rest) if first in (ANY, str(number)) else each for number, each in enumerate(value)]
    if not isinstance(value, dict):
        return value
    result = {}
    for key, each in value.items():
        if first not in (ANY, key):
            result[key] = each
        elif rest:
            left = without(each, rest)
            if left or not each:
                result[key] = left
    return result


def _only(value: Any, way: Parts) -> Any:
    """Nothing but what stands there, under its way; MISSING where nothing does. Entries of lists go by their places."""
    if not way:
        return value
    if isinstance(value, list):
        value = {str(number): each for number, each in enumerate(value)}
    if not isinstance(value, dict):
        return MISSING
    inner = {key: _only(each, way[1:]) for key, each in value.items() if way[0] in (ANY, key)}
    return {key: each for key, each in inner.items() if each is not MISSING} or MISSING


def _with(value: Any, more: Any) -> Any:
    if isinstance(value, dict) and isinstance(more, dict):
        return {**value, **{key: _with(value.get(key, MISSING), each) for key, each in more.items()}}
    return value if more is MISSING else more


def ends_differ(reference: EndState, now: EndState) -> Iterator[Difference]:
    """Objects that the API server named alike are taken for the same where they are, and else in their order."""
    for name in sorted({*reference, *now}):
        then, here = reference.get(name, ()), now.get(name, ())
        if len(then) != len(here):
            yield Difference(name, "", len(then), len(here))
        else:
            for one, other in zip(*_apart(then, here), strict=True):
                yield from (Difference(name, pointer(way), a, b) for way, a, b in values_differ(one, other))


def _apart(before: Sequence[Json], after: Sequence[Json]) -> tuple[list[Json], list[Json]]:
    """Without those that are in both."""
    left, rest = list(after), []
    for one in before:
        twin = next((number for number, other in enumerate(left) if same(one, other)), None)
        if twin is None:
            rest.append(one)
        else:
            left.pop(twin)
    return rest, left


def values_differ(one: Any, other: Any, way: Parts = ()) -> Iterator[tuple[Parts, Any, Any]]:
    """The least parts that differ, each with its way; nothing where both are the same JSON.

    A variable or header stays whole: its name tells whether its value may be shown.
    """
    a, b = ({} if each is MISSING else each for each in (one, other))
    maps = isinstance(a, dict) and isinstance(b, dict) and bool(a or b)
    if maps and not {"name", "value"} <= {*a, *b}:
        for key in sorted({*a, *b}):
            yield from values_differ(a.get(key, MISSING), b.get(key, MISSING), (*way, key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from values_differ(*pair, (*way, str(number)))
    elif not same(one, other):
        yield way, one, other
