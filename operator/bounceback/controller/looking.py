"""The probes of one run, and what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import CheckCopy, FaultExperimentStatus, InjectionStatus, InvariantResult
from bounceback.controller.office import Office
from bounceback.engine.health import NOTHING_SEEN, Health
from bounceback.engine.marks import in_force_since, kept_to
from bounceback.engine.reading import Seen, read
from bounceback.engine.recording import Recorded, Room
from bounceback.engine.reference_run import since_when
from bounceback.engine.state import Snapshot
from bounceback.engine.unchanged import unchanged
from bounceback.kube.client import Json
from bounceback.recovery.observing import ObservationError, observe, observe_each
from bounceback.recovery.remote import Outpost
from bounceback.recovery.sealing import Seal
from bounceback.recovery.watching import Watching
from bounceback.report.redact import redacted
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import Mark

AGAIN_SECONDS: Final = 1.0
"""Before the second try of the last reading."""


class Looking:
    """Sampling lasts as long as `look` is not cancelled; what was seen stays."""

    def __init__(
        self,
        office: Office,
        namespace: str,
        spec: FaultExperimentSpec,
        changed: Callable[[], None],
        room: Room | None = None,
        outpost: Outpost | None = None,
    ) -> None:
        """`room` is what samples are recorded in, for the evidence.

        `outpost` is where probes with vantage: Pod look from.
        """
        self._outpost = outpost
        self._namespace = namespace
        self._expect = spec.expect
        self._pulse = office.pulse
        self._acting = office.kube.acting_as(namespace, spec.service_account_name)
        self._seal = Seal(office.kube, office.settings.namespace)
        self._changed = changed
        self._room = room
        self._checks: Sequence[CheckCopy] = ()
        self._watching: Watching | None = None
        self._restored: Json | None = None

    def resume(self, status: FaultExperimentStatus) -> None:
        """Go on from the histories that an operator before us wrote down; the time between is a gap."""
        self._restored = status.histories

    async def look(self, checks: Sequence[CheckCopy]) -> None:
        self._checks = checks
        asked = [(check.name, check.spec) for check in checks]
        looking = Watching(
            self._acting,
            self._namespace,
            asked,
            self._restored,
            self._changed,
            pulse=self._pulse,
            room=self._room,
            outpost=self._outpost,
        )
        async with looking as watching:
            self._watching = watching
            await asyncio.Event().wait()  # until cancelled

    def snapshot(self) -> Json:
        return self._watching.snapshot() if self._watching else self._restored or {}

    def recorded(self) -> list[Recorded]:
        """Each probe with every sample that it took since this operator looks."""
        return self._watching.recorded() if self._watching else []

    def health(self, injections: Sequence[InjectionStatus], status: FaultExperimentStatus, now: Instant) -> Health:
        watching = self._watching
        if watching is None:
            return NOTHING_SEEN
        cleared = next((m.interval() for m in status.marks if m.mark is Mark.CLEARED), None)
        seen = [
            Seen(
                check.name,
                check.spec,
                watching.histories(check.name),
                watching.detections(check.name),
                watching.error_states(check.name),
                watching.categories(check.name),
            )
            for check in self._checks
        ]
        since = in_force_since(injections, now) or since_when(status)
        until = kept_to(self._expect, injections, status.marks, now)
        return read(seen, watching.problems(), since, until, cleared, now)

    async def observe(self, checks: Sequence[CheckCopy]) -> dict[str, Any] | str:
        """By check and name; or the first reason why that could not be read."""
        found: dict[str, Any] = {}
        for check in checks:
            try:
                found[check.name] = await observe(self._acting, self._namespace, check.spec, self._seal)
            except ObservationError as error:
                return f"{check.name}: {error}"
        return found

    async def observe_all(self, checks: Sequence[CheckCopy]) -> Snapshot:
        """All at the same time; a source that does not answer costs nothing but itself."""
        began = Instant.now()
        asked = [check for check in checks if check.spec.observations]
        read_all = (observe_each(self._acting, self._namespace, check.spec, self._seal) for check in asked)
        found = await asyncio.gather(*read_all)
        values: dict[str, dict[str, Any]] = {check.name: {} for check in asked}
        problems: dict[str, dict[str, str]] = {}
        gone: set[tuple[str, str]] = set()
        for check, read_of in zip(asked, found, strict=True):
            for name, value in read_of.items():
                if isinstance(value, ObservationError):
                    problems.setdefault(check.name, {})[name] = str(value).removeprefix(f"observation {name}: ")[:512]
                    gone |= {(check.name, name)} if value.gone else set()
                else:
                    values[check.name][name] = value
        return Snapshot(Interval(began, Instant.now()), values, problems, frozenset(gone))

    async def observe_after(self, status: FaultExperimentStatus) -> tuple[Snapshot, tuple[InvariantResult, ...]]:
        """The same, held against what was read before where it must be unchanged.

        What cannot be read is asked for once more: after it nobody reads again, and the verdict would be undecided.
        """
        found = await self.observe_all(status.checks)
        if found.problems:
            await asyncio.sleep(AGAIN_SECONDS)
            found = await self.observe_all(status.checks)
        return found, unchanged(status, found, status.run_uid or "", redacted)
