"""Both ends of what benchmarks/relay.py measures: a server, and clients that load what is between them and it.

Each runs in a process of its own, by `multiprocessing`, in uvloop, with as little work as possible.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from collections.abc import Callable, Coroutine
from multiprocessing.connection import Connection
from typing import Any, Final, cast

import uvloop

SIZE: Final = 1024
PING: Final = 16
DATAGRAM: Final = 100
BULK_PIECE: Final = 1 << 18
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


class _Source(asyncio.Protocol):
    """Sends as fast as it is taken."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.piece = bytes(BULK_PIECE)
        self.full = False
        self.fill()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        asyncio.get_running_loop().call_soon(self.fill)

    def fill(self) -> None:
        while not self.full and not self.transport.is_closing():
            self.transport.write(self.piece)


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


def serve(told: Connection) -> None:
    """Ports of echo, sink, source, and UDP counter, then until it is terminated."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(kind, "127.0.0.1", 0, backlog=4096) for kind in (_Echo, _Sink, _Source)]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        udp.bind(("127.0.0.1", 0))
        await loop.create_datagram_endpoint(_Count, sock=udp)
        told.send([*(server.sockets[0].getsockname()[1] for server in servers), udp.getsockname()[1]])
        await asyncio.Event().wait()

    uvloop.run(run())


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


async def received(address: Address, seconds: float) -> float:
    """Bytes a second from the source, over so long."""
    with socket.create_connection(address) as sock:
        sock.settimeout(seconds + 5)
        buffer = bytearray(BULK_PIECE)
        began, total = time.perf_counter(), 0
        while (now := time.perf_counter()) < began + seconds:
            total += sock.recv_into(buffer)
        return total / (now - began)


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

    def __init__(self, took: list[tuple[float, float]]) -> None:
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
            self.took.append((sent / 1e9, (now - sent) / 1e9))
            self.buffer = self.buffer[PING:]


async def tickers(address: Address, connections: int, took: list[tuple[float, float]]) -> list[_Ticker]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(lambda: _Ticker(took), *address))[1] for _ in range(connections)]


async def ticked(address: Address, connections: int, seconds: float, every: float, wait: float) -> list[float]:
    """Round trips of echoes that each connection sends `every` so many seconds, evenly spread, `wait` for the last."""
    took = list[tuple[float, float]]()
    ends = await tickers(address, connections, took)
    await asyncio.sleep(0.1 + wait)  # the packets that open them are held, too
    took.clear()
    began, sent, total = time.monotonic(), 0, int(connections * seconds / every)
    while sent < total:
        due = min(total, int((time.monotonic() - began) * connections / every) + 1)
        for n in range(sent, due):
            ends[n % connections].tick()
        sent = due
        await asyncio.sleep(0.001)
    await asyncio.sleep(wait + 0.3)
    for end in ends:
        end.transport.close()
    return sorted(spent for _, spent in took)


async def lifted(address: Address, connections: int, hold: Address, put: bytes, lift: bytes) -> tuple[float, float]:
    """How long after its request a delay of 3 s is felt, and after its end the last held byte is there: seconds, of the
    slowest connection. The requests go to `hold` as they are."""
    took = list[tuple[float, float]]()
    ends = await tickers(address, connections, took)
    for end in ends:
        end.tick()
    await asyncio.sleep(0.5)
    assert len(took) == connections
    took.clear()
    asked = time.monotonic()
    asking = asyncio.create_task(_request(hold, put))
    while time.monotonic() < asked + 0.3:
        for end in ends:
            end.tick()
        await asyncio.sleep(0.004)
    await asking
    felt = max((sent for sent, spent in took if spent < 2), default=asked) - asked
    before = len(took)
    asked = time.monotonic()
    await _request(hold, lift)
    await asyncio.sleep(1)
    last = max(sent + spent for sent, spent in took[before:])
    for end in ends:
        end.transport.close()
    return max(0.0, felt), last - asked


async def _request(address: Address, text: bytes) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(text)
    status = await reader.readline()
    assert status.split()[1][:1] == b"2", (status, await reader.read(2000))
    writer.close()


async def datagrams(address: Address, count: int) -> int:
    """Send so many."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    for n in range(count):
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
