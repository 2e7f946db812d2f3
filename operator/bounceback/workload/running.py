"""A workload from its first look to its read-back."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from bounceback.accounting.latencies import Latencies
from bounceback.accounting.ledger import NOTHING, Function, Ledger, Model, Outcome
from bounceback.accounting.seconds import Seconds
from bounceback.api.workload import Workload
from bounceback.workload.choosing import Choosing
from bounceback.workload.client import Answer, Client, SilentError, System
from bounceback.workload.numbering import Numbering
from bounceback.workload.schedule import due, workers

UNREACHABLE_PAUSE: Final = 0.05
"""Seconds: who waits for answers does not ask again at once where nobody took the question."""
RETRY_PAUSE: Final = 0.2
FIRST_TRIES: Final = 3
LONGEST_SLEEP: Final = 0.2
READERS: Final = 32
EMPTY_TIMES: Final = 3
"""So often in a row each who drains a queue must find it empty."""

now: Callable[[], int] = time.monotonic_ns


class NoFirstLookError(Exception):
    """What is to be read at the end cannot be read at the beginning: nothing was written."""


@dataclass
class Course:
    """What happened, as far as it is over."""

    ledger: Ledger = field(default_factory=Ledger)
    writes: Latencies = field(default_factory=Latencies)  # from when they were due
    reads: Latencies = field(default_factory=Latencies)
    late: Latencies = field(default_factory=Latencies)  # begun after they were due, where they were due at a time
    never_begun: int = 0  # due, and no connection was free for them until the load ended
    seconds: float = 0.0  # how long the load lasted, with its last answers
    was_full: bool = False  # no more operations fit
    read_back_error: str = ""
    by_second: Seconds | None = None  # where somebody wants to know while it goes on
    trouble: str = ""  # what the last operation came to that was not acknowledged


class Run:
    """One workload on one system. `run` tells its values and keys from those of other runs."""

    def __init__(self, workload: Workload, system: System, run: int) -> None:
        self._workload = workload
        self._system = system
        self._numbering = Numbering(workload.model, run, workload.keys)
        self._choosing = Choosing(workload)
        self._ended = False
        self.course = Course()
        self.loading = asyncio.Event()  # operations begin
        self.loaded = asyncio.Event()  # none is under way any more

    def end(self) -> None:
        """No more operations are begun; what was written is read back."""
        self._ended = True

    async def live(self) -> None:
        """Raises NoFirstLookError."""
        await self._look_first()
        self.loading.set()
        await self._load()
        self.loaded.set()
        await asyncio.sleep(self._workload.settle_seconds)
        self.course.ledger.read_back()
        await self._read_back()

    # Before

    async def _look_first(self) -> None:
        workload = self._workload
        if workload.model is Model.QUEUE:
            return  # who looks takes
        try:
            if workload.has_list:
                self._numbering.listed_before(await self._listed(workload.read_back_seconds))
            if workload.has_read:
                await self._each(range(1 if workload.model is Model.SET else workload.keys), self._look_at)
        except SilentError as error:
            raise NoFirstLookError(str(error)) from error

    async def _look_at(self, client: Client, key: int) -> None:
        for _ in range(FIRST_TRIES):
            answer = await self._perform(client, Function.READ, key, 0)
            if answer.outcome is Outcome.ACKNOWLEDGED:
                break
            await asyncio.sleep(RETRY_PAUSE)
        else:
            raise SilentError(f"read: {client.trouble or 'got no answer that says something'}")
        if self._workload.model is Model.SET and answer.value is not None:
            raise SilentError("read: a value that nobody has written is said to be there")
        self._numbering.had(key, answer.value)

    # The load

    async def _load(self) -> None:
        load, seconds = self._workload.load, self._workload.seconds
        began = now()
        self._until = began + seconds * 1_000_000_000
        if self.course.by_second is not None:
            self.course.by_second.begin(began)
        if load.closed is not None:
            pause = load.closed.pause_milliseconds / 1000
            await _all(self._closed(pause) for _ in range(workers(load)))
        else:
            moments = due(load, seconds)
            await _all(self._open(began, moments, anew=load.herd is not None) for _ in range(workers(load)))
            if not self._ended and not self.course.was_full:
                for moment in moments:
                    self._count_missed(began + int(moment * 1e9))
        self.course.seconds = (now() - began) / 1e9

    async def _closed(self, pause: float) -> None:
        client = self._system.client()
        try:
            while (begun := self._may_begin()) is not None:
                outcome = await self._operate(client, begun)
                if outcome is Outcome.FAILED:
                    await asyncio.sleep(max(pause, UNREACHABLE_PAUSE))
                elif pause:
                    await asyncio.sleep(pause)
        finally:
            await client.close()

    async def _open(self, began: int, moments: Iterator[float], *, anew: bool) -> None:
        client = self._system.client()
        try:
            for moment in moments:
                wanted = began + int(moment * 1e9)
                await self._sleep_until(wanted)
                begun = self._may_begin()
                if begun is None:
                    self._count_missed(wanted)
                    return
                self.course.late.add(begun - wanted)
                await self._operate(client, wanted)
                if anew:
                    await client.close()
        finally:
            await client.close()

    async def _sleep_until(self, wanted: int) -> None:
        """Or until it is ended, which is looked for now and then."""
        while not self._ended:
            if (early := wanted - now()) <= 0:
                return
            await asyncio.sleep(min(early / 1e9, LONGEST_SLEEP))

    def _may_begin(self) -> int | None:
        """The time, as long as another operation may begin."""
        moment = now()
        if len(self.course.ledger) >= self._workload.most_operations:
            self.course.was_full = True
            return None
        return None if self._ended or moment >= self._until else moment

    def _count_missed(self, wanted: int) -> None:
        """It has waited at least until now: leaving it out would flatter the system."""
        if not self._ended and not self.course.was_full:
            self.course.never_begun += 1
            self.course.writes.add(max(0, now() - wanted))

    async def _operate(self, client: Client, since: int) -> Outcome:
        """The next operation; its latency counts from `since`."""
        ledger = self.course.ledger
        function, key = self._choosing.next(len(ledger))
        number = ledger.begin(function, key, now())
        asked_for = key if self._workload.model is Model.SET and function is Function.READ else number
        answer = await self._perform(client, function, key, asked_for)
        ended = self._ends(number, function, key, answer)
        if answer.outcome is not Outcome.ACKNOWLEDGED:
            self.course.trouble = client.trouble
        (self.course.writes if function is Function.WRITE else self.course.reads).add(ended - since)
        if self.course.by_second is not None:
            self.course.by_second.add(answer.outcome, ended - since)
        return answer.outcome

    async def _perform(self, client: Client, function: Function, key: int, asked_for: int) -> Answer:
        name = self._numbering.keys[key if self._workload.model in (Model.REGISTER, Model.COUNTER) else 0]
        return await client.perform(function, name, self._numbering.value_of(asked_for))

    async def _listed(self, seconds: float) -> array[int]:
        return await self._system.listed(self._numbering.keys[0], seconds)

    def _ends(self, number: int, function: Function, key: int, answer: Answer) -> int:
        """When."""
        ledger, value = self.course.ledger, NOTHING
        if function is not Function.WRITE and answer.outcome is Outcome.ACKNOWLEDGED:
            value = self._numbering.got(key, answer.value, len(ledger))
        moment = now()
        ledger.end(number, answer.outcome, value, moment)
        return moment

    # The read-back

    async def _read_back(self) -> None:
        ledger, workload = self.course.ledger, self._workload
        self._give_up = now() + workload.read_back_seconds * 1_000_000_000
        if workload.model is Model.QUEUE:
            await _all(self._drain() for _ in range(min(READERS, workers(workload.load))))
        elif workload.model is not Model.SET:
            await self._each(sorted({*ledger.keys}), self._read_again)
        elif not workload.has_list:
            await self._each(self._added(), self._read_again)
        else:
            await self._list_again()

    def _added(self) -> Iterator[int]:
        ledger = self.course.ledger
        for number in range(ledger.last_of_load):
            if ledger.functions[number] == Function.WRITE and ledger.outcomes[number] != Outcome.FAILED:
                yield number

    async def _read_again(self, client: Client, key: int) -> None:
        """Until it is answered, or there is no more time."""
        while now() < self._give_up:
            number = self.course.ledger.begin(Function.READ, key, now())
            answer = await self._perform(client, Function.READ, key, key)
            self._ends(number, Function.READ, key, answer)
            if answer.outcome is Outcome.ACKNOWLEDGED:
                return
            await asyncio.sleep(RETRY_PAUSE)

    async def _list_again(self) -> None:
        ledger = self.course.ledger
        while (left := self._give_up - now()) > 0:
            try:
                ledger.listed = self._numbering.listed(await self._listed(left / 1e9), len(ledger))
            except SilentError as error:
                self.course.read_back_error = str(error)
                await asyncio.sleep(RETRY_PAUSE)
            else:
                self.course.read_back_error = ""
                return

    async def _drain(self) -> None:
        """Until the queue is empty, and stays so."""
        client, ledger, empty = self._system.client(), self.course.ledger, 0
        try:
            while empty < EMPTY_TIMES and now() < self._give_up:
                number = ledger.begin(Function.TAKE, 0, now())
                answer = await self._perform(client, Function.TAKE, 0, number)
                self._ends(number, Function.TAKE, 0, answer)
                if answer.outcome is not Outcome.ACKNOWLEDGED or answer.value is None:
                    empty += answer.outcome is Outcome.ACKNOWLEDGED
                    await asyncio.sleep(RETRY_PAUSE)
                else:
                    empty = 0
        finally:
            await client.close()

    async def _each(self, keys: Iterable[int], look: Callable[[Client, int], Awaitable[None]]) -> None:
        """Each key once, by several at a time."""
        left = iter(keys)

        async def reader() -> None:
            client = self._system.client()
            try:
                for key in left:
                    await look(client, key)
            finally:
                await client.close()

        await _all(reader() for _ in range(READERS))


async def _all(each: Iterable[Awaitable[None]]) -> None:
    """All of them; the first error ends the others, and is raised."""
    tasks = [asyncio.ensure_future(one) for one in each]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
