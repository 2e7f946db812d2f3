"""Work that is kept apart ends when it is told to, whatever it thinks of that."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from bounceback.controller.apart import Apart


async def test_work_that_does_not_heed_its_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bounceback.controller.apart.PATIENCE", 0.2)

    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(30)

    life = Apart(stubborn(), "stubborn")
    async with asyncio.timeout(5):
        await life.end()
    assert life.cause() is not None
