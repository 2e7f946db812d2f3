"""A port that datagrams come to. Each client address is a connection of its own, until nothing was said for a while."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

from bounceback.proxy.counters import Traffic
from bounceback.proxy.datagrams import Course
from bounceback.proxy.lane import EARLY, Applied
from bounceback.proxy.rulebook import Rulebook
from bounceback.proxy.upstream import Upstream, open_socket
from bounceback.types.plan import Direction

IDLE_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 5.0
MOST_CLIENTS: Final = 4096
MOST_WAITING: Final = 65_536
MOST_WAITING_BYTES: Final = 256 << 20
AT_A_TIME: Final = 256
LARGEST: Final = 65_535

Client = tuple[str, int]


@dataclass(slots=True)
class Waiting:
    """Datagrams that are held, of one listener or of several that share this; more are lost."""

    most: int = MOST_WAITING
    most_bytes: int = MOST_WAITING_BYTES
    number: int = 0
    bytes: int = 0

    def take(self, size: int) -> bool:
        """Whether there is room, and then it is taken."""
        if self.number >= self.most or self.bytes + size > self.most_bytes:
            return False
        self.number += 1
        self.bytes += size
        return True

    def give_back(self, size: int) -> None:
        self.number -= 1
        self.bytes -= size


@dataclass(slots=True)
class _Held:
    due: float
    send: Callable[[bytes], None]
    data: bytes


class Datagrams:
    """Receives at one socket, and has one more for each client."""

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        upstream: Upstream,
        book: Rulebook,
        traffic: Traffic,
        number: Callable[[], int],
        waiting: Waiting | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self.name = name
        self.book = book
        self.traffic = traffic
        self.upstream = upstream
        self.waiting = waiting or Waiting()
        self.heard = monotonic()
        """When a client or an upstream said something last."""
        self._idle = idle_seconds
        self._sock = sock
        self._number = number
        self._clients: dict[Client, _Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock, self._readable)
        self._look = self._loop.call_later(LOOK_SECONDS, self._forget_idle)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._sock.getsockname()[:2]
        return str(host), int(port)

    def follow(self) -> None:
        """The rules have changed; what waits keeps its time."""
        for client in self._clients.values():
            client.follow(live=True)

    def let_go(self) -> None:
        """What is held goes now, in the order in which it was due."""
        for client in self._clients.values():
            client.let_go()

    def close(self) -> None:
        """What is held is lost."""
        self._look.cancel()
        self._loop.remove_reader(self._sock)
        for client in tuple(self._clients.values()):
            self.forget(client)
        self._sock.close()

    def answer(self, client: Client, data: bytes) -> None:
        with suppress(OSError):  # a full buffer loses datagrams, as it does everywhere
            self._sock.sendto(data, client)

    def _readable(self) -> None:
        for _ in range(AT_A_TIME):
            try:
                data, address = self._sock.recvfrom(LARGEST)
            except OSError:  # nothing more; or an ICMP error about an answer, which is nobody's here
                return
            if (client := self._clients.get(address)) is None:
                client = self._new(address)
            client.from_client(data)

    def _new(self, address: Client) -> _Client:
        if len(self._clients) >= MOST_CLIENTS:
            self.forget(min(self._clients.values(), key=lambda client: client.used))
        self.traffic.accepted += 1
        self.traffic.open += 1
        self._clients[address] = client = _Client(self, address, self._number())
        task = self._loop.create_task(client.connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return client

    def forget(self, client: _Client) -> None:
        self.traffic.open -= 1
        del self._clients[client.address]
        client.close()

    def _forget_idle(self) -> None:
        long_ago = monotonic() - self._idle
        for client in [client for client in self._clients.values() if client.used < long_ago]:
            self.forget(client)
        self._look = self._loop.call_later(LOOK_SECONDS, self._forget_idle)


class _Client:
    """What one client says, and what it is told."""

    __slots__ = (
        "_courses",
        "_early",
        "_held",
        "_home",
        "_sock",
        "address",
        "closed",
        "number",
        "numbers",
        "rules",
        "used",
    )

    def __init__(self, home: Datagrams, address: Client, number: int) -> None:
        self._home = home
        self.address = address
        self.number = number
        self.numbers: dict[str, tuple[int, bool]] = {}
        self.rules: tuple[Applied, ...] = ()
        self.used = monotonic()
        self.closed = False
        self._sock: socket.socket | None = None
        self._early: list[bytes] = []
        self._courses: dict[Direction, Course] = {}
        self._held: dict[asyncio.TimerHandle, _Held] = {}
        self.follow(live=False)

    def follow(self, *, live: bool) -> None:
        known = {applied.rule.name for applied in self.rules}
        self.rules = self._home.book.chosen(self._home.name, self.number, self.numbers, live=live)
        for applied in self.rules:
            applied.counter.connections += applied.rule.name not in known
        self._courses = {}
        for way in (Direction.EGRESS, Direction.INGRESS):
            if found := tuple(applied for applied in self.rules if applied.rule.goes(way)):
                self._courses[way] = Course(found, way, self.number)

    async def connect(self) -> None:
        sock = None
        try:
            address = (await self._home.upstream.addresses(None))[0]
            sock = open_socket(address, socket.SOCK_DGRAM, self._home.upstream.mark)
            sock.connect(address)
        except OSError:
            self._home.traffic.unreachable += 1
            if sock is not None:
                sock.close()
            if not self.closed:
                self._home.forget(self)  # its next datagram tries again
            return
        if self.closed:
            sock.close()
            return
        self._sock = sock
        asyncio.get_running_loop().add_reader(sock, self._readable)
        early, self._early = self._early, []
        for data in early:
            self._home.waiting.give_back(len(data))
            self._send(data)

    def from_client(self, data: bytes) -> None:
        self.used = self._home.heard = monotonic()
        self._home.traffic.bytes_egress += len(data)
        self._pass(Direction.EGRESS, data, self._send)

    def let_go(self) -> None:
        held, self._held = self._held, {}
        for handle, one in sorted(held.items(), key=lambda item: item[1].due):
            handle.cancel()
            self._home.waiting.give_back(len(one.data))
            one.send(one.data)

    def close(self) -> None:
        self.closed = True
        for handle, one in self._held.items():
            handle.cancel()
            self._home.waiting.give_back(len(one.data))
        self._held.clear()
        for data in self._early:
            self._home.waiting.give_back(len(data))
        self._early.clear()
        if self._sock is not None:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()
            self._sock = None

    def _readable(self) -> None:
        assert self._sock is not None
        for _ in range(AT_A_TIME):
            try:
                data = self._sock.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError:  # ICMP: nobody listens there
                self._home.traffic.unreachable += 1
                return
            self.used = self._home.heard = monotonic()
            self._home.traffic.bytes_ingress += len(data)
            self._pass(Direction.INGRESS, data, self._answer)

    def _answer(self, data: bytes) -> None:
        if not self.closed:
            self._home.answer(self.address, data)

    def _send(self, data: bytes) -> None:
        if self._sock is not None:
            try:
                self._sock.send(data)
            except BlockingIOError:  # a full buffer loses datagrams, as it does everywhere
                pass
            except OSError:  # ICMP, of an earlier one
                self._home.traffic.unreachable += 1
        elif not self.closed and self._home.waiting.take(len(data)):  # until its upstream is known
            self._early.append(data)

    def _pass(self, way: Direction, data: bytes, send: Callable[[bytes], None]) -> None:
        if (course := self._courses.get(way)) is None:
            send(data)
            return
        now = monotonic()
        for due, piece in course.of(data, now):
            if due <= now + EARLY:
                send(piece)
            elif self._home.waiting.take(len(piece)):
                self._hold(due - now, _Held(due, send, piece))

    def _hold(self, seconds: float, one: _Held) -> None:
        def in_time() -> None:
            del self._held[handle]
            self._home.waiting.give_back(len(one.data))
            one.send(one.data)

        handle = asyncio.get_running_loop().call_later(seconds, in_time)
        self._held[handle] = one
