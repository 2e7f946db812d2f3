"""What Kopf asks for waits for its turn; what Kopf does to its loop does not reach ours; and silence is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from bounceback.api import FINALIZER
from bounceback.controller import board, resources
from bounceback.controller.apart import Apart, calls_in, tells
from bounceback.controller.pacing import FIRST_PAUSE, GOOD_LIFE, LONGEST_PAUSE, Pace
from bounceback.controller.serving import STALE, Pulse, served
from bounceback.controller.watching import DEAF, SILENCE, WATCH_SECONDS, settings


def begun_within(seconds: float, pace: Pace, what: str = "WATCH /x", start: float = 0.0) -> list[float]:
    """When something that ends at once is begun, each time after the pause that it is told."""
    times, now = [], start
    while now < start + seconds:
        now += pace.pause(what, now)
        times.append(now)
    return times


def test_the_first_time_is_at_once() -> None:
    assert Pace().pause("WATCH /x", 5.0) == 0


def test_what_ends_at_once_is_begun_with_growing_pauses() -> None:
    times = begun_within(60, Pace())
    pauses = [b - a for a, b in pairwise(times)]
    assert pauses[0] == FIRST_PAUSE
    assert pauses == sorted(pauses)
    assert max(pauses) == LONGEST_PAUSE
    assert sum(t < 20 for t in times) <= 10


def test_after_a_good_life_it_is_begun_at_once_again() -> None:
    pace = Pace()
    last = begun_within(60, pace)[-1]
    assert pace.pause("WATCH /x", last + LONGEST_PAUSE + GOOD_LIFE) == 0
    assert pace.pause("WATCH /x", last + LONGEST_PAUSE + GOOD_LIFE + 1) == FIRST_PAUSE


def test_each_has_a_pace_of_its_own() -> None:
    pace = Pace()
    begun_within(20, pace)
    assert pace.pause("WATCH /y", 20.0) == 0


def test_a_dead_watch_is_noticed_before_kopf_is_called_deaf_and_that_before_the_kubelet_acts() -> None:
    assert WATCH_SECONDS + LONGEST_PAUSE < SILENCE
    assert SILENCE + LONGEST_PAUSE < DEAF < STALE["watching"]


def test_kopf_may_neither_kill_the_process_nor_write() -> None:
    chosen = settings()
    assert chosen.process.ultimate_exiting_timeout is None
    assert not chosen.posting.enabled
    assert chosen.scanning.disabled


async def test_what_ends_apart_leaves_our_tasks_alone() -> None:
    """As Kopf does: it cancels every task of its loop."""

    async def cancel_all() -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        raise ValueError("a cut line")

    ours = asyncio.create_task(asyncio.sleep(60))
    life = Apart(cancel_all(), "other")
    assert await life.ended(5)
    assert isinstance(life.cause(), (ValueError, asyncio.CancelledError))
    assert not ours.done()
    ours.cancel()
    await life.end()


async def test_what_is_apart_ends_when_it_is_told_to_and_its_thread_with_it() -> None:
    tidied = threading.Event()

    async def go_on() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            tidied.set()

    life = Apart(go_on(), "to be ended")
    assert not await life.ended(0.05)
    await life.end()
    assert tidied.is_set()
    async with asyncio.timeout(5):
        while any(thread.name == "to be ended" for thread in threading.enumerate()):
            await asyncio.sleep(0.01)


async def test_calls_come_back_to_our_loop_with_their_answer_or_error() -> None:
    home = asyncio.get_running_loop()
    found: list[object] = []

    async def half(number: int) -> int:
        found.append(asyncio.get_running_loop() is home)
        if number % 2:
            raise ValueError(number)
        return number // 2

    async def ask() -> None:
        call = calls_in(home, half)
        found.append(await call(4))
        await call(3)

    life = Apart(ask(), "asking")
    assert await life.ended(5)
    assert found == [True, 2, True]
    assert isinstance(life.cause(), ValueError)


async def test_what_is_told_comes_in_order_and_nobody_waits_for_it(caplog: pytest.LogCaptureFixture) -> None:
    home = asyncio.get_running_loop()
    found: list[int] = []
    heard = asyncio.Event()

    async def hear(number: int) -> None:
        found.append(number)
        if number == 2:
            raise ZeroDivisionError
        if number == 99:
            heard.set()
            await asyncio.Event().wait()

    async def talk() -> None:
        tell = tells(home, hear)
        for number in range(100):
            tell(number)

    life = Apart(talk(), "telling")
    assert await life.ended(5)
    async with asyncio.timeout(5):
        await heard.wait()
    assert found == list(range(100))
    assert "ZeroDivisionError" in caplog.text


async def test_who_is_told_keeps_nothing_of_who_tells() -> None:
    """Kopf has the object that it handles in its context."""
    holding: ContextVar[object] = ContextVar("holding", default=None)
    found: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    async def hear() -> None:
        found.set_result(holding.get())

    async def talk() -> None:
        holding.set("60 KB")
        tell()

    tell = tells(asyncio.get_running_loop(), hear)
    life = Apart(talk(), "telling")
    assert await life.ended(5)
    async with asyncio.timeout(5):
        assert await found is None


@pytest.mark.parametrize("phase", [None, "Active", "Finished"])
@pytest.mark.parametrize("claimed", [False, True])
@pytest.mark.parametrize("deleted", [None, "2026-01-01T00:00:00Z"])
@pytest.mark.parametrize("more", [{}, {"cancel": True}, {"ttlSecondsAfterFinished": 0}])
def test_a_glimpse_tells_all_that_is_asked_of_a_change(
    phase: str | None, claimed: bool, deleted: str | None, more: dict[str, Any]
) -> None:
    whole: dict[str, Any] = {
        "kind": "FaultExperiment",
        "metadata": {"namespace": "shop", "name": "web", "uid": "u", "managedFields": [{}], "labels": {"a": "b"}},
        "spec": {"targets": [], **more},
    }
    if claimed:
        whole["metadata"] |= {"finalizers": [FINALIZER], "annotations": {resources.STARTED_UID: "u"}}
    if deleted:
        whole["metadata"]["deletionTimestamp"] = deleted
    if phase:
        whole["status"] = {"phase": phase, "timeline": [{}]}
    seen = resources.glimpse(whole)
    for asked in (board._is_open, board._is_running, board._has_begun, resources.is_claimed):
        assert asked(seen) == asked(whole)
    assert seen["spec"] == more
    assert seen["metadata"].get("deletionTimestamp") == deleted


class PlayedClock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_only_what_has_begun_can_be_silent() -> None:
    clock = PlayedClock()
    pulse = Pulse(clock)
    clock.now += 10_000
    assert pulse.silent() == ()
    pulse.beat("watching")
    clock.now += STALE["watching"] - 1
    assert pulse.silent() == ()
    clock.now += 1
    assert pulse.silent() == ("watching",)
    pulse.done("watching")
    assert pulse.silent() == ()


def test_signs_of_one_part_do_not_stand_for_another() -> None:
    clock = PlayedClock()
    pulse = Pulse(clock)
    pulse.beat("electing")
    pulse.beat("watching")
    for _ in range(10):
        clock.now += STALE["watching"] / 5
        pulse.beat("electing")
    assert pulse.silent() == ("watching",)


@pytest.mark.parametrize(("silent_for", "status", "text"), [(0.0, 200, "ok"), (1e6, 503, "electing")])
async def test_health_says_which_part_is_silent(
    unused_tcp_port_factory: Callable[[], int], silent_for: float, status: int, text: str
) -> None:
    clock, port = PlayedClock(), unused_tcp_port_factory()
    pulse = Pulse(clock)
    pulse.beat("electing")
    clock.now += silent_for
    async with served(port, pulse), aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
            assert (answer.status, text in await answer.text()) == (status, True)
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            assert "bounceback_watch_restarts_total" in await answer.text()
