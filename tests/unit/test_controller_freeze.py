"""A freeze is known from its first answer on, and stays known while it cannot be looked at. The API is a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from bounceback.controller.freeze import Freeze
from bounceback.controller.locks import Locks
from bounceback.kube import Kube, KubeError, WatchGoneError
from bounceback.kube.watching import Backoff

Json = dict[str, Any]
THE_FREEZE: Json = {
    "metadata": {"name": "bounceback-freeze", "uid": "u", "resourceVersion": "5"},
    "data": {"reason": "incident 7"},
}


class ScriptedKube:
    """Lists come from a script (the last for ever); watches from a queue that tests fill. Exceptions are raised."""

    def __init__(self, *lists: list[Json] | Exception) -> None:
        self._lists = list(lists)
        self.events: asyncio.Queue[tuple[str, Json] | Exception] = asyncio.Queue()

    async def list(self, *_: object, **__: object) -> tuple[list[Json], str]:
        answer = self._lists.pop(0) if len(self._lists) > 1 else self._lists[0]
        if isinstance(answer, Exception):
            raise answer
        return answer, "4"

    async def watch(self, *_: object, **__: object) -> AsyncGenerator[tuple[str, Json], None]:
        while True:
            event = await self.events.get()
            if isinstance(event, Exception):
                raise event
            yield event


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pause(_: Backoff) -> None:
        await asyncio.sleep(0.001)

    monkeypatch.setattr(Backoff, "pause", pause)


@asynccontextmanager
async def watched(kube: ScriptedKube) -> AsyncIterator[tuple[Freeze, list[str | None]]]:
    """The freeze, and the reasons that it told of."""
    told: list[str | None] = []
    freeze = Freeze(cast(Kube, kube), "home", lambda: told.append(freeze.reason))
    task = asyncio.create_task(freeze.watch())
    try:
        yield freeze, told
        await asyncio.sleep(0.02)
        assert not task.done()
    finally:
        task.cancel()


async def until_told(told: list[str | None], *reasons: str | None) -> None:
    """So much, and then nothing more for a while."""
    async with asyncio.timeout(5):
        while len(told) < len(reasons):
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)
    assert told == list(reasons)


async def test_nothing_is_known_before_the_first_answer() -> None:
    async with watched(ScriptedKube(KubeError(403, "Forbidden", ""), TimeoutError(), KubeError(500, "", ""))) as (
        freeze,
        _,
    ):
        await asyncio.sleep(0.02)
        assert not freeze.known.is_set()


@pytest.mark.parametrize("before", [[], [KubeError(403, "Forbidden", "")], [KubeError(500, "", ""), TimeoutError()]])
async def test_a_freeze_that_is_there_is_known_from_the_start(before: list[Exception]) -> None:
    async with watched(ScriptedKube(*before, [THE_FREEZE])) as (freeze, told):
        async with asyncio.timeout(5):
            await freeze.known.wait()
        assert (freeze.reason, told) == ("incident 7", ["incident 7"])


async def test_freezing_and_thawing_are_told_once_each() -> None:
    kube = ScriptedKube([])
    async with watched(kube) as (freeze, told):
        async with asyncio.timeout(5):
            await freeze.known.wait()
        assert freeze.reason is None
        for kind in ("ADDED", "MODIFIED", "DELETED"):
            kube.events.put_nowait((kind, THE_FREEZE))
        await until_told(told, "incident 7", None)


async def test_one_without_a_reason_is_a_freeze_too() -> None:
    bare = {"metadata": THE_FREEZE["metadata"]}
    async with watched(ScriptedKube([bare])) as (freeze, _):
        async with asyncio.timeout(5):
            await freeze.known.wait()
        assert freeze.reason == ""


async def test_what_was_known_stays_known_while_nothing_can_be_looked_at() -> None:
    kube = ScriptedKube([THE_FREEZE], KubeError(403, "Forbidden", ""))
    async with watched(kube) as (freeze, told):
        async with asyncio.timeout(5):
            await freeze.known.wait()
        kube.events.put_nowait(WatchGoneError("too old"))
        await asyncio.sleep(0.02)
        assert (freeze.reason, told) == ("incident 7", ["incident 7"])


async def test_a_thaw_in_a_gap_is_found_out() -> None:
    kube = ScriptedKube([THE_FREEZE], [])
    async with watched(kube) as (freeze, told):
        async with asyncio.timeout(5):
            await freeze.known.wait()
        kube.events.put_nowait(WatchGoneError("too old"))
        await until_told(told, "incident 7", None)


def test_two_experiments_never_hold_the_same_pod() -> None:
    locks = Locks()
    assert not locks.take("one", ["a", "b"])
    assert locks.take("two", ["b", "c"]) == {"b": "one"}
    assert not locks.take("three", ["c"]), "who is refused holds nothing"


def test_taking_again_is_taking_anew() -> None:
    locks = Locks()
    locks.take("one", ["a", "b"])
    assert not locks.take("one", ["b"])
    assert not locks.take("two", ["a"])


def test_what_is_released_can_be_taken() -> None:
    locks = Locks()
    locks.take("one", ["a"])
    locks.release("one")
    locks.release("nobody")
    assert not locks.take("two", ["a"])
