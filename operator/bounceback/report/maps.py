"""A bundle of evidence as ConfigMaps: one with the manifest and what fits beside it, and parts of what does not.

They cannot be changed (`immutable`), only deleted, and go with the experiment that owns them. Their names follow from
the run, so that an operator that comes after another writes no second copy.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from bounceback.report.bundle import MANIFEST, Bundle, file_name
from bounceback.types.outcome import EvidenceKind
from bounceback.types.shards import SHARD, pieces

Json = dict[str, Any]
LABEL: Final = "bounceback.dev/evidence"  # head or part
OF_RUN: Final = "bounceback.dev/evidence-of"  # label: the run, as its other objects name it
BYTES: Final = "bounceback.dev/bytes"  # annotation of the head: what all of them take
PARTS: Final = "parts.json"  # of the head: by kind, the names of its parts in order
PART: Final = "part"


def head_name(run: str) -> str:
    return f"bounceback-evidence-{run}"


def maps_of(bundle: Bundle, run: str, owner: Json, shard: int = SHARD) -> tuple[Json, dict[EvidenceKind, list[Json]]]:
    """The head, and the parts of the kinds that have no room in it. `owner` is the experiment."""
    inside: dict[str, str] = {}
    apart: dict[EvidenceKind, list[Json]] = {}
    names: dict[str, list[str]] = {}
    room, number = shard - len(bundle.manifest), 0
    for kind, data in sorted(bundle.packed.items(), key=lambda item: len(item[1])):
        if len(data) <= room:
            inside[file_name(kind)] = base64.b64encode(data).decode()
            room -= len(data)
            continue
        apart[kind] = []
        for piece in pieces(data, shard):
            number += 1
            part = _config_map(f"{head_name(run)}-{number}", run, owner, "part")
            apart[kind].append({**part, "binaryData": {PART: base64.b64encode(piece).decode()}})
        names[str(kind)] = [part["metadata"]["name"] for part in apart[kind]]
    head = _config_map(head_name(run), run, owner, "head")
    head["metadata"]["annotations"] = {BYTES: str(bundle.bytes)}
    return {**head, "data": {MANIFEST: bundle.manifest.decode(), PARTS: json.dumps(names)}, "binaryData": inside}, apart


def parts_of(head: Json) -> dict[EvidenceKind, list[str]]:
    """The names of the parts, by kind. Raises ValueError where that cannot be read, or names what is not its own."""
    try:
        told = json.loads((head.get("data") or {}).get(PARTS) or "{}")
        names = {EvidenceKind(kind): [str(name) for name in listed] for kind, listed in told.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"its {PARTS} cannot be read: {error}") from error
    own = f"{head['metadata']['name']}-"
    if strange := next((n for listed in names.values() for n in listed if not n.startswith(own)), None):
        raise ValueError(f"its {PARTS} names {strange}, which is none of its parts")
    return names


def joined(head: Json, parts: Mapping[str, Json]) -> tuple[bytes, dict[EvidenceKind, bytes]]:
    """The manifest and what was found, kinds with a part missing left out. Raises ValueError without a manifest."""
    manifest = (head.get("data") or {}).get(MANIFEST)
    if not manifest:
        raise ValueError(f"it has no {MANIFEST}")
    found = dict(_inside(head))
    for kind, names in parts_of(head).items():
        if all(name in parts for name in names):
            found[kind] = b"".join(_decoded((parts[name].get("binaryData") or {}).get(PART)) for name in names)
    return manifest.encode(), found


def _inside(head: Json) -> Iterator[tuple[EvidenceKind, bytes]]:
    for kind in EvidenceKind:
        if (data := (head.get("binaryData") or {}).get(file_name(kind))) is not None:
            yield kind, _decoded(data)


def _decoded(text: str | None) -> bytes:
    """Nothing for what is no base64: then the digest tells."""
    try:
        return base64.b64decode(text or "", validate=True)
    except binascii.Error:
        return b""


def _config_map(name: str, run: str, owner: Json, kind: str) -> Json:
    metadata = owner["metadata"]
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    labels = {"app.kubernetes.io/managed-by": "bounceback", LABEL: kind, OF_RUN: run}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [reference],
        },
        "immutable": True,
    }
