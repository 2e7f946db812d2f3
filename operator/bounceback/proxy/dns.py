"""A resolver in the way of the true one: answers what a rule is about, and passes on all else byte for byte.

UDP and TCP on one port. It remembers nothing: no answer is kept, none is made up from an earlier one, and EDNS, DNSSEC
and truncation are between the client and the true server. What a rule is about is in types/names.py.

What it cannot do: an ICMP refusal of the true server reaches a client of UDP as silence.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, cast

from bounceback.proxy.dns_answers import Decision, DnsCount, DnsShelf, Judge
from bounceback.proxy.upstream import Address, Upstream, dial, open_socket
from bounceback.types.names import DnsRule

LARGEST_DATAGRAM: Final = 65_535
LENGTH: Final = struct.Struct("!H")  # before each message by TCP (RFC 1035 section 4.2.2)
MOST_FLOWS: Final = 4096
ANSWERED_SECONDS: Final = 1.0  # a flow with no query open is kept for so long: glibc asks A and AAAA from one port
UNANSWERED_SECONDS: Final = 15.0
MOST_EARLY: Final = 64  # queries of one flow that wait until its true server is known
MOST_HELD: Final = 128  # messages of one TCP connection that are waiting out a delay
PORT_TRIES: Final = 20


@dataclass(slots=True)
class DnsTraffic:
    """Of all queries, rules or none."""

    queries: int = 0
    forwarded: int = 0
    answered: int = 0  # by a rule
    swallowed: int = 0  # by a rule
    lost: int = 0  # the true server refused, was not known, or no socket was to be had


class Resolver:
    """Rules may be changed at any time and are held against each query as it comes; `upstream` is the true server."""

    def __init__(self, upstream: Upstream, shelf: DnsShelf | None = None) -> None:
        self.upstream = upstream
        self.judge = Judge(shelf=shelf)
        self.traffic = DnsTraffic()
        self._datagrams: list[_Datagrams] = []
        self._servers: list[asyncio.Server] = []
        self._streams: set[asyncio.Task[None]] = set()
        self._open = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def put(self, rules: Mapping[str, DnsRule]) -> None:
        """These from now on, by name; under the same name a rule goes on counting."""
        self.judge.put(rules)

    def counts(self) -> dict[str, DnsCount]:
        return self.judge.counts()

    async def listen(self, host: str, port: int = 0) -> int:
        """On UDP and TCP; the port is that of both. Raises OSError."""
        for tries_left in reversed(range(1 if port else PORT_TRIES)):
            try:
                return await self._listen(host, port)
            except OSError:  # somebody may have UDP's port of that number
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    async def _listen(self, host: str, port: int) -> int:
        server = await asyncio.start_server(self._accept, host, port)
        datagrams = _Datagrams(self)
        taken: int = server.sockets[0].getsockname()[1]
        try:
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(lambda: datagrams, local_addr=(host, taken))
        except OSError:
            server.close()
            raise
        self._servers.append(server)
        self._datagrams.append(datagrams)
        return taken

    @property
    def open(self) -> int:
        """Queries by UDP without their answer, those that wait out a delay among them, and connections of TCP."""
        return self._open

    def count_open(self, change: int) -> None:
        self._open += change
        if self._open:
            self._quiet.clear()
        else:
            self._quiet.set()

    async def drain(self, seconds: float) -> int:
        """Take no connection any more, give what is open so long to end, then close; how much was cut off."""
        for server in self._servers:
            server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), seconds)
        left = self._open
        await self.close()
        return left

    async def close(self) -> None:
        """Nobody is answered any more; what was waiting out a delay is not sent."""
        for server in self._servers:
            server.close()
        for datagrams in self._datagrams:
            datagrams.close()
        for stream in tuple(self._streams):
            stream.cancel()
        await asyncio.gather(*self._streams, return_exceptions=True)

    def decide(self, query: bytes, *, stream: bool) -> Decision:
        self.traffic.queries += 1
        decision = self.judge.decide(query, stream=stream)
        if decision.answer is not None:
            self.traffic.answered += 1
        elif not decision.forward:
            self.traffic.swallowed += 1
        return decision

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        self.count_open(+1)
        try:
            await _Stream(self, reader, writer).serve()
        except asyncio.CancelledError:
            pass  # only `close` does that, and nobody waits for more than the end
        finally:
            self._streams.discard(task)
            self.count_open(-1)


class _Flow:
    """What one client's port sends and gets: a socket of its own, so that the queries' IDs are unique as they are."""

    def __init__(self, owner: _Datagrams, client: Address) -> None:
        self._owner = owner
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._used = self._loop.time()
        self._unanswered = 0
        self._early: list[bytes] = []
        self._socket: socket.socket | None = None
        self._opening = self._loop.create_task(self._open())

    def send(self, query: bytes) -> None:
        self._used = self._loop.time()
        self._count(+1)
        if self._socket is not None:
            self._pass(self._socket, query)
        elif len(self._early) < MOST_EARLY:
            self._early.append(query)
        else:
            self._lose(1)

    def idle(self, now: float) -> bool:
        return now - self._used > (UNANSWERED_SECONDS if self._unanswered > 0 else ANSWERED_SECONDS)

    def close(self) -> None:
        self._opening.cancel()
        self._count(-self._unanswered)
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    async def _open(self) -> None:
        upstream = self._owner.resolver.upstream
        try:
            address, *_ = await upstream.addresses(None)
            found = open_socket(address, socket.SOCK_DGRAM, upstream.mark)
            with ExitStack() as undo:
                undo.callback(found.close)
                found.connect(address)
                undo.pop_all()
        except OSError:
            self._lose(len(self._early))
            self._owner.forget(self._client)
            return
        self._socket = found
        self._loop.add_reader(found, self._readable)
        for query in self._early:
            self._pass(found, query)
        self._early.clear()

    def _pass(self, server: socket.socket, query: bytes) -> None:
        try:
            server.send(query)
        except OSError:
            self._lose(1)
        else:
            self._owner.resolver.traffic.forwarded += 1

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            answer = self._socket.recv(LARGEST_DATAGRAM)
        except BlockingIOError:
            return
        except OSError:  # what ICMP said of an earlier query
            self._lose(1)
            return
        self._count(-1)
        self._used = self._loop.time()
        self._owner.send(answer, self._client)

    def _lose(self, queries: int) -> None:
        self._count(-queries)
        self._owner.resolver.traffic.lost += queries

    def _count(self, change: int) -> None:
        """Not below nothing: a server may answer twice."""
        change = max(change, -self._unanswered)
        self._unanswered += change
        self._owner.resolver.count_open(change)


class _Datagrams(asyncio.DatagramProtocol):
    """The side of UDP that clients see."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._loop = asyncio.get_running_loop()
        self._flows: dict[Address, _Flow] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._sweep: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # uvloop's is no subclass of it

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        decision = self.resolver.decide(data, stream=False)
        client: Address = addr  # type: ignore[assignment]  # with two more parts for IPv6, which sendto wants back
        if decision.answer is not None:
            self._after(decision.delay, self.send, decision.answer, client)
        elif decision.forward:
            self._after(decision.delay, self._forward, data, client)

    def error_received(self, exc: Exception) -> None:
        """A client is gone: not our trouble."""

    def send(self, message: bytes, client: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(message, client)

    def forget(self, client: Address) -> None:
        self._flows.pop(client).close()

    def close(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
        for flow in self._flows.values():
            flow.close()
        self._flows.clear()
        if self._transport is not None:
            self._transport.close()

    def _after(self, delay: float, what: Callable[[bytes, Address], None], message: bytes, client: Address) -> None:
        if delay:
            self.resolver.count_open(+1)
            self._loop.call_later(delay, self._now, what, message, client)
        else:
            what(message, client)

    def _now(self, what: Callable[[bytes, Address], None], message: bytes, client: Address) -> None:
        what(message, client)
        self.resolver.count_open(-1)

    def _forward(self, query: bytes, client: Address) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._flow(client).send(query)

    def _flow(self, client: Address) -> _Flow:
        if (flow := self._flows.get(client)) is not None:
            return flow
        if len(self._flows) >= MOST_FLOWS:
            self.forget(next(iter(self._flows)))  # the oldest
        flow = self._flows[client] = _Flow(self, client)
        if self._sweep is None:
            self._sweep = self._loop.call_later(ANSWERED_SECONDS, self._clear_idle)
        return flow

    def _clear_idle(self) -> None:
        now = self._loop.time()
        for client in [client for client, flow in self._flows.items() if flow.idle(now)]:
            self.forget(client)
        self._sweep = self._loop.call_later(ANSWERED_SECONDS, self._clear_idle) if self._flows else None


class _Stream:
    """One client's connection of TCP, and the one to the true server that its first forwarded query opens."""

    def __init__(self, resolver: Resolver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._resolver = resolver
        self._reader = reader
        self._writer = writer
        self._server: asyncio.StreamWriter | None = None
        self._opening = asyncio.Lock()
        self._held = asyncio.Semaphore(MOST_HELD)
        self._returning: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Until the client has said all and got all, or one of the sides is gone."""
        try:
            async with asyncio.TaskGroup() as waiting:
                while (message := await _message(self._reader)) is not None:
                    await self._held.acquire()
                    waiting.create_task(self._treat(message))
            if self._server is not None and self._returning is not None:
                self._server.write_eof()
                await self._returning
            self._writer.close()
        except* (OSError, asyncio.IncompleteReadError):
            self._resolver.traffic.lost += 1
        finally:
            if not self._writer.is_closing():
                self._writer.transport.abort()
            if self._returning is not None:
                self._returning.cancel()
            if self._server is not None:
                self._server.transport.abort()

    async def _treat(self, message: bytes) -> None:
        try:
            decision = self._resolver.decide(message, stream=True)
            if decision.delay:
                await asyncio.sleep(decision.delay)
            if decision.answer is not None:
                await _send(self._writer, decision.answer)
            elif decision.forward:
                await _send(await self._to_server(), message)
                self._resolver.traffic.forwarded += 1
        finally:
            self._held.release()

    async def _to_server(self) -> asyncio.StreamWriter:
        async with self._opening:
            if self._server is None:
                outgoing = await dial(self._resolver.upstream, self._writer.get_extra_info("socket"))
                reader, self._server = await asyncio.open_connection(sock=outgoing)
                self._returning = asyncio.create_task(self._return(reader))
            return self._server

    async def _return(self, reader: asyncio.StreamReader) -> None:
        """Whole messages, because answers of ours may come between two of them."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while (message := await _message(reader)) is not None:
                await _send(self._writer, message)
        if not self._reader.at_eof():
            self._writer.close()  # the true server has hung up on a client that may ask again


async def _message(reader: asyncio.StreamReader) -> bytes | None:
    """None at the end. Raises IncompleteReadError when that is in the middle of a message."""
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    return await reader.readexactly(length)


async def _send(writer: asyncio.StreamWriter, message: bytes) -> None:
    writer.write(LENGTH.pack(len(message)) + message)
    await writer.drain()
