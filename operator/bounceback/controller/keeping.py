"""The evidence of one run: packed, put into the store, and told; whatever becomes of it, the verdict stands already."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import aiohttp

from bounceback.api.evidence_status import MOST_WORDS, EvidencePart, EvidenceStatus
from bounceback.controller import metrics
from bounceback.controller.office import Office
from bounceback.controller.store import Refusing, Store, Stored
from bounceback.controller.stores import store_of
from bounceback.kube import KubeError
from bounceback.kube.client import Json
from bounceback.report.bundle import Bundle, digest_of, pack
from bounceback.report.evidence import Whole
from bounceback.types.outcome import EvidenceKind, EvidenceState

KEEP_SECONDS: Final = 30.0
"""How long a store that does not answer is tried; the run is held meanwhile."""
ROOM_SECONDS: Final = 10.0
PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError, OSError)
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 5.0
BRIEF: Final = {
    EvidenceKind.INJECTION: "without the agents' lines, which had no room",
    EvidenceKind.SYSTEM_RESPONSE: "without single samples, which had no room",
}
T = TypeVar("T")
log = logging.getLogger(__name__)


class Keeping:
    """Beginning again is no harm: what is in the store by then stays."""

    def __init__(
        self,
        store: Store | None,
        owner: Json,
        most: int,
        check: Callable[[], None],
        known: dict[str, int] | None = None,
    ) -> None:
        """`owner` is the experiment; `check` raises NotLeaderError where nothing may be written any more.

        `known` is shared by all runs: what the evidence of each namespace takes at the most.
        """
        self._store = store
        self._owner = owner
        self._most = most
        self._check = check
        self._known = {} if known is None else known
        self._bundle: Bundle | None = None

    @classmethod
    def of(cls, office: Office, owner: Json) -> Keeping:
        settings = office.settings.evidence
        return cls(store_of(settings, office.kube), owner, settings.run_bytes, office.leadership.check, office.kept)

    @property
    def wanted(self) -> bool:
        return self._store is not None

    async def doubt(self, run: str) -> EvidenceStatus | None:
        """What the store has against it, asked before anything is touched; None: nothing, or nobody can say."""
        if self._store is None:
            return None
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await self._store.try_out(self._owner, run)
        except Refusing as refusing:
            message = f"the evidence of this run will not be kept: {refusing.message}"
            return self._not_kept(EvidenceState.DOUBTFUL, refusing.reason, message)
        except PASSING as error:
            log.info("%s: whether it takes evidence is not known: %s", self._store.name, error)
        return None

    async def pack(self, whole: Whole) -> EvidenceStatus:
        """The digest of what is to be kept: to be written down first."""
        try:
            self._bundle = await asyncio.to_thread(pack, whole.about(), whole.lines, self._most)
        except Exception:  # a defect of ours must not hold the run; it is logged whole
            log.exception("%s: its evidence cannot be put together", whole.status.run)
            message = "it could not be put together, which is a defect of Bounceback; the operator's log has more"
            return self._not_kept(EvidenceState.NOT_KEPT, "Defect", message)
        assert self._store is not None
        digest = self._bundle.digest
        return EvidenceStatus(state=EvidenceState.WRITING, reason="Writing", store=self._store.name, digest=digest)

    async def keep(self, whole: Whole, digest: str) -> EvidenceStatus:
        """What became of the evidence with that digest. Raises NotLeaderError.

        An operator that has not packed it itself looks whether the one before it has kept it, and packs its own where
        that has not.
        """
        status = await self._kept(whole, digest)
        if status.state is not EvidenceState.WRITING:
            metrics.EVIDENCE.labels(status.state).inc()
            metrics.EVIDENCE_BYTES.inc(status.bytes)
        return status

    async def _kept(self, whole: Whole, digest: str) -> EvidenceStatus:
        assert self._store is not None
        store, bundle, run = self._store, self._bundle, whole.status.run
        try:
            if bundle is not None and bundle.digest == digest:
                stored = await self._firmly(lambda: store.keep(self._owner, run, bundle))
            else:
                found = await self._firmly(lambda: store.find(self._owner, run))
                if found is None or digest_of(found.manifest) != digest:
                    return await self.pack(whole)
                stored = found
        except Refusing as refusing:
            return self._not_kept(EvidenceState.NOT_KEPT, refusing.reason, refusing.message)
        return told(store, stored, await self._make_room(store, run, stored.bytes))

    async def _firmly(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Through passing trouble, for a while. Raises Refusing."""
        trouble = "no answer"
        pause = FIRST_PAUSE
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                while True:
                    self._check()
                    try:
                        return await ask()
                    except PASSING as error:
                        trouble = str(error) or trouble
                        log.warning("evidence not kept yet: %s", trouble)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        except TimeoutError as error:
            message = f"the store did not take it within {KEEP_SECONDS:.0f} s: {trouble}"
            raise Refusing("StoreUnreachable", message) from error

    async def _make_room(self, store: Store, run: str, bytes_: int) -> str:
        """Why older evidence could not be given up, if it had to be.

        The store is looked through only where there may be too much: evidence that goes with its owner makes less of
        it, and nobody else makes more.
        """
        namespace = self._owner["metadata"]["namespace"]
        if namespace in self._known:
            self._known[namespace] += bytes_
            if self._known[namespace] <= store.most:
                return ""
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                self._known[namespace] = await store.make_room(namespace, run)
        except (Refusing, *PASSING) as error:
            log.warning("%s: older evidence is not given up: %s", store.name, error)
            return f"older evidence could not be looked through or given up: {str(error) or 'no answer'}"
        return ""

    def _not_kept(self, state: EvidenceState, reason: str, message: str) -> EvidenceStatus:
        assert self._store is not None
        return EvidenceStatus(state=state, reason=reason, message=message[:MOST_WORDS], store=self._store.name)


def told(store: Store, stored: Stored, trouble: str = "") -> EvidenceStatus:
    """The summary that stays in the resource."""
    manifest = json.loads(stored.manifest)
    entries, missing = manifest["kinds"], manifest["samplesMissing"]
    parts = [_part(kind, entries[str(kind)], stored.failed.get(kind, "")) for kind in EvidenceKind]
    lacking = [f"{part.kind}: {part.message}" for part in parts if part.message]
    state, reason = EvidenceState.KEPT, "Kept"
    if not any(part.kept for part in parts):
        state, reason = EvidenceState.NOT_KEPT, "NothingKept"
    elif lacking:
        state, reason = EvidenceState.PARTIAL, "Partial"
    elif missing:
        state, reason = EvidenceState.PARTIAL, "SamplesMissing"
        lacking.append(f"{missing} samples are not in it: they had no room, or another operator took them")
    return EvidenceStatus(
        state=state,
        reason=reason,
        message="; ".join(filter(None, [*lacking, trouble]))[:MOST_WORDS],
        store=store.name,
        place=stored.place[:MOST_WORDS],
        digest=digest_of(stored.manifest),
        bytes=stored.bytes,
        kinds=parts,
    )


def _part(kind: EvidenceKind, entry: Json, failed: str) -> EvidencePart:
    if why := entry.get("problem") or failed:
        return EvidencePart(kind=kind, kept=False, message=str(why)[:256])
    message = BRIEF[kind] if entry.get("brief") else ""
    return EvidencePart(kind=kind, kept=True, lines=entry["lines"], bytes=entry["bytes"], message=message)
