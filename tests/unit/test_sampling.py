"""A look that was held up by ourselves: its silence counts only where it was long enough without that."""

from __future__ import annotations

import asyncio

import pytest

from bounceback.engine.samples import History
from bounceback.recovery.sampling import Pulse, Sampler

TIMEOUT = 1.0
"""Seconds; a quarter of it is what a look may be held up."""


class Slow(Pulse):
    """Of a loop that was held up for that long during the look, and for that long while it was waited for after."""

    def __init__(self, during: float, after: float = 0.0) -> None:
        super().__init__()
        self._told = iter([0.0, during])
        self._last = during + after

    def held_up(self) -> float:
        return next(self._told, self._last)


async def looked(pulse: Pulse, answer: float = 30.0) -> History:
    """What is known after one look, which is answered after so many seconds."""

    async def look() -> None:
        await asyncio.sleep(answer)

    history = History(60.0, TIMEOUT)
    async with asyncio.TaskGroup() as group:
        sampling = group.create_task(Sampler(history, look, lambda: None, group, pulse).run(0))
        async with asyncio.timeout(20):
            while not history.samples and not history.gaps:
                await asyncio.sleep(0.01)
        sampling.cancel()
    return history


@pytest.mark.parametrize("held_up", [0.0, 0.2])
async def test_silence_counts_where_hardly_anything_held_it_up(held_up: float) -> None:
    history = await looked(Slow(held_up))
    assert history.messages == ["timed out after 1000 ms"]
    assert not history.gaps


async def test_it_is_waited_for_as_much_longer_as_it_was_held_up_and_counts_then() -> None:
    history = await looked(Slow(0.5))
    assert history.messages == ["timed out after 1000 ms"], "silent for 1.5 s, 0.5 of which were ours"
    assert not history.gaps
    assert history.runs[0].soonest.since(history.runs[0].first.start) >= TIMEOUT + 0.5


@pytest.mark.parametrize("pulse", [Slow(0.5, 0.3), Slow(1.1)], ids=["held up again", "held up all the time"])
async def test_silence_to_somebody_who_does_not_listen_is_a_gap(pulse: Pulse) -> None:
    history = await looked(pulse)
    assert (history.samples, len(history.gaps)) == (0, 1)


async def test_an_answer_that_may_have_been_in_time_or_not_is_a_gap() -> None:
    history = await looked(Slow(1.0), answer=TIMEOUT + 0.05)
    assert (history.samples, len(history.gaps)) == (0, 1)


async def test_an_answer_in_time_counts_however_long_we_were_held_up() -> None:
    history = await looked(Slow(0.5), answer=0.01)
    assert (history.healthy_samples, history.gaps) == (1, ())
