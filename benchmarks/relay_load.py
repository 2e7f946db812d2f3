"""Both ends of what the benchmarks of the rungs measure: a server, and clients that load what is between them and it.

Each runs in a process of its own, by `multiprocessing`, in uvloop, with as little work as possible.
"""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import select
import socket
import statistics
import struct
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, Final, cast

import uvloop

SIZE: Final = 1024
PING: Final = 16
DATAGRAM: Final = 100
BULK_PIECE: Final = 1 << 18
LEAD: Final = 1.0
METERED: Final = 10.0
CHANGE_EVERY: Final = 0.01
SO_TIMESTAMPNS: Final = 35
_TIME: Final = struct.Struct("=qq")
Address = tuple[str, int]


def in_process(work: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
    """What the coroutine returns, run in a process of its own."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        found = ours.recv()
    finally:
        process.join(5)
        process.terminate()
    if isinstance(found, BaseException):
        raise found
    return found


def _run(told: Connection, work: Callable[..., Coroutine[Any, Any, Any]], arguments: tuple[Any, ...]) -> None:
    try:
        told.send(uvloop.run(work(*arguments)))
    except Exception as error:  # noqa: BLE001 - goes to the parent as it is
        told.send(error)


# The server


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        self.write(data)


class _Sink(asyncio.BufferedProtocol):
    """Counts what comes, and says so after each time that all announced bytes are there: 8 bytes, then these."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast(asyncio.Transport, transport).write
        self.buffer = bytearray(BULK_PIECE)
        self.left = -1

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.left < 0:
            self.left = int.from_bytes(self.buffer[:8], "big") + 8
        self.left -= nbytes
        if self.left == 0:
            self.left = -1
            self.write(b"!")


class _Meter(asyncio.Protocol):
    """Says how many bytes a second came in METERED seconds, once LEAD has passed since the first ones."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.write = cast(asyncio.Transport, transport).write
        self.opened = time.perf_counter()
        self.began = 0.0
        self.total = 0

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self.began:
            self.total += len(data)
            if now - self.began >= METERED:
                self.write(f"{self.total / (now - self.began)}\n".encode())
                self.began = math.inf
        elif now - self.opened >= LEAD:
            self.began = now


class _Count(asyncio.DatagramProtocol):
    """Counts datagrams; one that says "?" is told how many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)
        self.count = 0

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if data == b"?":
            self.transport.sendto(str(self.count).encode(), addr)
        else:
            self.count += 1


def serve(told: Connection, host: str) -> None:
    """Ports of echo, sink, meter, and UDP counter, then until it is terminated."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(kind, host, 0, backlog=4096) for kind in (_Echo, _Sink, _Meter)]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        udp.bind((host, 0))
        await loop.create_datagram_endpoint(_Count, sock=udp)
        told.send([*(server.sockets[0].getsockname()[1] for server in servers), udp.getsockname()[1]])
        await asyncio.Event().wait()

    uvloop.run(run())


@contextmanager
def served(host: str = "127.0.0.1") -> Iterator[dict[str, Address]]:
    """The server, in a process of its own: where it echoes, sinks, meters and counts datagrams."""
    told, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(theirs, host), daemon=True)
    server.start()
    try:
        yield {name: (host, port) for name, port in zip(("echo", "sink", "meter", "count"), told.recv(), strict=True)}
    finally:
        server.terminate()
        server.join()


# The clients


class _Pinger(asyncio.Protocol):
    """Sends, and sends again as soon as the answer is there."""

    def __init__(self, until: float, took: list[float]) -> None:
        self.until = until
        self.took = took
        self.over = asyncio.get_running_loop().create_future()
        self.message = b"x" * SIZE
        self.missing = SIZE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.write = self.transport.write

    def go(self) -> None:
        self.sent = time.perf_counter()
        self.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing:
            return
        now = time.perf_counter()
        self.took.append(now - self.sent)
        if now > self.until:
            self.over.set_result(None)
            self.transport.close()
            return
        self.missing = SIZE
        self.sent = now
        self.write(self.message)


async def echo(address: Address, connections: int, seconds: float) -> tuple[float, float, float]:
    """Round trips a second, and their p50 and p99 in seconds."""
    loop, took = asyncio.get_running_loop(), list[float]()
    begin = time.perf_counter() + 0.2
    pingers = [
        (await loop.create_connection(lambda: _Pinger(begin + seconds, took), *address))[1] for _ in range(connections)
    ]
    await asyncio.sleep(max(0.0, begin - time.perf_counter()))
    began = time.perf_counter()
    for pinger in pingers:
        pinger.go()
    await asyncio.gather(*(pinger.over for pinger in pingers))
    spent = time.perf_counter() - began
    took.sort()
    return len(took) / spent, took[len(took) // 2], took[len(took) * 99 // 100]


async def bulk(address: Address, size: int) -> float:
    """Bytes a second to the sink."""

    def send() -> float:
        with socket.create_connection(address) as sock:
            piece = memoryview(bytes(BULK_PIECE))
            began = time.perf_counter()
            sock.sendall(size.to_bytes(8, "big"))
            left = size
            while left > 0:
                left -= sock.send(piece[: min(left, BULK_PIECE)])
            assert sock.recv(1) == b"!"
            return size / (time.perf_counter() - began)

    return send()


async def metered(address: Address) -> float:
    """Bytes a second that arrive at the meter of what is sent as fast as it is taken."""
    with socket.create_connection(address) as sock:
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )  # what waits then is not waited for
        sock.setblocking(False)
        piece = bytes(BULK_PIECE)
        while True:
            answered, _, _ = select.select([sock], [sock], [])
            if answered:
                return float(sock.recv(100))
            with suppress(BlockingIOError):
                sock.send(piece)


async def idle(address: Address, count: int, rate: float, look: Callable[[], float]) -> tuple[int, float, float]:
    """Errors while so many connections are opened at that rate; how many a second that was; what `look` saw of them."""
    loop, errors, ends = asyncio.get_running_loop(), 0, list[asyncio.Transport]()

    async def one() -> None:
        nonlocal errors
        try:
            transport, _ = await loop.create_connection(asyncio.Protocol, *address)
            ends.append(transport)
        except OSError:
            errors += 1

    began, tasks = time.perf_counter(), set[asyncio.Task[None]]()
    while len(tasks) < count:
        due = min(count, int((time.perf_counter() - began) * rate) + 1)
        tasks |= {loop.create_task(one()) for _ in range(due - len(tasks))}
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    spent = time.perf_counter() - began
    await asyncio.sleep(2)
    seen = look()
    errors += sum(end.is_closing() for end in ends)
    return errors, count / spent, seen


class _Ticker(asyncio.Protocol):
    """Echoes that are sent by the clock, whenever the ones before come back."""

    def __init__(self, took: list[float]) -> None:
        self.took = took
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def tick(self) -> None:
        self.transport.write(time.monotonic_ns().to_bytes(PING, "big"))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.buffer += data
        while len(self.buffer) >= PING:
            sent = int.from_bytes(self.buffer[:PING], "big")
            self.took.append((now - sent) / 1e9)
            self.buffer = self.buffer[PING:]


async def delays(
    address: Address, connections: int, faults: Iterable[tuple[float, Callable[[], AbstractContextManager[object]]]]
) -> list[float]:
    """Seconds that the median of round trips grows by on connections that are open, under one fault after the other.

    Of each fault the seconds that it should add. Each connection echoes once a second, one after the other.
    """
    loop, took = asyncio.get_running_loop(), list[float]()
    ends = [(await loop.create_connection(lambda: _Ticker(took), *address))[1] for _ in range(connections)]

    async def median(wait: float) -> float:
        took.clear()
        began, sent, total = time.monotonic(), 0, 3 * connections
        while sent < total:
            due = min(total, int((time.monotonic() - began) * connections) + 1)
            for n in range(sent, due):
                ends[n % connections].tick()
            sent = due
            await asyncio.sleep(0.001)
        await asyncio.sleep(wait + 0.3)
        return statistics.median(took)

    plain, found = await median(0.0), []
    for wait, in_force in faults:
        with in_force():
            found.append(await median(wait) - plain)
    for end in ends:
        end.transport.close()
    return found


async def changed(address: Address, connections: int, control: Address, put: bytes, lift: bytes) -> tuple[float, float]:
    """Seconds from its request until a delay of 3 s is felt, and from that which lifts it until the last held byte is
    there, of the slowest connection. The requests go to `control` as they are.

    The kernel says when a byte arrived: when this process gets round to reading it is not what is measured.
    """
    ends = [socket.create_connection(address) for _ in range(connections)]
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        end.send(bytes(PING))
    for end in ends:
        assert len(end.recv(PING, socket.MSG_WAITALL)) == PING
        end.setblocking(False)
    sent: list[list[float]] = [[] for _ in ends]
    asked = time.time()
    answer = _request(control, put)
    while (now := time.time()) < asked + 0.3:
        for end, moments in zip(ends, sent, strict=True):
            moments.append(time.time())
            end.send(bytes(PING))
        await asyncio.sleep(max(0.0, now + CHANGE_EVERY - time.time()))
    _answered(answer)
    await asyncio.sleep(0.3)
    in_time = [_arrived(end)[0] // PING for end in ends]  # they come in the order in which they were sent
    felt = max((moments[n - 1] - asked for n, moments in zip(in_time, sent, strict=True) if n), default=0.0)
    asked = time.time()
    _answered(_request(control, lift))
    await asyncio.sleep(0.5)
    rest = [_arrived(end) for end in ends]
    assert [n * PING + size for n, (size, _) in zip(in_time, rest, strict=True)] == [len(each) * PING for each in sent]
    for end in ends:
        end.close()
    return felt, max(last for _, last in rest) - asked


def _arrived(sock: socket.socket) -> tuple[int, float]:
    """How many bytes are there to be read, and when the last of them came."""
    size, last = 0, 0.0
    with suppress(BlockingIOError):
        while True:
            data, ancillary, _, _ = sock.recvmsg(1 << 16, 100)
            size += len(data)
            for _, _, stamp in ancillary:  # the kernel begins to stamp a while after the first one asks for it
                seconds, nanoseconds = _TIME.unpack(stamp)
                last = seconds + nanoseconds / 1e9
    return size, last


def _request(address: Address, text: bytes) -> socket.socket:
    sock = socket.create_connection(address)
    sock.send(text)
    return sock


def _answered(sock: socket.socket) -> None:
    with sock, sock.makefile("rb") as answer:
        text = answer.read()
    assert text.split()[1][:1] == b"2", text


async def datagrams(address: Address, count: int) -> int:
    """Send so many."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    for n in range(count):
        with suppress(PermissionError):  # nftables tells who sent it that it dropped one
            sock.send(b"x" * DATAGRAM)
        if n % 5 == 0:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.5)
    sock.close()
    return count


async def asked_count(address: Address) -> int:
    """How many arrived at the counter, asked by a way that loses nothing."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.connect(address)
    sock.send(b"?")
    found = int(sock.recv(100))
    sock.close()
    return found
