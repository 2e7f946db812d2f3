"""Where evidence is kept: ConfigMaps beside the experiment, files of a volume of the operator's, or a bucket."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bounceback.controller import metrics
from bounceback.controller.settings import EvidenceSettings, StoreKind
from bounceback.controller.store import Refusing, Store, Stored, surplus
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS
from bounceback.report import folder, maps
from bounceback.report.bundle import MANIFEST, Bundle
from bounceback.types.outcome import EvidenceKind

ABANDONED: Final = 3600.0
"""Seconds after which a folder that was never finished is nobody's any more."""
FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
log = logging.getLogger(__name__)


def store_of(settings: EvidenceSettings, kube: Kube) -> Store | None:
    """`kube` is the operator's own."""
    match settings.store:
        case StoreKind.CONFIG_MAPS:
            return ConfigMaps(kube, settings.namespace_bytes)
        case StoreKind.VOLUME:
            return Volume(Path(settings.directory), settings.namespace_bytes)
        case StoreKind.OBJECT_STORAGE:
            from bounceback.controller.object_storage import ObjectStorage  # its library is loaded where it is used

            return ObjectStorage(settings.bucket, settings.namespace_bytes)
        case StoreKind.NONE:
            return None


class ConfigMaps:
    """In the experiment's namespace, written by the operator as itself: no account of an experiment can forge them."""

    name = StoreKind.CONFIG_MAPS

    def __init__(self, kube: Kube, most: int) -> None:
        self._kube = kube
        self.most = most

    async def try_out(self, owner: Json, run: str) -> None:
        head, _ = maps.maps_of(Bundle(b"{}", {}), run, owner)
        try:
            await self._kube.create(CONFIG_MAPS, owner["metadata"]["namespace"], head, dry_run=True)
        except KubeError as error:
            if not error.exists:
                raise _refusal(error, owner) from error

    async def keep(self, owner: Json, run: str, bundle: Bundle) -> Stored:
        namespace = owner["metadata"]["namespace"]
        head, parts = maps.maps_of(bundle, run, owner)
        await self._create(owner, head)
        failed, missing = {}, 0
        for kind, listed in parts.items():
            try:
                for part in listed:
                    await self._create(owner, part)
            except Refusing as refusing:
                failed[kind] = refusing.message
                missing += len(bundle.packed[kind])
        return Stored(f"ConfigMap {namespace}/{maps.head_name(run)}", bundle.manifest, bundle.bytes - missing, failed)

    async def make_room(self, namespace: str, run: str) -> int:
        kube = self._kube.only_metadata(listed=True)
        found, _ = await kube.list(CONFIG_MAPS, namespace, labels=f"{maps.LABEL},{maps.OF_RUN}")
        by_run: dict[str, list[Json]] = {}
        for each in found:
            by_run.setdefault(each["metadata"]["labels"][maps.OF_RUN], []).append(each["metadata"])
        sizes = {name: _size(each) for name, each in by_run.items()}
        ages = {name: min(m["creationTimestamp"] for m in each) for name, each in by_run.items()}
        for name in surplus(sizes, ages, run, self.most):
            for metadata in by_run[name]:
                await self._delete(namespace, metadata)
            del sizes[name]
            metrics.EVIDENCE_GIVEN_UP.inc()
        return sum(sizes.values())

    async def find(self, owner: Json, run: str) -> Stored | None:
        namespace, name = owner["metadata"]["namespace"], maps.head_name(run)
        try:
            head = await self._kube.get(CONFIG_MAPS, namespace, name)
            manifest, _ = maps.joined(head, {})
            parts = maps.parts_of(head)
        except KubeError as error:
            if error.gone:
                return None
            raise _refusal(error, owner) from error
        except ValueError:
            return None  # not evidence
        failed = {kind: why for kind, names in parts.items() if (why := await self._lacking(namespace, names))}
        return Stored(f"ConfigMap {namespace}/{name}", manifest, _size([head["metadata"]]), failed)

    async def _create(self, owner: Json, body: Json) -> None:
        """Once more is no harm: an answer may have been lost."""
        namespace, name = owner["metadata"]["namespace"], body["metadata"]["name"]
        try:
            await self._kube.create(CONFIG_MAPS, namespace, body)
            return
        except KubeError as error:
            if not error.exists:
                raise _refusal(error, owner) from error
        there = await self._kube.get(CONFIG_MAPS, namespace, name)
        owners = {each.get("uid") for each in there["metadata"].get("ownerReferences") or []}
        same = all((there.get(part) or {}) == (body.get(part) or {}) for part in ("data", "binaryData"))
        if owner["metadata"]["uid"] not in owners or not same:
            raise Refusing("NameTaken", f"ConfigMap {namespace}/{name} is there, and is not what was to be kept")

    async def _lacking(self, namespace: str, parts: Iterable[str]) -> str:
        for part in parts:
            try:
                await self._kube.only_metadata(listed=False).get(CONFIG_MAPS, namespace, part)
            except KubeError as error:
                if not error.gone:
                    raise
                return f"the operator was ended before it had written {part}"
        return ""

    async def _delete(self, namespace: str, metadata: Json) -> None:
        try:
            await self._kube.delete(CONFIG_MAPS, namespace, metadata["name"], uid=metadata["uid"])
        except KubeError as error:
            if not error.gone and not error.conflict:
                raise


class Volume:
    """A folder for each run. It outlives the experiment, until there is more than may be."""

    name = StoreKind.VOLUME

    def __init__(self, root: Path, most: int) -> None:
        self._root = root
        self.most = most

    async def try_out(self, owner: Json, run: str) -> None:
        await asyncio.to_thread(self._try_out)

    async def keep(self, owner: Json, run: str, bundle: Bundle) -> Stored:
        return await asyncio.to_thread(self._keep, owner, run, bundle)

    async def find(self, owner: Json, run: str) -> Stored | None:
        return await asyncio.to_thread(self._find, owner, run)

    async def make_room(self, namespace: str, run: str) -> int:
        return await asyncio.to_thread(self._make_room, namespace, run)

    def _try_out(self) -> None:
        probe = self._root / f".try-{time.monotonic_ns()}"
        try:
            probe.write_bytes(bytes(4096))
            probe.unlink()
        except OSError as error:
            raise _unwritable(self._root, error) from error

    def _keep(self, owner: Json, run: str, bundle: Bundle) -> Stored:
        place = self._place(owner, run)
        try:
            if (found := self._find(owner, run)) is not None:
                if found.manifest == bundle.manifest:
                    return found
                raise Refusing("NameTaken", f"{place} is there, and is not what was to be kept")
            failed = folder.written(place, bundle)
            return Stored(str(place), bundle.manifest, folder.size(place), failed)
        except OSError as error:
            raise _unwritable(place, error) from error

    def _find(self, owner: Json, run: str) -> Stored | None:
        place = self._place(owner, run)
        try:
            if not (place / MANIFEST).exists():
                return None
            manifest, found = folder.read(place)
            known = json.loads(manifest)["kinds"]
            lost = {kind for kind in EvidenceKind if kind not in found and "problem" not in known[str(kind)]}
            return Stored(str(place), manifest, folder.size(place), dict.fromkeys(lost, "missing on the volume"))
        except OSError as error:
            raise _unwritable(place, error) from error
        except (ValueError, KeyError, TypeError):
            return None  # not evidence

    def _place(self, owner: Json, run: str) -> Path:
        metadata = owner["metadata"]
        return self._root / str(metadata["namespace"]) / str(metadata["name"])[:200] / run

    def _make_room(self, namespace: str, run: str) -> int:
        home = self._root / namespace
        runs = {str(each): each for each in home.glob("*/*") if (each / MANIFEST).exists()}
        sizes = {name: folder.size(each) for name, each in runs.items()}
        ages = {name: f"{each.stat().st_mtime:020.6f}" for name, each in runs.items()}
        kept = next((name for name, each in runs.items() if each.name == run), "")
        for name in surplus(sizes, ages, kept, self.most):
            shutil.rmtree(runs[name])
            del sizes[name]
            metrics.EVIDENCE_GIVEN_UP.inc()
        for each in home.glob(f"*/{folder.UNFINISHED}*"):
            if time.time() - each.stat().st_mtime > ABANDONED:
                shutil.rmtree(each, ignore_errors=True)
        return sum(sizes.values())


def _size(metadata: Iterable[Json]) -> int:
    told = ((each.get("annotations") or {}).get(maps.BYTES, "") for each in metadata)
    return sum(int(each) for each in told if each.isdecimal())


def _refusal(error: KubeError, owner: Json) -> Exception:
    """The same where it may pass."""
    namespace = owner["metadata"]["namespace"]
    if error.passing:
        return error
    if error.status == 403 and "exceeded quota" in error.message:
        return Refusing(
            "QuotaExceeded", f"{error.message}; allow more ConfigMaps in {namespace}, or delete experiments"
        )
    if error.status == 403 and "being terminated" in error.message:
        return Refusing("NamespaceGone", f"namespace {namespace} is being deleted")
    if error.status in (401, 403) and "cannot create" in error.message:
        way = f"`bounceback access {namespace} | kubectl apply -f -` grants it"
        return Refusing("Forbidden", f"the operator may not write ConfigMaps in {namespace}: {error.message}; {way}")
    if error.gone:
        return Refusing("NamespaceGone", f"namespace {namespace} is gone")
    if error.status == 413:
        return Refusing("TooLarge", f"the API server does not take so much at once: {error.message}")
    return Refusing("Refused", str(error))


def _unwritable(place: Path, error: OSError) -> Refusing:
    why = error.strerror or str(error)
    if error.errno in FULL:
        return Refusing("StoreFull", f"the volume has no room for {place}: {why}; make it larger, or keep less")
    return Refusing("Refused", f"{place} cannot be written: {why}")
