"""Servers that break down when they are told to, in a process of their own, and write down when by the boot-time clock.

    python -m tests.outages

reads a list of scripts on its standard input, one JSON object a line and then an empty line, writes the ports on a
line, and plays the script of each number that it reads. What it did it tells in lines of JSON, with the stamps right
before and right after it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

ANSWERING: set[asyncio.Task[None]] = set()
"""A port that is closed still answers those who had come."""


class How(StrEnum):
    """What clients meet."""

    REFUSAL = "refusal"
    STATUS = "status"
    SILENCE = "silence"


class Did(StrEnum):
    """One thing that a server did."""

    IN_FORCE = "in force"
    DOWN = "down"
    ALARM = "alarm"
    CLEARED = "cleared"
    UP = "up"
    QUIET = "quiet"  # the alarm is over


@dataclass(frozen=True)
class Script:
    """What one server does; times in seconds since it was told to begin."""

    how: How
    slow: float  # that a good answer takes
    down: float
    up: float  # at the earliest: somebody must have met it as it was (the kernel does not say whom it refused)
    cleared: float  # what broke it is over; it may need a while to come back, or have come back before
    alarm: float | None  # the server's own alarm, which another port of it tells of
    quiet: float = 0.0

    def course(self) -> list[tuple[float, Did]]:
        steps = [(self.down, Did.IN_FORCE), (self.down, Did.DOWN), (self.up, Did.UP), (self.cleared, Did.CLEARED)]
        if self.alarm is not None:
            steps += [(self.alarm, Did.ALARM), (self.quiet, Did.QUIET)]
        return sorted(steps, key=lambda step: step[0])


@dataclass
class Server:
    """One port that serves, breaks down in its own way, and serves again; and one that tells of an alarm."""

    number: int
    script: Script
    tell: Callable[[dict[str, Any]], None]
    kept: socket.socket = field(init=False)  # keeps the port ours while nobody listens
    alarming: bool = False
    failing: bool = False
    met: asyncio.Event = field(default_factory=asyncio.Event)  # somebody was failed
    heard: asyncio.Event = field(default_factory=asyncio.Event)  # somebody was told of the alarm
    held: list[socket.socket] = field(default_factory=list)
    ports: tuple[int, int] = (0, 0)
    serving: asyncio.Task[None] | None = None

    async def begin(self, group: asyncio.TaskGroup) -> None:
        self.kept = _bound(0)
        alarm = _bound(0)
        self.ports = (self.kept.getsockname()[1], alarm.getsockname()[1])
        alarm.listen(128)
        group.create_task(_accepting(alarm, self._answer_of_alarm))
        self._serve()

    def _serve(self) -> None:
        listener = _bound(self.ports[0])
        listener.listen(1024)
        self.serving = asyncio.create_task(_accepting(listener, self._answer))

    async def play(self) -> None:
        began = time.monotonic()
        for due, did in self.script.course():
            await asyncio.sleep(began + due - time.monotonic())
            if did is Did.UP and self.script.how is not How.REFUSAL:
                await self.met.wait()
            if did is Did.QUIET:
                await self.heard.wait()
            before = stamp()
            await self._do(did)
            self.tell({"run": self.number, "did": did, "before": before, "after": stamp()})

    async def _do(self, did: Did) -> None:
        match did:
            case Did.DOWN if self.script.how is How.REFUSAL:
                assert self.serving is not None
                self.serving.cancel()  # from the end of this on the kernel refuses
                with suppress(asyncio.CancelledError):
                    await self.serving
            case Did.UP if self.script.how is How.REFUSAL:
                self._serve()
            case Did.DOWN | Did.UP:
                self.failing = did is Did.DOWN
            case Did.ALARM | Did.QUIET:
                self.alarming = did is Did.ALARM

    async def _answer(self, connection: socket.socket) -> None:
        """As the server's state is when the connection comes."""
        failing = self.failing
        if failing:
            self.met.set()
        if failing and self.script.how is How.SILENCE:
            self.held.append(connection)
            return
        await _say(connection, "500 Broken" if failing else "200 OK", 0 if failing else self.script.slow)

    async def _answer_of_alarm(self, connection: socket.socket) -> None:
        if self.alarming:
            self.heard.set()
        await _say(connection, "200 OK" if self.alarming else "404 All Is Well", 0)


def stamp() -> int:
    """Nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _bound(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.setblocking(False)
    return made


async def _accepting(listener: socket.socket, answer: Callable[[socket.socket], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.get_running_loop()
    with listener:
        while True:
            connection, _ = await loop.sock_accept(listener)
            task = asyncio.create_task(answer(connection))
            ANSWERING.add(task)
            task.add_done_callback(ANSWERING.discard)


async def _say(connection: socket.socket, status: str, slow: float) -> None:
    loop = asyncio.get_running_loop()
    with connection:
        try:
            await loop.sock_recv(connection, 4096)
            await asyncio.sleep(slow)
            await loop.sock_sendall(connection, f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok".encode())
        except OSError:
            pass  # whoever asked has given up


async def main() -> None:
    loop = asyncio.get_running_loop()

    def tell(what: Any) -> None:
        print(json.dumps(what), flush=True)

    scripts = [script_from(json.loads(line)) for line in iter(sys.stdin.readline, "\n")]
    servers = [Server(number, script, tell) for number, script in enumerate(scripts)]
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with asyncio.TaskGroup() as group:
        for server in servers:
            await server.begin(group)
        tell([server.ports for server in servers])
        while line := await reader.readline():
            group.create_task(servers[int(line)].play())
        sys.exit()


def script_to(script: Script) -> str:
    return json.dumps(asdict(script))


def script_from(data: dict[str, Any]) -> Script:
    return Script(**{**data, "how": How(data["how"])})


if __name__ == "__main__":
    asyncio.run(main())
