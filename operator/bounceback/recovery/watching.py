"""All probes of some checks, sampled or watched for as long as it takes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.probes import Probe
from bounceback.engine.samples import History
from bounceback.kube.client import Json, Kube
from bounceback.recovery.kinds import Kinds
from bounceback.recovery.looks import look_by_http, look_by_tcp, probe_session
from bounceback.recovery.names import Names
from bounceback.recovery.objects import Objects
from bounceback.recovery.sampling import Look, Pulse, Sampler

log = logging.getLogger(__name__)

SNAPSHOT_BYTES: Final = 32 * 1024
"""What all histories together may take in a status; beyond it they are stored with less detail."""
DETAILS: Final = ((8, 5), (6, 2), (4, 0))
"""(runs, messages) of each history, as they are stored: with less where there are many."""

PROBES, DETECTION, ERROR_STATE = "probes", "detection", "errorState"


@dataclass(frozen=True, slots=True)
class Watched:
    """One probe of one check, and what it saw."""

    check: str
    section: str
    index: int
    probe: Probe
    history: History
    objects: Objects | None  # of a probe that reads Kubernetes objects

    @property
    def key(self) -> str:
        return f"{self.check}/{self.section}/{self.probe.name}"

    @property
    def field(self) -> str:
        return f"RecoveryCheck {self.check}: spec.{self.section}[{self.index}]"


class Watching:
    """Begins to look when it is entered, and ends with it; what was seen can be read until then and after.

    `acting` is in the experiment's account: with its rights objects are read. `restored` is an earlier `snapshot`.
    `changed` is called, from the same event loop, when a probe's state or problem changes; it must not block.
    `pulse` is one that somebody else keeps running in this event loop; one is enough however many look.
    """

    def __init__(
        self,
        acting: Kube,
        namespace: str,
        checks: Sequence[tuple[str, RecoveryCheckSpec]],
        restored: Mapping[str, Any] | None,
        changed: Callable[[], None],
        late: Callable[[float], None] | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._pulse = pulse
        self._changed = changed
        self._late = late
        self._names = Names(namespace)
        kinds = Kinds(acting)
        self._watched = [
            _watched(acting, kinds, namespace, check, section, index, probe, restored or {}, changed)
            for check, section, index, probe in _probes(checks)
        ]
        self._group = asyncio.TaskGroup()
        self._session: aiohttp.ClientSession | None = None
        self._all: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._session = probe_session(self._names)
        await self._group.__aenter__()  # a defect in here cancels whoever entered us, and is raised as they leave
        self._all = self._group.create_task(self._run(self._session), name="probes")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._all is not None and self._session is not None
        self._all.cancel()
        try:
            await self._group.__aexit__(kind, error, traceback)
        finally:
            await self._session.close()
            await self._names.close()

    def histories(self, check: str) -> Mapping[str, History]:
        """Of `spec.probes`, by name."""
        return self._section(check, PROBES)

    def detections(self, check: str) -> Mapping[str, History]:
        """Of `spec.detection`, by name."""
        return self._section(check, DETECTION)

    def error_states(self, check: str) -> Mapping[str, History]:
        """Of `spec.errorState`, by name."""
        return self._section(check, ERROR_STATE)

    def problems(self) -> list[str]:
        """Probes that cannot work at all, each with its field and the reason; this says nothing about the system."""
        return [
            f"{watched.field}.kubernetes: {watched.objects.problem}"
            for watched in self._watched
            if watched.objects is not None and watched.objects.problem
        ]

    def snapshot(self) -> Json:
        """What the histories hold, for a status; the more probes, the less of each one's middle is kept."""
        found: Json = {}
        for runs, messages in DETAILS:
            found = {watched.key: watched.history.to_json(runs, messages) for watched in self._watched}
            if len(json.dumps(found)) <= SNAPSHOT_BYTES:
                break
        return found

    def _section(self, check: str, section: str) -> Mapping[str, History]:
        return {w.probe.name: w.history for w in self._watched if (w.check, w.section) == (check, section)}

    async def _run(self, session: aiohttp.ClientSession) -> None:
        pulse = self._pulse or Pulse()
        async with asyncio.TaskGroup() as group:
            if self._pulse is None:
                group.create_task(pulse.run())
            for number, watched in enumerate(self._watched):
                share = number / len(self._watched)  # of a period, so that not all are due at once
                period = watched.probe.period_milliseconds / 1000
                if watched.objects is not None:
                    group.create_task(watched.objects.run(share * min(period, 1.0)))
                else:
                    look = self._look(session, watched.probe)
                    sampler = Sampler(watched.history, look, self._changed, group, pulse, self._late)
                    group.create_task(sampler.run(share * period))

    def _look(self, session: aiohttp.ClientSession, probe: Probe) -> Look:
        if probe.http is not None:
            return partial(look_by_http, session, probe.http)
        assert probe.tcp is not None
        return partial(look_by_tcp, self._names, probe.tcp)


def _probes(checks: Sequence[tuple[str, RecoveryCheckSpec]]) -> Iterator[tuple[str, str, int, Probe]]:
    for check, spec in checks:
        for section, probes in ((PROBES, spec.probes), (DETECTION, spec.detection), (ERROR_STATE, spec.error_state)):
            for index, probe in enumerate(probes):
                yield check, section, index, probe


def _watched(
    acting: Kube,
    kinds: Kinds,
    namespace: str,
    check: str,
    section: str,
    index: int,
    probe: Probe,
    restored: Mapping[str, Any],
    changed: Callable[[], None],
) -> Watched:
    history = _restored(restored.get(f"{check}/{section}/{probe.name}"))
    objects = None
    if probe.kubernetes is not None:
        objects = Objects(acting, kinds, namespace, probe, probe.kubernetes, history, changed)
        history = objects.history
    elif history is None:
        history = History(
            probe.period_milliseconds / 1000, probe.timeout_milliseconds / 1000, threshold=probe.failure_threshold
        )
    return Watched(check, section, index, probe, history, objects)


def _restored(stored: Mapping[str, Any] | None) -> History | None:
    """None as well for what another version stored: then nobody looked before now, which shows as a gap."""
    try:
        return History.from_json(stored) if stored else None
    except ValueError as error:
        log.warning("looking begins anew: %s", error)
        return None
