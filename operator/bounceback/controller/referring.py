"""What a reference run compares, in one run: watched, read at its end, and written down or held against what is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.reference_run import Lives, ReferenceRun, ReferenceStatus
from bounceback.api.status import FaultExperimentStatus, InjectionStatus
from bounceback.controller.office import Office
from bounceback.controller.records import Planned, journal_record
from bounceback.engine.comparing import compared, not_compared, record
from bounceback.engine.end_state import end_state
from bounceback.engine.lives import taken_by_faults
from bounceback.engine.state import End, State
from bounceback.kube.client import Json
from bounceback.kube.errors import KubeError
from bounceback.recovery.lives import LivesError, LivesOfAll
from bounceback.report.redact import redacted
from bounceback.types.instants import Instant
from bounceback.types.outcome import Phase
from bounceback.types.run_names import reference_record

HEARTBEAT: Final = 20.0
"""Seconds between two writes that tell nothing but newer versions: whoever comes after us goes on from there, and the
API server remembers changes for 75 s at the least."""
MOST_BYTES: Final = 4 * 1024 * 1024
KEY: Final = "reference"


class Referring:
    """`follow` and `read_end` may be cancelled and begun again; where no reference run is asked for, nor are they."""

    def __init__(self, office: Office, body: Json, spec: FaultExperimentSpec, changed: Callable[[], None]) -> None:
        metadata = body["metadata"]
        self._office = office
        self._name, self._namespace, self._uid = metadata["name"], metadata["namespace"], metadata["uid"]
        self._spec = spec
        self._changed = changed
        self._entries = spec.reference.objects if spec.reference else []
        acting = office.kube.acting_as(self._namespace, spec.service_account_name)
        self._lives = LivesOfAll(acting, self._namespace, self._entries, changed)
        self._problem = ""
        self._told: tuple[float, list[Lives]] = (float("-inf"), [])
        self.end: End | None = None

    @property
    def followed(self) -> bool | str:
        """Whether what comes and goes is watched, or why it cannot be."""
        return self._problem or self._lives.begun

    def resume(self, status: FaultExperimentStatus) -> None:
        """Go on from what an operator before us wrote down."""
        if status.reference is not None and self._entries:
            self._lives.resume(status.reference.lives)

    async def follow(self, status: FaultExperimentStatus) -> None:
        """Until cancelled. Before anything is injected it begins with what there is."""
        try:
            await self._lives.watch(anew=status.phase is Phase.STEADY)
        except* LivesError as found:
            self._cannot(str(found.exceptions[0]))
        except* KubeError as found:
            if refused := next((e for e in found.exceptions if isinstance(e, KubeError) and not e.passing), None):
                self._cannot(refused.message)
            raise

    def _cannot(self, why: str) -> None:
        self._problem = f"spec.reference.objects: {why}"
        self._changed()

    def told(self, status: ReferenceStatus | None, now: Instant) -> ReferenceStatus | None:
        """With what is known of what came and went: at once where there is more of it, else now and then."""
        known, seconds = self._lives.known(), now.nanos / 1e9
        if status is None or not self._entries or not self._lives.is_known:
            return status
        if seconds - self._told[0] >= HEARTBEAT or list(map(_news, known)) != list(map(_news, self._told[1])):
            self._told = seconds, known
        return status.model_copy(update={"lives": self._told[1]})

    async def read_end(self, state: State) -> None:
        """Raises what Kube and the journal raise."""
        self.end = await self._read_end(state.status, state.injections)
        self._changed()

    async def _read_end(self, status: FaultExperimentStatus, injections: Sequence[InjectionStatus]) -> End:
        try:
            bodies = await self._lives.end()
        except LivesError as error:
            return _unknown(self._spec.reference, str(error))
        lives = self._lives.known()
        ends = [end_state(found, entry, self._uid) for found, entry in zip(bodies, self._entries, strict=True)]
        end = End(
            objects=tuple(len(found) for found in bodies),
            seen=tuple(bool(found or each.before or each.changed) for found, each in zip(bodies, lives, strict=True)),
            changed=sum(came + went for each in lives for came, went in each.changed.values()),
            unknown=tuple(each.gap for each in lives if each.gap),
        )
        mine = record(ends, lives)
        if status.is_reference:
            return await self._written_down(mine, end)
        return await self._compared(status, injections, mine, lives, end)

    async def _written_down(self, mine: Json, end: End) -> End:
        """What Secrets hold is in it as digests only, all else as it is: only the operator reads it."""
        text = _text(mine)
        if len(text) > MOST_BYTES:
            told = f"{len(text)} bytes of JSON at its end, more than {MOST_BYTES}; narrow the selectors, or mask more"
            return replace(end, unknown=(*end.unknown, told))
        place, journal = reference_record(self._uid), self._office.journal
        self._office.leadership.check()
        await journal.read(place)  # what an operator before us wrote is to be written over
        await journal.write(place, self._namespace, self._name, {**journal_record((), Planned()), KEY: mine})
        return replace(end, digest=_digest(text))

    async def _compared(
        self,
        status: FaultExperimentStatus,
        injections: Sequence[InjectionStatus],
        mine: Json,
        lives: Sequence[Lives],
        end: End,
    ) -> End:
        asked = self._spec.reference
        assert asked is not None and status.reference is not None
        kept = await self._office.journal.read(reference_record(self._uid))
        if kept is None or _digest(_text(kept.get(KEY))) != status.reference.digest:
            told = "what was written down of the reference run is gone, or is not what was written"
            return replace(end, results=not_compared(asked, told))
        before = kept[KEY]
        taken = [
            taken_by_faults(self._spec, injections, entry, {*before["changed"][index], *each.changed})
            for index, (entry, each) in enumerate(zip(asked.objects, lives, strict=True))
        ]
        return replace(end, results=compared(asked, before, mine["ends"], lives, taken, redacted))

    async def remove(self) -> None:
        """After the last run."""
        if self._entries:
            await self._office.journal.remove(reference_record(self._uid))


def _unknown(asked: ReferenceRun | None, why: str) -> End:
    return End(unknown=(why,), results=not_compared(asked, why) if asked else ())


def _news(lives: Lives) -> Lives:
    """Without the version, which grows by itself."""
    return lives.model_copy(update={"version": ""})


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
