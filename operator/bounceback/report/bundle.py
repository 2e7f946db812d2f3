"""A run's evidence as it is kept: five compressed files and a manifest with the digest of each.

The manifest's own digest stands in the experiment's status, so whoever may write to the store, but not to the status,
cannot change the evidence without being found out.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bounceback.types.outcome import EvidenceKind

Json = dict[str, Any]
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
GZIP: Final = 31
"""zlib's word for a gzip stream; it writes no time into it, so that the same lines are the same bytes."""
LARGEST_KIND: Final = 512 * 1024 * 1024
"""Bytes that are unpacked of one kind, whatever its manifest says."""
LONG: Final = (EvidenceKind.INJECTION, EvidenceKind.SYSTEM_RESPONSE)
"""Kinds with a short form."""


class ChangedError(ValueError):
    """It is there and whole, and not what was written."""


def file_name(kind: EvidenceKind) -> str:
    return f"{kind}.jsonl.gz"


@dataclass(frozen=True)
class Bundle:
    """What is to be kept. A kind that is too large for the limit is in the manifest with the reason, and not here."""

    manifest: bytes
    packed: Mapping[EvidenceKind, bytes]

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    @property
    def bytes(self) -> int:
        return len(self.manifest) + sum(map(len, self.packed.values()))


@dataclass(frozen=True, slots=True)
class _Packed:
    data: bytes
    lines: int
    bytes: int
    sha256: str
    brief: bool


def pack(about: Json, lines: Callable[[EvidenceKind, bool], Iterable[Json]], most: int) -> Bundle:
    """At most so many bytes: what is too much for them is given in its short form, and then left out, largest first."""
    packed = {kind: _packed(lines(kind, False), brief=False) for kind in EvidenceKind}
    if _size(packed) > most:
        packed |= {kind: _packed(lines(kind, True), brief=True) for kind in LONG}
    given_up: dict[EvidenceKind, Json] = {}
    while _size(packed) > most and packed:
        largest = max(packed, key=lambda kind: len(packed[kind].data))
        size = len(packed.pop(largest).data)
        given_up[largest] = {"problem": f"{size} bytes; with the other kinds that is more than the limit of {most}"}
    kinds = {kind: _entry(each) for kind, each in packed.items()} | given_up
    manifest = {"version": VERSION, **about, "kinds": {str(kind): kinds[kind] for kind in EvidenceKind}}
    return Bundle(canonical(manifest), {kind: each.data for kind, each in packed.items()})


@dataclass(frozen=True)
class Opened:
    """Evidence that was read again; what is not as its manifest says is named in `problems` and is not here."""

    manifest: Json
    digest: str
    problems: tuple[str, ...] = ()
    changed: bool = False  # something is there, and is not what was written
    known: bool = True  # the digest was held against one from elsewhere
    _data: Mapping[EvidenceKind, bytes] = field(default_factory=dict, repr=False)

    @property
    def whole(self) -> bool:
        return not self.problems

    def has(self, kind: EvidenceKind) -> bool:
        return kind in self._data

    def text(self, kind: EvidenceKind) -> bytes:
        """Its lines, as they were written."""
        return self._data[kind]

    def lines(self, kind: EvidenceKind) -> Iterator[Json]:
        """None where that kind is not here."""
        for line in self._data.get(kind, b"").splitlines():
            yield json.loads(line)


def opened(manifest: bytes, found: Mapping[EvidenceKind, bytes], digest: str | None) -> Opened:
    """Held against the digests. Raises ValueError for a manifest that cannot be read at all."""
    told = _manifest(manifest)
    own, problems, data = digest_of(manifest), [], {}
    changed = digest is not None and digest != own
    if changed:
        problems.append(f"the manifest is not the one that was written: {own}, where the status has {digest}")
    for kind in EvidenceKind:
        entry = told["kinds"].get(str(kind)) or {"problem": "its manifest does not know it"}
        if "problem" in entry:
            problems.append(f"{kind}: not kept: {entry['problem']}")
        elif kind not in found:
            problems.append(f"{kind}: missing")
        else:
            try:
                data[kind] = _unpacked(found[kind], entry)
            except ValueError as error:
                problems.append(f"{kind}: {error}")
                changed = changed or isinstance(error, ChangedError)
    return Opened(told, own, tuple(problems), changed, digest is not None, data)


def digest_of(manifest: bytes) -> str:
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def canonical(value: Json) -> bytes:
    """The same bytes for the same values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _packed(lines: Iterable[Json], *, brief: bool) -> _Packed:
    """Line by line: half a million samples in one piece would hold up whatever else the process does."""
    stream, digest = zlib.compressobj(wbits=GZIP), hashlib.sha256()
    data, count, size = bytearray(), 0, 0
    for line in lines:
        text = canonical(line) + b"\n"
        digest.update(text)
        data += stream.compress(text)
        count, size = count + 1, size + len(text)
    return _Packed(bytes(data + stream.flush()), count, size, digest.hexdigest(), brief)


def _entry(packed: _Packed) -> Json:
    entry: Json = {"lines": packed.lines, "bytes": packed.bytes, "sha256": packed.sha256}
    return entry | ({"brief": True} if packed.brief else {})


def _size(packed: Mapping[EvidenceKind, _Packed]) -> int:
    return sum(len(each.data) for each in packed.values())


def _manifest(text: bytes) -> Json:
    try:
        told = json.loads(text)
    except ValueError as error:
        raise ValueError(f"its manifest is no JSON: {error}") from error
    if not isinstance(told, dict) or not isinstance(told.get("kinds"), dict):
        raise ValueError("its manifest is not one of evidence: it has no kinds")
    if told.get("version") != VERSION:
        raise ValueError(f"it is of version {told.get('version')!r}; this one reads {VERSION}")
    if not all(isinstance(entry, dict) for entry in told["kinds"].values()):
        raise ValueError("its manifest is not one of evidence: a kind is no mapping")
    return told


def _unpacked(data: bytes, entry: Json) -> bytes:
    stream = zlib.decompressobj(wbits=GZIP)
    try:
        text = stream.decompress(data, LARGEST_KIND)
    except zlib.error as error:
        raise ValueError(f"cannot be unpacked: {error}") from error
    if not stream.eof or stream.unused_data:
        raise ValueError("cut, or larger than it may be")
    if hashlib.sha256(text).hexdigest() != entry.get("sha256"):
        raise ChangedError("changed: its sha256 is not the manifest's")
    return text
