"""The journal: what is needed to undo an experiment, where the target's namespace cannot take it along.

One Secret for each experiment, or for each of its runs, in the operator's namespace. A record that is too large for one
is spread over parts that are written before the Secret that names them, so that a reader always finds a whole record.
The finalizer keeps all of them until the run is cleared.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import zlib
from dataclasses import dataclass
from typing import Final

from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import SECRETS
from bounceback.types.shards import SHARD, pieces
from bounceback.vehicles.containers import RUN_LABEL
from bounceback.vehicles.errors import Overtaken

FINALIZER: Final = "bounceback.dev/journal"
LABEL: Final = "bounceback.dev/journal"  # head or part
OF: Final = "bounceback.dev/experiment"  # annotation: namespace/name
PARTS: Final = "bounceback.dev/parts"  # annotation of the head: the names of the parts, in order
DIGEST: Final = "bounceback.dev/digest"  # annotation of the head: of the whole record


@dataclass(frozen=True, slots=True)
class _Head:
    """What we last saw of a record: a write must follow it."""

    version: str
    parts: tuple[str, ...]
    digest: str


class Journal:
    """Records by the experiment's UID, or by the name of one of its later runs.

    Fencing: a write replaces only what this Journal itself wrote or read last, and raises Overtaken where somebody
    else wrote since. So a fresh operator reads before it writes, and one that slept writes nothing.
    """

    def __init__(self, own: Kube, namespace: str, shard: int = SHARD) -> None:
        self._own = own
        self._namespace = namespace
        self._shard = shard
        self._heads: dict[str, _Head] = {}

    async def write(self, uid: str, namespace: str, name: str, record: Json) -> None:
        """Create or replace the record of experiment `namespace`/`name`. Raises Overtaken, KubeError."""
        packed = zlib.compress(json.dumps(record, sort_keys=True, separators=(",", ":")).encode())
        digest = hashlib.sha256(packed).hexdigest()
        seen = self._heads.get(uid)
        if seen is not None and seen.digest == digest:
            return
        first, *more = pieces(packed, self._shard)
        token = secrets.token_hex(4)
        parts = [f"{head_name(uid)}-{token}-{index}" for index in range(1, len(more) + 1)]
        of = f"{namespace}/{name}"
        for part, piece in zip(parts, more, strict=True):
            await self._own.create(SECRETS, self._namespace, _secret(part, uid, "part", {OF: of}, piece))
        notes = {OF: of, PARTS: ",".join(parts), DIGEST: digest}
        try:
            written = await self._put(_secret(head_name(uid), uid, "head", notes, first), seen)
        except (Overtaken, KubeError):
            await self._drop(*parts)
            raise
        self._heads[uid] = _Head(written["metadata"]["resourceVersion"], tuple(parts), digest)
        await self._drop(*(seen.parts if seen else ()))

    async def read(self, uid: str) -> Json | None:
        """The record; None if there is none. Raises KubeError."""
        while True:
            try:
                secret = await self._own.get(SECRETS, self._namespace, head_name(uid))
            except KubeError as error:
                if error.gone:
                    return None
                raise
            head = _head(secret)
            try:
                more = [await self._own.get(SECRETS, self._namespace, part) for part in head.parts]
            except KubeError as error:
                if not error.gone:
                    raise
                continue  # a newer record took this one's place meanwhile
            packed = b"".join(base64.b64decode(each["data"]["record"]) for each in (secret, *more))
            self._heads[uid] = head
            record: Json = json.loads(zlib.decompress(packed))
            return record

    async def remove(self, uid: str) -> None:
        """Take the finalizers off and delete the record; done already is fine. Raises KubeError."""
        kept, _ = await self._own.list(SECRETS, self._namespace, labels=f"{LABEL},{RUN_LABEL}={uid}")
        await self._drop(*(each["metadata"]["name"] for each in kept))
        self._heads.pop(uid, None)

    async def all(self) -> list[tuple[str, str, str]]:
        """(UID, namespace, name) of each experiment that has a record. Raises KubeError."""
        heads, _ = await self._own.list(SECRETS, self._namespace, labels=f"{LABEL}=head")
        found = []
        for each in heads:
            namespace, _, name = each["metadata"]["annotations"][OF].partition("/")
            found.append((each["metadata"]["labels"][RUN_LABEL], namespace, name))
        return sorted(found)

    async def _put(self, secret: Json, seen: _Head | None) -> Json:
        name, digest = secret["metadata"]["name"], secret["metadata"]["annotations"][DIGEST]
        try:
            if seen is None:
                return await self._own.create(SECRETS, self._namespace, secret)
            secret["metadata"]["resourceVersion"] = seen.version
            return await self._own.replace(SECRETS, self._namespace, name, secret)
        except KubeError as error:
            if error.gone:
                raise Overtaken(f"journal {name} was removed by another operator") from error
            if error.status != 409:
                raise
        there = await self._own.get(SECRETS, self._namespace, name)
        if _head(there).digest == digest:  # our own write, whose answer was lost, or another's of the very same
            return there
        raise Overtaken(f"journal {name} was written by another operator since we last read it")

    async def _drop(self, *names: str) -> None:
        for name in names:
            try:
                await self._own.patch(SECRETS, self._namespace, name, {"metadata": {"finalizers": None}})
                await self._own.delete(SECRETS, self._namespace, name)
            except KubeError as error:
                if not error.gone:
                    raise


def head_name(uid: str) -> str:
    return f"bounceback-journal-{uid}"


def _head(secret: Json) -> _Head:
    notes = secret["metadata"]["annotations"]
    parts = tuple(part for part in notes[PARTS].split(",") if part)
    return _Head(secret["metadata"]["resourceVersion"], parts, notes[DIGEST])


def _secret(name: str, uid: str, kind: str, annotations: dict[str, str], piece: bytes) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bounceback.dev/journal",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/managed-by": "bounceback", LABEL: kind, RUN_LABEL: uid},
            "annotations": annotations,
            "finalizers": [FINALIZER],
        },
        "data": {"record": base64.b64encode(piece).decode()},
    }
