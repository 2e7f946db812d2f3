"""The timeline against the truth: a real server is made to fail for known times, and looked at over real sockets.

The server has a thread and an event loop of its own, and writes down by the same boot-time clock when it began to
fail and when it served again. Thirty outages of 100 ms to 20 s, by refusal, error status and silence, with fast and
with slow answers before and after, run side by side.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.engine.samples import History, Sample
from bounceback.engine.timeline import first_symptom, has_gap, recovered
from bounceback.recovery.watching import Watching
from bounceback.types.instants import Instant, Interval

ALLOWANCE = 0.05
STEADY = 3.0
"""Seconds of health before each outage, more than the slowest answer takes."""

REFUSAL, STATUS, SILENCE = "refusal", "status", "silence"
RESET = struct.pack("ii", 1, 0)  # linger: on, for no time


@dataclass
class Server:
    """One port that serves, fails for a while in its own way, and serves again."""

    how: str
    slow: float  # seconds that an answer takes
    outage: float
    port: int = 0
    down: Interval | None = None  # the stamps right before and right after it happened
    up: Interval | None = None
    failing: bool = False
    held: list[socket.socket] = field(default_factory=list)

    async def live(self, ready: threading.Event) -> None:
        listener = await self._listen(0)
        self.port = listener.getsockname()[1]
        ready.set()
        serving = asyncio.create_task(self._serve(listener))
        await asyncio.sleep(STEADY)
        before = Instant.now()
        self.failing = True
        if self.how == REFUSAL:
            serving.cancel()
            listener.close()  # from here on the kernel refuses
        self.down = Interval(before, Instant.now())
        await asyncio.sleep(self.outage)
        before = Instant.now()
        self.failing = False
        if self.how == REFUSAL:
            listener = await self._listen(self.port)
            serving = asyncio.create_task(self._serve(listener))
        self.up = Interval(before, Instant.now())
        await serving

    async def _listen(self, port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
        listener.setblocking(False)
        return listener

    async def _serve(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                connection, _ = await loop.sock_accept(listener)
                group.create_task(self._answer(connection, self.failing))

    async def _answer(self, connection: socket.socket, failing: bool) -> None:
        """As the server's state was when the connection came."""
        loop = asyncio.get_running_loop()
        if failing and self.how == SILENCE:
            self.held.append(connection)
            return
        with connection:
            try:
                await loop.sock_recv(connection, 4096)
                if not failing:
                    await asyncio.sleep(self.slow)
                status = "500 Broken" if failing else "200 OK"
                await loop.sock_sendall(connection, f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode())
            except ConnectionError:
                pass  # whoever asked has given up


@dataclass(frozen=True)
class Scenario:
    name: str
    how: str
    slow: float
    outage: float
    period: int
    timeout: int
    tcp: bool = False


OUTAGES = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


def scenarios() -> list[Scenario]:
    """Each way of failing with fast and slow answers, over the lengths of outages: 30 in all, and TCP besides."""
    found = []
    for number in range(30):
        how = (REFUSAL, STATUS, SILENCE)[number % 3]
        slow = (0.0, 0.3, 0.0, 0.8)[number // 3 % 4]
        outage = OUTAGES[number * 3 % 8] if number % 5 else OUTAGES[0]
        period = (50, 100, 200)[number // 2 % 3]
        found.append(Scenario(f"run-{number:02}", how, slow, max(outage, period * 2 / 1000), period, 2500))
    found += [Scenario(f"tcp-{n}", REFUSAL, 0, outage, 50, 1000, tcp=True) for n, outage in enumerate((0.1, 1.0))]
    return found


@dataclass
class Seen:
    scenario: Scenario
    server: Server
    history: History
    samples: list[Sample]


class Recorded(History):
    """Keeps each sample as well, to hold the intervals against the answers around them."""

    def __init__(self, history: History) -> None:
        super().__init__(history.period, history.timeout)
        self.all: list[Sample] = []

    def add(self, sample: Sample) -> bool:
        self.all.append(sample)
        return super().add(sample)


@asynccontextmanager
async def served(found: list[Server]) -> AsyncIterator[None]:
    """In a thread of their own: their clock stamps owe nothing to the loop that samples."""
    ready = [threading.Event() for _ in found]
    stop = threading.Event()

    def run() -> None:
        async def live() -> None:
            tasks = [asyncio.create_task(server.live(event)) for server, event in zip(found, ready, strict=True)]
            await asyncio.to_thread(stop.wait)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

        asyncio.run(live())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        for event in ready:
            await asyncio.to_thread(event.wait, 10)
        yield
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)


async def look_at(all_scenarios: list[Scenario], monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    monkeypatch.setattr("bounceback.recovery.asking.History", lambda *a, **k: Recorded(History(*a, **k)))
    servers = [Server(s.how, s.slow, s.outage) for s in all_scenarios]
    async with served(servers):
        checks = [(s.name, check(s, server.port)) for s, server in zip(all_scenarios, servers, strict=True)]
        async with Watching(None, "default", checks, None, lambda: None) as watching:  # type: ignore[arg-type]
            await asyncio.sleep(STEADY + max(s.outage for s in all_scenarios) + 6)
            seen = []
            for scenario, server in zip(all_scenarios, servers, strict=True):
                history = watching.histories(scenario.name)["it"]
                assert isinstance(history, Recorded)
                seen.append(Seen(scenario, server, history, sorted(history.all, key=lambda s: s.start.nanos)))
            return seen


def check(scenario: Scenario, port: int) -> RecoveryCheckSpec:
    look = (
        {"tcp": {"host": "127.0.0.1", "port": port}} if scenario.tcp else {"http": {"url": f"http://127.0.0.1:{port}/"}}
    )
    probe = {"name": "it", "periodMilliseconds": scenario.period, "timeoutMilliseconds": scenario.timeout, **look}
    return RecoveryCheckSpec.model_validate({"probes": [probe]})


Read = Callable[[Seen], Interval | None]


def read_symptom(seen: Seen) -> Interval | None:
    return first_symptom(seen.history, seen.samples[0].start)


def read_recovery(seen: Seen) -> Interval | None:
    return recovered(seen.history, seen.samples[0].start, 2, Instant.now())


def missed(seen: Seen) -> bool:
    """Whether the machine was so busy that no sample began while the server failed."""
    assert seen.server.down is not None and seen.server.up is not None
    down, up = seen.server.down, seen.server.up
    return not any(s.start.since(down.latest) >= 0 and s.start.since(up.earliest) < 0 for s in seen.samples)


def wrong(seen: Seen, symptom: Read, recovery: Read) -> list[str]:
    """What is not as promised: a true mark outside its interval, or an interval that is too wide."""
    found = []
    for name, truth, read, to_healthy in (
        ("symptom", seen.server.down, symptom, False),
        ("recovery", seen.server.up, recovery, True),
    ):
        assert truth is not None
        interval = read(seen)
        if interval is None:
            found.append(f"{seen.scenario.name}: no {name}")
            continue
        least, most = interval.earliest.since(truth.latest), interval.latest.since(truth.earliest)
        if not least <= 0 <= most:
            found.append(f"{seen.scenario}: {name} lies {least:+.4f} to {most:+.4f} s from the truth")
        changes = [(a, b) for a, b in pairwise(seen.samples) if a.healthy != b.healthy and b.healthy is to_healthy]
        before, after = changes[-1 if to_healthy else 0]
        period = max(seen.scenario.period / 1000, after.start.since(before.start))  # a starved machine begins late
        promised = period + max(before.latency, after.latency) + ALLOWANCE
        # Where nobody looked for a while the interval is as wide as that: a starved machine has such moments.
        if interval.width > promised and not has_gap(seen.history, interval):
            found.append(f"{seen.scenario}: {name} is {interval.width:.3f} s wide, promised {promised:.3f} s")
    return found


def by_ends_only(seen: Seen, to_healthy: bool) -> Interval | None:
    """A broken timeline: it takes each answer for the state at its end."""
    ends = sorted(seen.samples, key=lambda s: s.end.nanos)
    for before, after in pairwise(ends):
        if before.healthy != after.healthy and after.healthy is to_healthy:
            return Interval(before.end, after.end)
    return None


async def test_every_true_mark_lies_in_its_interval_and_the_interval_is_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = await look_at(scenarios(), monkeypatch)
    runs = [seen for seen in everything if not missed(seen)]
    assert len(runs) > 0.8 * len(everything), "this machine is too busy to take samples"
    found = [problem for seen in runs for problem in wrong(seen, read_symptom, read_recovery)]
    gaps = [s.scenario.name for s in runs if has_gap(s.history, Interval(s.samples[0].start, s.samples[-1].start))]
    widths = [i.width for s in runs for i in (read_symptom(s), read_recovery(s)) if i]
    middle = sorted(widths)[len(widths) // 2]
    assert len(gaps) < len(everything) / 3, "this machine is too busy to take samples"
    print(f"{len(widths)} marks; widest interval {max(widths):.3f} s, middle one {middle:.3f} s; {len(gaps)} with gaps")
    assert not found, "\n".join(found)
    broken = [wrong(s, lambda s: by_ends_only(s, False), lambda s: by_ends_only(s, True)) for s in runs]
    assert any(broken), "a timeline that takes only the ends of samples must not pass"
