"""The evidence of one run: packed, put into the store, and told; whatever becomes of it, the verdict stands already."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Final

import aiohttp

from bounceback.api.evidence_status import MOST_WORDS, EvidencePart, EvidenceStatus
from bounceback.controller import metrics
from bounceback.controller.office import Office
from bounceback.controller.stores import Refusing, Store, Stored, store_of
from bounceback.kube import KubeError
from bounceback.kube.client import Json
from bounceback.report.bundle import digest_of, pack
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
log = logging.getLogger(__name__)


class Keeping:
    """Beginning again is no harm: what is in the store by then stays."""

    def __init__(self, store: Store | None, owner: Json, most: int, check: Callable[[], None]) -> None:
        """`owner` is the experiment; `check` raises NotLeaderError where nothing may be written any more."""
        self._store = store
        self._owner = owner
        self._most = most
        self._check = check

    @classmethod
    def of(cls, office: Office, owner: Json) -> Keeping:
        settings = office.settings.evidence
        return cls(store_of(settings, office.kube), owner, settings.run_bytes, office.leadership.check)

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

    async def keep(self, whole: Whole) -> EvidenceStatus:
        """Raises nothing but what ends the run: NotLeaderError, a cancellation."""
        status = await self._kept(whole)
        metrics.EVIDENCE.labels(status.state).inc()
        metrics.EVIDENCE_BYTES.inc(status.bytes)
        return status

    async def _kept(self, whole: Whole) -> EvidenceStatus:
        assert self._store is not None
        run = whole.status.run
        try:
            bundle = await asyncio.to_thread(pack, whole.about(), whole.lines, self._most)
        except Exception:  # a defect of ours must not hold the run; it is logged whole
            log.exception("%s: its evidence cannot be put together", run)
            message = "it could not be put together, which is a defect of Bounceback; the operator's log has more"
            return self._not_kept(EvidenceState.NOT_KEPT, "Defect", message)
        trouble: Exception = TimeoutError("no answer")
        pause = FIRST_PAUSE
        try:
            async with asyncio.timeout(KEEP_SECONDS):
                while True:
                    self._check()
                    try:
                        stored = await self._store.keep(self._owner, run, bundle)
                        break
                    except PASSING as error:
                        trouble = error
                        log.warning("%s: evidence not kept yet: %s", run, error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
        except Refusing as refusing:
            return self._not_kept(EvidenceState.NOT_KEPT, refusing.reason, refusing.message)
        except TimeoutError:
            message = f"the store did not take it within {KEEP_SECONDS:.0f} s: {trouble or 'no answer'}"
            return self._not_kept(EvidenceState.NOT_KEPT, "StoreUnreachable", message)
        return told(whole, self._store, stored, await self._make_room(run))

    async def _make_room(self, run: str) -> str:
        """Why older evidence could not be given up, if it had to be."""
        assert self._store is not None
        try:
            async with asyncio.timeout(ROOM_SECONDS):
                await self._store.make_room(self._owner["metadata"]["namespace"], run)
        except PASSING as error:
            log.warning("%s: older evidence is not given up: %s", self._store.name, error)
            return f"older evidence could not be looked through or given up: {str(error) or 'no answer'}"
        return ""

    def _not_kept(self, state: EvidenceState, reason: str, message: str) -> EvidenceStatus:
        assert self._store is not None
        return EvidenceStatus(state=state, reason=reason, message=message[:MOST_WORDS], store=self._store.name)


def told(whole: Whole, store: Store, stored: Stored, trouble: str = "") -> EvidenceStatus:
    """The summary that stays in the resource."""
    entries = json.loads(stored.manifest)["kinds"]
    parts = [_part(kind, entries[str(kind)], stored.failed.get(kind, "")) for kind in EvidenceKind]
    lacking = [f"{part.kind}: {part.message}" for part in parts if part.message]
    missing = whole.not_recorded
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
