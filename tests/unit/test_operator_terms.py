"""A replica that loses its lease goes back to the queue; it does not end."""

from __future__ import annotations

import asyncio

import pytest

from bounceback.controller.main import _unless


async def test_work_that_ends_by_itself_ends_nothing_else() -> None:
    async def lose_the_lease() -> None:
        await asyncio.sleep(0)

    await _unless(asyncio.Event(), lose_the_lease())


async def test_work_is_ended_when_the_process_is_to_stop() -> None:
    stopping, ended = asyncio.Event(), asyncio.Event()

    async def lead() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    asyncio.get_running_loop().call_soon(stopping.set)
    await _unless(stopping, lead())
    assert ended.is_set()


async def test_what_goes_wrong_is_not_hidden() -> None:
    async def fail() -> None:
        raise ValueError("no lease")

    with pytest.raises(ValueError, match="no lease"):
        await _unless(asyncio.Event(), fail())
