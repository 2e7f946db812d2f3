"""A way in which injections of a run are carried out: by agents, by deleting, by admission."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable


class Way:
    """All of it may be begun again by another operator: doing it twice is doing it once."""

    async def carry(self) -> None:
        """Put in force what is due, and follow it until all of it is over."""
        raise NotImplementedError

    async def stop(self) -> None:
        """End what is in force or about to be; nothing where it cannot be ended."""

    async def verify(self) -> None:
        """Look for what may be left, where nobody has said that nothing is."""

    async def remove(self) -> None:
        """Take away what is ours, the run being over."""


async def all_of(each: Iterable[Awaitable[None]]) -> None:
    """What one raises keeps none of the others from being done; then the first of those is raised."""
    outcomes = await asyncio.gather(*each, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
