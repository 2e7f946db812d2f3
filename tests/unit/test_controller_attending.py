"""Duties are begun when they are wanted, go on through passing trouble, and end when they are not wanted any more."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator

import pytest

from bounceback.controller import attending
from bounceback.controller.attending import Attending
from bounceback.controller.leader import NotLeaderError
from bounceback.engine.state import Duty
from bounceback.kube import KubeError
from bounceback.vehicles.errors import Refused

NOTHING: frozenset[Duty] = frozenset()


class Job:
    """Notes when it is begun and ended; does what the script says, and goes on for ever after it."""

    def __init__(self, *script: BaseException | None) -> None:
        self.begun = 0
        self.cancelled = 0
        self._script: Iterator[BaseException | None] = iter(script)

    async def __call__(self) -> None:
        self.begun += 1
        step = next(self._script, ...)
        if isinstance(step, BaseException):
            raise step
        if step is None:
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def attend(how: dict[Duty, Callable[[], Awaitable[None]]], changed: Callable[[], None] = lambda: None) -> Attending:
    return Attending("shop/web", how, changed)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attending, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(attending, "REPEAT_AFTER", 0.0)


async def some_time() -> None:
    await asyncio.sleep(0.05)


async def test_a_duty_that_is_under_way_is_not_begun_again() -> None:
    job = Job()
    attended = attend({Duty.CARRY: job})
    for _ in range(3):
        attended.want(frozenset({Duty.CARRY}))
        await some_time()
    assert job.begun == 1
    await attended.end()
    assert job.cancelled == 1


@pytest.mark.parametrize(
    "trouble",
    [
        KubeError(500, "InternalError", "etcd"),
        TimeoutError("silence"),
        Refused("", "Unsupported", "not now"),
        ExceptionGroup("several", [KubeError(429, "TooManyRequests", ""), TimeoutError()]),
    ],
)
async def test_passing_trouble_is_waited_out(trouble: Exception) -> None:
    job = Job(trouble, trouble, None)
    attended = attend({Duty.VERIFY: job})
    attended.want(frozenset({Duty.VERIFY}))
    async with asyncio.timeout(30):
        while job.begun < 3:
            await some_time()
    assert attended.trouble() is None
    await attended.end()


@pytest.mark.parametrize("defect", [KeyError("status"), ExceptionGroup("both", [TimeoutError(), ZeroDivisionError()])])
async def test_a_defect_comes_out_and_wakes_the_run(defect: Exception) -> None:
    woken = asyncio.Event()
    attended = attend({Duty.VERIFY: Job(defect)}, woken.set)
    attended.want(frozenset({Duty.VERIFY}))
    async with asyncio.timeout(10):
        await woken.wait()
    await asyncio.sleep(0)
    assert attended.trouble() is not None
    await attended.end()


async def test_trouble_is_not_lost_where_the_duty_is_wanted_again_or_no_more() -> None:
    for then in (frozenset({Duty.CLAIM}), NOTHING):
        job = Job(NotLeaderError("the lease ran out"))
        attended = attend({Duty.CLAIM: job})
        attended.want(frozenset({Duty.CLAIM}))
        await some_time()
        attended.want(then)
        assert isinstance(attended.trouble(), NotLeaderError)
        assert job.begun == 1
        await attended.end()


async def test_what_one_part_of_a_duty_raised_comes_out_by_itself() -> None:
    attended = attend({Duty.CARRY: Job(ExceptionGroup("parts", [NotLeaderError("the lease ran out")]))})
    attended.want(frozenset({Duty.CARRY}))
    await some_time()
    assert isinstance(attended.trouble(), NotLeaderError)
    await attended.end()


async def test_what_a_duty_raises_as_it_goes_is_nobodys_trouble() -> None:
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise NotLeaderError("the lease ran out")

    attended = attend({Duty.LOOK: stubborn})
    attended.want(frozenset({Duty.LOOK}))
    await some_time()
    attended.want(NOTHING)
    await some_time()
    assert attended.trouble() is None
    await attended.end()
    gc.collect()
    assert not unheard


async def test_what_is_done_is_told() -> None:
    woken = asyncio.Event()
    attended = attend({Duty.CLAIM: Job(None)}, woken.set)
    attended.want(frozenset({Duty.CLAIM}))
    async with asyncio.timeout(10):
        await woken.wait()
    await attended.end()


async def test_what_is_still_wanted_after_it_was_done_is_done_again() -> None:
    job = Job(None, None)
    attended = attend({Duty.VERIFY: job})
    for _ in range(2):
        attended.want(frozenset({Duty.VERIFY}))
        await some_time()
    assert job.begun == 2
    await attended.end()


async def test_a_lasting_duty_that_is_done_is_not_begun_again() -> None:
    job = Job(None, None)
    attended = attend({Duty.CARRY: job})
    for _ in range(2):
        attended.want(frozenset({Duty.CARRY}))
        await some_time()
    assert job.begun == 1
    await attended.end()


async def test_a_lasting_duty_ends_when_it_is_not_wanted_and_another_is_seen_through() -> None:
    lasting, other = Job(), Job()
    attended = attend({Duty.LOOK: lasting, Duty.STOP: other})
    attended.want(frozenset({Duty.LOOK, Duty.STOP}))
    await some_time()
    attended.want(NOTHING)
    await some_time()
    assert (lasting.cancelled, other.cancelled) == (1, 0)
    await attended.end()
    assert other.cancelled == 1
