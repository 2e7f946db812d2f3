"""All probes of some checks, sampled or watched for as long as it takes."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol, Self

from bounceback.api.check import PROBE_LISTS, RecoveryCheckSpec
from bounceback.api.probes import Probe, Signal
from bounceback.engine.recording import Recorded, Recording, Room
from bounceback.engine.samples import History, Sample
from bounceback.kube.client import Json, Kube
from bounceback.recovery.asking import look_of, new_history, stream_of
from bounceback.recovery.judging import Said, Values, in_short, judge, nothing_said
from bounceback.recovery.means import Means
from bounceback.recovery.remote import NOBODY, Outpost, Remote
from bounceback.recovery.sampling import Pulse, Sampler
from bounceback.types.instants import Instant

log = logging.getLogger(__name__)

SNAPSHOT_BYTES: Final = 32 * 1024
"""What all histories together may take in a status; beyond it they are stored with less detail."""
DETAILS: Final = ((8, 5), (6, 2), (4, 0))
"""(runs, messages) of each history, as they are stored: with less where there are many."""

PROBES, DETECTION, ERROR_STATE = PROBE_LISTS
CATEGORY = "category"
NO_PERIOD: Final = 86_400.0
"""What a signal says is asked when it holds: nobody looks in between, and that is no gap."""


class Source(Protocol):
    """What adds to a history, for as long as `run` is not cancelled."""

    history: History
    problem: str | None

    async def run(self, phase: float) -> None: ...


@dataclass(slots=True)
class Watched:
    """One probe of one check, and what it saw."""

    check: str
    section: str
    index: int
    probe: Probe
    history: History
    category: History | None  # of a signal that is asked whether it names the trouble rightly
    source: Source | None = None

    @property
    def key(self) -> str:
        return f"{self.check}/{self.section}/{self.probe.name}"

    @property
    def field(self) -> str:
        return f"RecoveryCheck {self.check}: spec.{self.section}[{self.index}].{self.probe.kind}"

    @property
    def category_key(self) -> str:
        return f"{self.check}/{CATEGORY}/{self.probe.name}"

    def said(self) -> Said:
        """Holds what a signal says against its category."""
        expression = self.probe.category if isinstance(self.probe, Signal) else None
        history = self.category
        if expression is None or history is None:
            return nothing_said

        def said(values: Values) -> None:
            now = Instant.now()
            wrong = judge(expression, values)
            history.add(Sample(now, now, wrong is None, f"{wrong}; it said {in_short(values)}" if wrong else ""))

        return said


class Watching:
    """Begins to look when it is entered, and ends with it; what was seen can be read until then and after.

    `acting` is in the experiment's account: with its rights objects are read. `restored` is an earlier `snapshot`.
    `changed` is called, from the same event loop, when a probe's state or problem changes; it must not block.
    `pulse` is one that somebody else keeps running in this event loop; one is enough however many look.
    `outpost` is where probes with vantage: Pod look from; without one they have that for a problem.
    `room` is what every sample is recorded in, for the evidence; without it the histories are all that is kept.
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
        room: Room | None = None,
        outpost: Outpost | None = None,
    ) -> None:
        self._pulse = pulse
        self._changed = changed
        self._outpost = outpost
        self._late = late
        self._means = Means(acting, namespace)
        self._watched = [
            _watched(check, section, index, probe, restored or {})
            for check, spec in checks
            for section, index, probe in spec.sections()
        ]
        self._recorded = [] if room is None else [each for w in self._watched for each in _recorded(w, room)]
        for watched in self._watched:
            watched.source = stream_of(self._means, watched.probe, watched.history, watched.said(), changed)
            if watched.probe.vantage == "Pod":
                watched.source = Remote(watched.history, changed)
        self._group = asyncio.TaskGroup()
        self._all: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._means.__aenter__()
        await self._group.__aenter__()  # a defect in here cancels whoever entered us, and is raised as they leave
        self._all = self._group.create_task(self._run(), name="probes")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._all is not None
        self._all.cancel()
        try:
            await self._group.__aexit__(kind, error, traceback)
        finally:
            await self._means.__aexit__(kind, error, traceback)

    def histories(self, check: str) -> Mapping[str, History]:
        """Of `spec.probes`, by name."""
        return self._section(check, PROBES)

    def detections(self, check: str) -> Mapping[str, History]:
        """Of `spec.detection`, by name."""
        return self._section(check, DETECTION)

    def error_states(self, check: str) -> Mapping[str, History]:
        """Of `spec.errorState`, by name."""
        return self._section(check, ERROR_STATE)

    def categories(self, check: str) -> Mapping[str, History]:
        """Of signals with a category, by name: when what they said was right."""
        return {w.probe.name: w.category for w in self._watched if w.check == check and w.category is not None}

    def recorded(self) -> list[Recorded]:
        """Every sample that was seen from here on, as far as there was room."""
        return list(self._recorded)

    def problems(self) -> list[str]:
        """Probes that cannot work at all, each with its field and the reason; this says nothing about the system."""
        return [
            f"{watched.field}: {watched.source.problem}"
            for watched in self._watched
            if watched.source is not None and watched.source.problem
        ]

    def snapshot(self) -> Json:
        """What the histories hold, for a status; the more probes, the less of each one's middle is kept."""
        found: Json = {}
        for runs, messages in DETAILS:
            found = {watched.key: watched.history.to_json(runs, messages) for watched in self._watched}
            found |= {w.category_key: w.category.to_json(runs, messages) for w in self._watched if w.category}
            if len(json.dumps(found)) <= SNAPSHOT_BYTES:
                break
        return found

    def forget(self, before: Instant) -> None:
        """What the probes saw until then is accounted for; whoever watches for weeks has no use for it."""
        for watched in self._watched:
            if watched.section == PROBES:
                watched.history.forget(before)

    def _section(self, check: str, section: str) -> Mapping[str, History]:
        return {w.probe.name: w.history for w in self._watched if (w.check, w.section) == (check, section)}

    async def _run(self) -> None:
        pulse = self._pulse or Pulse()
        async with asyncio.TaskGroup() as group:
            if self._pulse is None:
                group.create_task(pulse.run())
            if far := {w.key: w for w in self._watched if isinstance(w.source, Remote)}:
                group.create_task(self._look_from_afar(far))
            for number, watched in enumerate(self._watched):
                share = number / len(self._watched)  # of a period, so that not all are due at once
                period = watched.probe.period_milliseconds / 1000
                if watched.source is not None:
                    group.create_task(watched.source.run(share * min(period, 1.0)))
                else:
                    look = look_of(self._means, watched.probe, watched.said())
                    watched.source = Sampler(watched.history, look, self._changed, group, pulse, self._late)
                    group.create_task(watched.source.run(share * period))

    async def _look_from_afar(self, far: Mapping[str, Watched]) -> None:
        remotes = {key: each.source for key, each in far.items() if isinstance(each.source, Remote)}
        if self._outpost is not None:
            await self._outpost.look({key: each.probe for key, each in far.items()}, remotes)
            return
        for remote in remotes.values():
            remote.tell(NOBODY)


def _watched(check: str, section: str, index: int, probe: Probe, restored: Mapping[str, Any]) -> Watched:
    history = _restored(restored.get(f"{check}/{section}/{probe.name}")) or new_history(probe)
    category = None
    if isinstance(probe, Signal) and probe.category:
        category = _restored(restored.get(f"{check}/{CATEGORY}/{probe.name}"))
        category = category or History(NO_PERIOD, 0.0, ordered=True)
    return Watched(check, section, index, probe, history, category)


def _recorded(watched: Watched, room: Room) -> list[Recorded]:
    sections = [(watched.section, watched.history)] + ([(CATEGORY, watched.category)] if watched.category else [])
    found = []
    for section, history in sections:
        recording = Recording(room)
        history.keep = recording.add
        found.append(Recorded(watched.check, section, watched.probe.name, watched.probe.kind, history, recording))
    return found


def _restored(stored: Mapping[str, Any] | None) -> History | None:
    """None as well for what another version stored: then nobody looked before now, which shows as a gap."""
    try:
        return History.from_json(stored) if stored else None
    except ValueError as error:
        log.warning("looking begins anew: %s", error)
        return None
