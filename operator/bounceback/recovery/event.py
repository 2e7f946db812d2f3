"""Kubernetes Events that appear or are repeated while we look; ours do not count, nor what was there before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bounceback.api.looks_inside import EventLook
from bounceback.api.probes import Probe
from bounceback.engine.naming import of_ours
from bounceback.engine.samples import History
from bounceback.kube.client import Json
from bounceback.recovery.judging import Said, judge
from bounceback.recovery.means import Means
from bounceback.recovery.moments import Moments
from bounceback.recovery.objects import Selection, Watcher
from bounceback.types.instants import Instant


class Events(Watcher):
    """Watched as objects are; core/v1 knows the fields to select by, events.k8s.io/v1 shows the same objects."""

    def __init__(
        self, means: Means, probe: Probe, look: EventLook, history: History, said: Said, changed: Callable[[], None]
    ) -> None:
        super().__init__(means, probe, Selection("v1", "Event", fields=fields_of(look)), history, changed)
        self._expression = look.expression
        self._moments = Moments(history, look.absent_seconds, "no such event", said, changed)
        self._versions: dict[str, str] | None = None  # resourceVersion by UID; None: nothing was read yet
        self._since: Instant | None = None  # the start of the newest sample

    def _add(self, start: Instant, end: Instant, found: list[Json]) -> None:
        before, self._versions = self._versions, {_uid(item): _version(item) for item in found}
        new: list[dict[str, Any]] = []
        if before is not None:
            changed = [item for item in found if before.get(_uid(item)) != _version(item)]
            new = [{"event": item} for item in changed if self._meant(item)]
        since, self._since = self._since or start, start
        self._moments.record(since, start, end, new)

    def _meant(self, item: Json) -> bool:
        """An expression that has no answer, for a field that this event has not, is not true of it."""
        if of_ours(item):
            return False
        return self._expression is None or judge(self._expression, {"event": item}) is None


def fields_of(look: EventLook) -> str:
    """As the API server selects Events."""
    wanted = {
        "reason": look.reason,
        "type": look.type,
        "involvedObject.kind": look.kind,
        "involvedObject.name": look.name,
    }
    return ",".join(f"{field}={value}" for field, value in wanted.items() if value)


def _uid(item: Json) -> str:
    return str(item["metadata"]["uid"])


def _version(item: Json) -> str:
    return str(item["metadata"].get("resourceVersion", ""))
