"""Lives are watched through broken connections, and a version that is forgotten is told as a gap."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import pytest

from bounceback.api.reference_run import ComparedObjects, Lives
from bounceback.kube import Kube
from bounceback.kube.errors import KubeError, WatchGoneError
from bounceback.recovery import lives as module
from bounceback.recovery.lives import LivesOfAll

Json = dict[str, Any]
Event = tuple[str, Json] | Exception
ENTRY = ComparedObjects.model_validate({"apiVersion": "v1", "kind": "ConfigMap"})


def event(kind: str, version: int, name: str = "a") -> Event:
    return kind, {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}


class Scripted:
    """An API server that lists at these versions, and whose watches go like this; then they are silent."""

    def __init__(self, listed: Sequence[int], *watches: Sequence[Event]) -> None:
        self._listed, self._watches = list(listed), list(watches)
        self.begun_at: list[str] = []

    async def raw(self, *_: object) -> bytes:
        return json.dumps({"resources": [{"kind": "ConfigMap", "name": "configmaps", "namespaced": True}]}).encode()

    async def list(self, *_: object, **__: object) -> tuple[list[Json], str]:
        version = self._listed.pop(0) if len(self._listed) > 1 else self._listed[0]
        return [], str(version)

    async def watch(self, _: object, __: object, version: str, **___: object) -> AsyncGenerator[tuple[str, Json], None]:
        self.begun_at.append(version)
        for each in self._watches.pop(0) if self._watches else ():
            if isinstance(each, Exception):
                raise each
            yield each
        await asyncio.sleep(0)


async def ended(server: Scripted, known: Lives) -> Lives:
    mine = LivesOfAll(cast(Kube, server), "shop", [ENTRY], lambda: None)
    mine.resume([known])
    await mine.end()
    return mine.known()[0]


async def test_a_watch_that_breaks_goes_on_where_it_was() -> None:
    cut = ValueError("a line that was cut")
    server = Scripted(
        [20], [event("ADDED", 11), cut], [KubeError(500, "", "")], [event("DELETED", 12), event("BOOKMARK", 20)]
    )
    known = await ended(server, Lives(version="10"))
    assert server.begun_at == ["10", "11", "11"]
    assert (known.changed, known.version, known.gap) == ({"a": [1, 1]}, "20", "")


async def test_what_is_forgotten_is_a_gap_and_stays_one() -> None:
    server = Scripted(
        [20, 15], [event("ADDED", 11), WatchGoneError("410")], [event("ADDED", 16, "b"), event("BOOKMARK", 21)]
    )
    known = await ended(server, Lives(version="10"))
    assert "forgotten" in known.gap and server.begun_at == ["10", "15"]
    assert known.changed == {"a": [1, 0], "b": [1, 0]}


async def test_a_watch_that_does_not_come_up_to_the_end_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UP_TO_DATE_SECONDS", 0.05)
    known = await ended(Scripted([20]), Lives(version="10"))
    assert "did not come up" in known.gap


async def test_where_nothing_is_left_to_be_told_nothing_is_asked() -> None:
    server = Scripted([20])
    assert not (await ended(server, Lives(version="20"))).gap and not server.begun_at
