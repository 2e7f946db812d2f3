"""The life of a prober: look, operate until it is told to end or its time is over, settle, read back, account, tell.

Everything that it knows stands in its log: whoever reads that from the start knows the same.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from typing import Any, Final

from bounceback.accounting.checking import check
from bounceback.accounting.seconds import Seconds
from bounceback.api.check_workload import CheckWorkload
from bounceback.prober.control import listen
from bounceback.prober.lines import Lines
from bounceback.types.prober import AUTHORITIES, ORDERS, PASSWORD, LoadEnd, Said
from bounceback.workload.client import System
from bounceback.workload.running import NoFirstLookError, Run, now
from bounceback.workload.systems import system_of

TICK: Final = 0.1

Json = dict[str, Any]


class Prober:
    """One run of one workload."""

    def __init__(self, workload: CheckWorkload, system: System, run: int, not_after: float) -> None:
        self._workload = workload
        self._not_after = not_after
        self._why = LoadEnd.SECONDS
        self._ending = False  # what ends from here on is no measure of a load
        self.tell = Lines().tell
        self.run = Run(workload, system, run)
        self.run.course.by_second = Seconds()

    def end(self, why: LoadEnd = LoadEnd.ASKED) -> None:
        """No more operations are begun, if any are."""
        if not self.run.loaded.is_set() and self._why is LoadEnd.SECONDS:
            self._why = why
        self._ending = True
        self.run.end()

    async def live(self) -> int:
        self.tell(Said.STARTED)
        server = await listen(self.end)
        living = asyncio.ensure_future(self.run.live())
        telling = asyncio.ensure_future(self._tell_seconds())
        try:
            await living
            await telling  # the end of the load, before the account
        except NoFirstLookError as error:
            self.tell(Said.REFUSED, why=str(error)[:500])
            return 0
        finally:
            telling.cancel()
            server.close()
        self.tell(Said.ACCOUNT, account=self._account())
        return 0

    async def _tell_seconds(self) -> None:
        """Each as it passes, and the end of the load; and keep its time."""
        seconds = self.run.course.by_second
        assert seconds is not None
        await self.run.loading.wait()
        self.tell(Said.LOAD)
        while not self.run.loaded.is_set():
            if time.time() >= self._not_after:
                self.end(LoadEnd.DEADLINE)
            await asyncio.sleep(TICK)
            for second in seconds.over(now()):
                if not self._ending and second.number < self._workload.seconds:
                    self.tell(Said.SECOND, second=second.to_json())
        self.tell(Said.LOAD_ENDED, why=LoadEnd.FULL if self.run.course.was_full else self._why)

    def _account(self) -> Json:
        course = self.run.course
        return {
            **check(self._workload.model, course.ledger).to_json(),
            "operations": course.ledger.last_of_load,
            "never_begun": course.never_begun,
            "seconds": round(course.seconds, 3),
            "read_back_error": course.read_back_error[:500],
            "trouble": course.trouble[:300],
        }


def main() -> int:
    import uvloop

    try:
        orders = json.loads(os.environ[ORDERS])
        workload = CheckWorkload.model_validate(orders["workload"]).asking_with(PASSWORD)
        prober = (workload, int(orders["run"]), float(orders["notAfter"]))
    except (KeyError, ValueError) as error:
        print(f"{ORDERS} must be set to a prober's orders: {error}", file=sys.stderr)
        return 2
    gc.freeze()  # what is there now stays: it need not be looked through again and again
    return uvloop.run(_live(*prober))


async def _live(workload: CheckWorkload, run: int, not_after: float) -> int:
    try:
        system = system_of(workload, os.environ.get(AUTHORITIES))
    except ValueError as error:
        lines = Lines()
        lines.tell(Said.STARTED)
        lines.tell(Said.REFUSED, why=f"the Secret that tls.authorities names must hold certificates in PEM: {error}")
        return 0
    return await Prober(workload, system, run, not_after).live()
