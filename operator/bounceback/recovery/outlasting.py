"""Commands in pods that go on when the look that began them is over.

The kubelet leaves a command running when the connection to it is closed, and the API has no way to end one. So the
connection is kept, by which we learn when it ends; until then no look begins the same command once more, and there is
never a pile of them in a pod. What is still going on when the run is over is left there: one for each command.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

from bounceback.recovery.errors import CannotLookError


class Outlasting(NamedTuple):
    """A command that has outlasted its look."""

    work: asyncio.Task[Any]  # ends with the command
    where: str
    began: float


class Commands:
    """Those of one run, by what is asked and of whom."""

    def __init__(self) -> None:
        self._going: dict[tuple[str, ...], list[Outlasting]] = {}

    def refuse_another(self, key: tuple[str, ...]) -> None:
        """Raises CannotLookError while one that has outlasted its look goes on."""
        going = self._going[key] = [each for each in self._going.get(key, ()) if not each.work.done()]
        if going:
            seconds = time.monotonic() - going[0].began
            raise CannotLookError(
                f"the command of an earlier look goes on in {going[0].where}, for {seconds:.0f} s by now, and another "
                'is not begun before it ends: let it end by itself within the timeout ([timeout, "2", ...])'
            )
        del self._going[key]

    def keep(self, key: tuple[str, ...], work: asyncio.Task[Any], where: str, began: float) -> None:
        """Its look is over, and it is not."""
        work.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks any more how it ended
        self._going.setdefault(key, []).append(Outlasting(work, where, began))

    async def close(self) -> None:
        """Let go of all."""
        left = [each.work for going in self._going.values() for each in going]
        for work in left:
            work.cancel()
        await asyncio.gather(*left, return_exceptions=True)
