"""Commands of `exec` looks that outlast their timeout: never a pile of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from bounceback.api.looks_inside import ExecLook
from bounceback.recovery.errors import CannotLookError, UnansweredError
from bounceback.recovery.exec import ask_by_exec
from bounceback.recovery.means import Means

LOOK = ExecLook.model_validate({"pods": {"name": "web"}, "command": ["check"]})
OTHER = ExecLook.model_validate({"pods": {"name": "web"}, "command": ["check", "more"]})
POD = {
    "metadata": {"name": "web"},
    "spec": {"containers": [{"name": "main"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


class Kubelet:
    """Of the API only what a look asks for; its commands end when they are told to."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.running: list[asyncio.Event] = []

    async def list(self, *_: Any, **__: Any) -> tuple[list[Any], str]:
        return [POD], ""

    async def exec(self, *_: Any, seconds: float, begun: Callable[[], None], **__: Any) -> tuple[int, str, str]:
        end = asyncio.Event()
        if not self.takes:
            await end.wait()
        begun()
        self.running.append(end)
        try:
            await end.wait()
        finally:
            self.running.remove(end)
        return 0, "", ""


def means_of(kubelet: Any) -> Means:
    return Means(kubelet, "shop")


async def timed_out(means: Means, look: ExecLook = LOOK) -> None:
    """One sample, as a sampler ends it."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await ask_by_exec(means, look, 60)


async def test_one_that_outlasts_its_look_is_not_begun_again_before_it_ends() -> None:
    kubelet = Kubelet()
    async with means_of(kubelet) as means:
        await timed_out(means)
        for _ in range(20):
            with pytest.raises(CannotLookError, match=r"goes on in container main of pod web, for 0 s by now"):
                await ask_by_exec(means, LOOK, 60)
        assert len(kubelet.running) == 1
        await timed_out(means, OTHER)
        assert len(kubelet.running) == 2, "another command is another matter"
        kubelet.running[0].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await timed_out(means)
        assert len(kubelet.running) == 2
    assert not kubelet.running, "nobody listens any more once the run is over"


async def test_looks_overlap_as_long_as_none_has_outlasted_its_own() -> None:
    kubelet = Kubelet()
    async with means_of(kubelet) as means:
        looks: Sequence[asyncio.Task[Any]] = [asyncio.create_task(ask_by_exec(means, LOOK, 60)) for _ in range(3)]
        while len(kubelet.running) < 3:
            await asyncio.sleep(0)
        for end in list(kubelet.running):
            end.set()
        assert [found["exitCode"] for found in await asyncio.gather(*looks)] == [0, 0, 0]


async def test_one_that_was_never_taken_keeps_nobody_from_looking() -> None:
    kubelet = Kubelet(takes=False)
    async with means_of(kubelet) as means:
        await timed_out(means)
        kubelet.takes = True
        await timed_out(means)
        assert len(kubelet.running) == 1


async def test_without_anybody_who_ends_the_look_it_ends_by_itself() -> None:
    kubelet = Kubelet()
    async with means_of(kubelet) as means:
        with pytest.raises(UnansweredError):
            await ask_by_exec(means, LOOK, -0.98)  # a second is added, for the sample to be over first
        assert len(kubelet.running) == 1
