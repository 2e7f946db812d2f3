"""Evidence in a bucket of an S3-compatible object store, written with keys from a Secret that the operator mounts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Final

from bounceback.controller import metrics
from bounceback.controller.settings import BucketSettings, StoreKind
from bounceback.controller.store import Refusing, Stored, surplus
from bounceback.kube.client import Json
from bounceback.report import objects
from bounceback.report.bucket import Access, Bucket, BucketError
from bounceback.report.bundle import Bundle, file_name
from bounceback.types.outcome import EvidenceKind

LARGEST_MANIFEST: Final = 1024 * 1024
ACCESS_KEY: Final = "accessKeyId"
SECRET_KEY: Final = "secretAccessKey"
TOKEN: Final = "sessionToken"
AUTHORITY: Final = "ca.crt"
"""Keys of the Secret; the last two may be missing."""


class ObjectStorage:
    """What a volume's folder would hold, as objects. It outlives the experiment, until there is more than may be."""

    name = StoreKind.OBJECT_STORAGE

    def __init__(self, settings: BucketSettings, most: int, bucket: Bucket | None = None) -> None:
        """The keys are read when the bucket is first asked: those of a changed Secret count from the next run."""
        self._settings = settings
        self._bucket = bucket
        self.most = most

    async def try_out(self, owner: Json, run: str) -> None:
        bucket = await self._reached()
        key = objects.key_of(self._settings.prefix, objects.TRIED)
        try:
            await bucket.put(key, bytes(4096))
        except BucketError as error:
            raise _refusal(error) from error
        try:
            await bucket.delete(key)
        except BucketError as error:
            if error.passing:
                raise _refusal(error) from error
            # An account that may not delete keeps evidence all the same; what it leaves is small, and there once.

    async def keep(self, owner: Json, run: str, bundle: Bundle) -> Stored:
        bucket, below = await self._reached(), objects.place(self._settings.prefix, owner, run)
        await self._put(bucket, objects.manifest_key(below), bundle.manifest)
        failed, missing = {}, 0
        for kind, data in objects.in_order(bundle):
            try:
                await self._put(bucket, objects.kind_key(below, kind), data)
            except Refusing as refusing:
                failed[kind] = refusing.message
                missing += len(data)
        return Stored(objects.url(bucket.name, below), bundle.manifest, bundle.bytes - missing, failed)

    async def find(self, owner: Json, run: str) -> Stored | None:
        bucket, below = await self._reached(), objects.place(self._settings.prefix, owner, run)
        try:
            manifest = await bucket.get(objects.manifest_key(below), LARGEST_MANIFEST)
            if manifest is None:
                return None
            known = json.loads(manifest)["kinds"]
            there = objects.by_run(await bucket.listed(below), below.rsplit("/", 2)[0])[below]
            wanted = {kind: objects.kind_key(below, kind) for kind in EvidenceKind if "problem" not in known[str(kind)]}
        except BucketError as error:
            raise _refusal(error) from error
        except (ValueError, KeyError, TypeError):
            return None  # not evidence
        lost = {
            kind: f"the operator was ended before it had written {file_name(kind)}"
            for kind, key in wanted.items()
            if key not in there.keys
        }
        return Stored(objects.url(bucket.name, below), manifest, there.bytes, lost)

    async def make_room(self, namespace: str, run: str) -> int:
        bucket, home = await self._reached(), objects.home(self._settings.prefix, namespace)
        try:
            runs = objects.by_run(await bucket.listed(home), home)
            sizes = {below: each.bytes for below, each in runs.items()}
            ages = {below: each.written for below, each in runs.items()}
            kept = next((below for below in runs if below.endswith(f"/{run}")), "")
            for below in surplus(sizes, ages, kept, self.most):
                for key in runs[below].keys:
                    await bucket.delete(key)
                del sizes[below]
                metrics.EVIDENCE_GIVEN_UP.inc()
        except BucketError as error:
            raise _refusal(error) from error
        return sum(sizes.values())

    async def _put(self, bucket: Bucket, key: str, data: bytes) -> None:
        """Once more is no harm: an answer may have been lost."""
        try:
            new = await bucket.put_new(key, data)
            same = new or await bucket.holds(key, data)
        except BucketError as error:
            raise _refusal(error) from error
        if not same:
            message = f"{objects.SCHEME}{bucket.name}/{key} is there, and is not what was to be kept"
            raise Refusing("NameTaken", message)

    async def _reached(self) -> Bucket:
        if self._bucket is None:
            access = await asyncio.to_thread(access_from, self._settings)
            try:
                self._bucket = Bucket.of(access)
            except BucketError as error:
                raise _refusal(error) from error
        return self._bucket


def access_from(settings: BucketSettings) -> Access:
    """With the keys that are mounted now. Raises Refusing where they are not there."""
    return Access(
        settings.bucket,
        settings.region,
        settings.endpoint,
        key=_read(settings, ACCESS_KEY, needed=True),
        secret=_read(settings, SECRET_KEY, needed=True),
        token=_read(settings, TOKEN),
        authority=_read(settings, AUTHORITY),
    )


def _read(settings: BucketSettings, key: str, *, needed: bool = False) -> str:
    try:
        text = (Path(settings.keys) / key).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise Refusing("NoCredentials", f"{key} of the Secret for object storage cannot be read") from error
    if needed and not text:
        raise Refusing(
            "NoCredentials", f"the Secret for object storage has no {key}; it must have {ACCESS_KEY} and {SECRET_KEY}"
        )
    return text


def _refusal(error: BucketError) -> Exception:
    """The same where it may pass."""
    if error.passing:
        return ConnectionError(error.message)
    return Refusing(error.reason, error.message)
