"""Whatever ends Kopf, it is begun again, and only when there is something to watch. Kopf and the API are played."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest

from bounceback.controller import watching
from bounceback.controller.metrics import WATCH_RESTARTS
from bounceback.controller.watching import watch
from bounceback.kube import Kube, KubeError

SERVED = {"resources": [{"name": "faultexperiments"}, {"name": "recoverychecks"}]}
Life = Callable[[], Any]


class PlayedKube:
    """Says what is served, by a script whose last answer holds for ever."""

    host = "https://nowhere"

    def __init__(self, *answers: dict[str, Any] | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def raw(self, *_: object) -> bytes:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return json.dumps(answer).encode()

    async def credentials(self) -> dict[str, str]:
        return {}


class PlayedKopf:
    """Each life raises the next of the script, or returns; after the script it goes on for ever."""

    def __init__(self, *ends: BaseException | None) -> None:
        self._ends = list(ends)
        self.lives = 0
        self.tidied = 0

    async def operator(self, **_: object) -> None:
        self.lives += 1
        if self._ends:
            if end := self._ends.pop(0):
                raise end
            return
        try:
            await asyncio.Event().wait()
        finally:
            self.tidied += 1


@asynccontextmanager
async def watched(
    monkeypatch: pytest.MonkeyPatch, kube: PlayedKube, kopf: PlayedKopf
) -> AsyncIterator[tuple[asyncio.Task[None], list[None]]]:
    monkeypatch.setattr(watching, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(watching, "LONGEST_PAUSE", 0.002)
    monkeypatch.setattr("kopf.operator", kopf.operator)
    seen: list[None] = []

    async def changed(_kind: str | None, _body: dict[str, Any]) -> None:
        return

    task = asyncio.create_task(watch(cast(Kube, kube), ("shop",), changed, lambda: seen.append(None)))
    try:
        yield task, seen
    finally:
        task.cancel()
        await asyncio.wait({task})


async def reach(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    "end",
    [
        None,
        ValueError("could not convert string to float: 'Fri, 31 Dec'"),
        asyncio.CancelledError(),
        RuntimeError("bug"),
    ],
)
async def test_whatever_ends_kopf_it_is_begun_again_and_counted(
    monkeypatch: pytest.MonkeyPatch, end: BaseException | None
) -> None:
    counted = WATCH_RESTARTS.labels("kopf")._value
    before, kopf = counted.get(), PlayedKopf(end, end, end)
    async with watched(monkeypatch, PlayedKube(SERVED), kopf):
        await reach(lambda: kopf.lives == 4)
    assert counted.get() == before + 3


async def test_being_told_to_end_it_ends_kopf_first(monkeypatch: pytest.MonkeyPatch) -> None:
    kopf = PlayedKopf()
    async with watched(monkeypatch, PlayedKube(SERVED), kopf) as (task, _):
        await reach(lambda: kopf.lives == 1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert kopf.tidied == 1


async def test_a_kopf_that_lives_and_watches_nothing_is_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "DEAF", 0.05)
    kopf = PlayedKopf()
    async with watched(monkeypatch, PlayedKube(SERVED), kopf):
        await reach(lambda: kopf.lives >= 3)
    assert kopf.tidied == kopf.lives


@pytest.mark.parametrize("missing", [KubeError(404, "", "404 page not found"), {"resources": [{"name": "others"}]}])
async def test_kopf_is_begun_once_the_definitions_are_there(
    monkeypatch: pytest.MonkeyPatch, missing: dict[str, Any] | Exception
) -> None:
    kube, kopf = PlayedKube(missing, missing, missing, SERVED), PlayedKopf()
    async with watched(monkeypatch, kube, kopf) as (_, seen):
        await reach(lambda: kopf.lives == 1)
    assert kube.asked == 4
    assert len(seen) == 3, "that they are not there is known, not a silence"


@pytest.mark.parametrize(
    "silence", [KubeError(503, "", ""), TimeoutError(), aiohttp.ClientError(), KubeError(403, "", "")]
)
async def test_no_answer_is_no_sign_of_life(monkeypatch: pytest.MonkeyPatch, silence: Exception) -> None:
    kube, kopf = PlayedKube(silence, silence, SERVED), PlayedKopf()
    async with watched(monkeypatch, kube, kopf) as (_, seen):
        await reach(lambda: kopf.lives == 1)
    assert not seen
