"""The relay: listeners, the connections that they took, and the rules for them, changed while it runs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

from bounceback.proxy.connection import Connection
from bounceback.proxy.counters import Counter, Traffic
from bounceback.proxy.listening import Door, bound
from bounceback.proxy.rulebook import Rulebook
from bounceback.proxy.side import Budget, reset_socket
from bounceback.proxy.udp import Datagrams
from bounceback.proxy.upstream import Upstream, dial
from bounceback.types.relay import Connections, Refuse, Rule


@dataclass(frozen=True, slots=True)
class Accepted:
    """A connection before anything was read from it, for a handler."""

    listener: str
    number: int
    sock: socket.socket  # does not block
    dial: Callable[[], Awaitable[socket.socket]]  # the upstream; raises OSError


Handler = Callable[[Accepted], Awaitable[bool]]
"""Looks at a connection first (`sock.recv(n, MSG_PEEK)` leaves all where it is). True: it is the handler's now, and the
socket its own to close. False: it goes through the relay, as if nobody had looked."""


@dataclass(slots=True)
class _Listener:
    door: Door | Datagrams
    upstream: Upstream
    handler: Handler | None
    traffic: Traffic


class Relay:
    """Lives in one event loop. `follow` changes the rules, `drain` ends it."""

    def __init__(self, budget: Budget | None = None) -> None:
        self._budget = budget or Budget()
        self._book = Rulebook()
        self._listeners: dict[str, _Listener] = {}
        self._connections: dict[Connection, asyncio.Task[None] | None] = {}  # a task while it is being opened
        self._looked_at: set[Connection] = set()  # by a handler, which has them to itself
        self._next = 1
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()

    # Listeners

    async def listen(
        self, name: str, host: str, port: int, upstream: Upstream, handler: Handler | None = None
    ) -> tuple[str, int]:
        """Take TCP connections; the address, with the port that was found where 0 was asked for. Raises OSError."""
        traffic = Traffic()
        door = Door(bound(host, port), lambda accepted: self._enter(name, accepted))
        self._listeners[name] = _Listener(door, upstream, handler, traffic)
        self._doors()
        return door.address

    async def listen_udp(self, name: str, host: str, port: int, upstream: Upstream) -> tuple[str, int]:
        """Take UDP datagrams, each client address a connection of its own until it is idle. Raises OSError."""
        traffic = Traffic()
        datagrams = Datagrams(
            name, bound(host, port, socket.SOCK_DGRAM), upstream, self._book, traffic, self._take_number
        )
        self._listeners[name] = _Listener(datagrams, upstream, None, traffic)
        return datagrams.address

    def handle(self, name: str, handler: Handler | None) -> None:
        """From now on this one looks first at the connections of that listener, or nobody."""
        self._listeners[name].handler = handler

    # Rules

    @property
    def rules(self) -> tuple[Rule, ...]:
        return self._book.rules

    def follow(self, rules: Iterable[Rule]) -> None:
        """Exactly these rules from now on, for the connections that are open too. Raises ValueError."""
        if not self._book.change(rules, monotonic(), self._next):
            return
        self._doors()
        for connection in [each for each in self._connections if each not in self._looked_at]:
            connection.follow(self._book.chosen(connection.listener, connection.number, connection.numbers, live=True))
        for listener in self._listeners.values():
            if isinstance(listener.door, Datagrams):
                listener.door.follow()

    def counters(self) -> Mapping[str, Counter]:
        """By rule, those that are gone included."""
        return self._book.counters()

    def traffic(self) -> Mapping[str, Traffic]:
        """By listener, open connections included."""
        found = {name: replace(listener.traffic) for name, listener in self._listeners.items()}
        for connection in self._connections:
            egress, ingress = connection.moved()
            found[connection.listener].open += 1
            found[connection.listener].bytes_egress += egress
            found[connection.listener].bytes_ingress += ingress
        return found

    @property
    def open(self) -> int:
        """Connections of TCP."""
        return len(self._connections)

    # The end

    async def drain(self, seconds: float) -> int:
        """Take nobody any more, and wait for those who are there to go; reset who is left then, and say how many."""
        self._draining = True
        for listener in self._listeners.values():
            listener.door.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        left = tuple(self._connections)
        for connection in left:
            self._listeners[connection.listener].traffic.reset += 1
            if (task := self._connections.get(connection)) is not None:
                task.cancel()
            connection.reset()
        if left:
            await self._empty.wait()
        return len(left)

    # Within

    def _take_number(self) -> int:
        number, self._next = self._next, self._next + 1
        return number

    def _doors(self) -> None:
        """Who must not let anybody in does not, and the others do."""
        for name, listener in self._listeners.items():
            if isinstance(listener.door, Door) and not self._draining:
                if any(_shuts(rule) and rule.listener in ("", name) for rule in self._book.rules):
                    listener.door.refuse()
                else:
                    listener.door.open()

    def _enter(self, name: str, accepted: socket.socket) -> None:
        listener = self._listeners[name]
        listener.traffic.accepted += 1
        connection = Connection(name, self._take_number(), accepted, listener.traffic, self._budget, self._left)
        handler = listener.handler
        if handler is None and self._book and self._turned_away(connection, listener):
            return
        self._empty.clear()
        if handler is not None:
            self._looked_at.add(connection)
        task = asyncio.get_running_loop().create_task(self._open(connection, accepted, listener, handler))
        self._connections[connection] = task

    def _turned_away(self, connection: Connection, listener: _Listener) -> bool:
        """Whether the rules end it before it begins."""
        chosen = self._book.chosen(connection.listener, connection.number, connection.numbers, live=False)
        for applied in chosen:
            if isinstance(applied.rule.act, Refuse):
                applied.count(0)
                applied.counter.connections += 1
                listener.traffic.refused += 1
                connection.reset()
                return True
        connection.follow(chosen)
        return connection.over

    async def _open(
        self, connection: Connection, accepted: socket.socket, listener: _Listener, handler: Handler | None
    ) -> None:
        """Lead it to its upstream, unless a handler takes it; the rules are for what it leaves."""
        try:
            if handler is not None:
                if await self._handled(connection, accepted, listener, handler):
                    return
                if self._book and self._turned_away(connection, listener):
                    self._left(connection)
                    return
            await connection.let_through()
            if connection.over:
                self._left(connection)
                return
            upstream = await dial(listener.upstream, accepted)
        except OSError:
            listener.traffic.unreachable += 1
            self._give_up(connection)
            return
        except BaseException:  # cancelled, or the handler's mistake: nobody may be left waiting
            self._give_up(connection)
            raise
        if connection.over:
            reset_socket(upstream)
            self._left(connection)
            return
        self._connections[connection] = None
        await connection.join(upstream)

    def _give_up(self, connection: Connection) -> None:
        if not connection.over:
            connection.reset()
        self._left(connection)

    async def _handled(
        self, connection: Connection, accepted: socket.socket, listener: _Listener, handler: Handler
    ) -> bool:
        asked = Accepted(connection.listener, connection.number, accepted, lambda: dial(listener.upstream, accepted))
        if not await handler(asked):
            self._looked_at.discard(connection)
            return False
        self._left(connection)
        return True

    def _left(self, connection: Connection) -> None:
        self._looked_at.discard(connection)
        self._connections.pop(connection, None)
        if not self._connections:
            self._empty.set()


def _shuts(rule: Rule) -> bool:
    """Whether nobody at all is let in."""
    return isinstance(rule.act, Refuse) and rule.choice.everything and rule.connections is not Connections.EXISTING
