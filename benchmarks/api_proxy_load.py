"""Clients of what benchmarks/api_proxy.py measures, and a server that holds watches. Certificates are not checked."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, cast

from benchmarks.api_proxy_place import HEADERS, HOST, LIST, OBJECT, Side
from bounceback.types.api_rule import Answer, ApiRule, CutWatch, Requests, Stall

PIECE: Final = 1 << 18
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
WATCH: Final = "/api/v1/namespaces/shop/pods?watch=true&resourceVersion=1"
PADDING: Final = "x" * 1_500
"""With what is around it an event is as large as a small pod."""
END: Final = b"}\n"
LAST: Final = b"\r\n0\r\n\r\n"
PATIENCE: Final = 20.0  # seconds, for what must come


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def request(path: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}", *(f"{name}: {value}" for name, value in HEADERS.items())]
    return "\r\n".join([*lines, "", ""]).encode()


# As many requests as it takes: wrk

SCRIPT: Final = """
for name, value in pairs({%s}) do wrk.headers[name] = value end
function done(summary, latency)
  local e = summary.errors
  local wrong = e.connect + e.read + e.write + e.status + e.timeout
  print(string.format('\\n[%%d, %%d, %%d, %%d]', summary.requests, summary.duration, latency:percentile(99), wrong))
end
"""


@dataclass(frozen=True)
class Loaded:
    requests: int
    rate: float  # a second
    p99: float  # seconds


def loaded(side: Side, folder: Path, connections: int, seconds: int) -> Loaded:
    """By wrk: each connection asks again as soon as it is answered."""
    script = folder / "wrk.lua"
    script.write_text(SCRIPT % ", ".join(f"['{name}'] = '{value}'" for name, value in HEADERS.items()))
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), side.url(OBJECT)]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    requests, microseconds, p99, wrong = json.loads(said.splitlines()[-1])
    if wrong or not requests:
        raise SystemExit(f"{side.name}: {wrong} of {requests} requests failed:\n{said.decode()}")
    return Loaded(requests, requests / microseconds * 1e6, p99 / 1e6)


# Requests by the clock


class _Asker(asyncio.Protocol):
    """One request at a time; `took` gets the seconds of each."""

    def __init__(self, took: list[float]) -> None:
        self._took = took
        self._request = request(OBJECT)
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self) -> None:
        self.busy = True
        self._sent = time.perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if data.endswith(END):
            self._took.append(time.perf_counter() - self._sent)
            self.busy = False


async def paced(side: Side, connections: int, rate: int, seconds: float) -> tuple[float, float]:
    """p50 and p99 in seconds of so many requests a second, each on a connection that has nothing else to do."""
    loop, took = asyncio.get_running_loop(), list[float]()
    context = client_context() if side.tls else None
    askers = []
    for _ in range(connections):
        _, asker = await loop.create_connection(lambda: _Asker(took), HOST, side.port, ssl=context)
        askers.append(asker)
        asker.ask()
    await asyncio.sleep(0.5)
    took.clear()
    began, sent, total = time.perf_counter(), 0, int(rate * seconds)
    while sent < total:
        due = min(total, int((time.perf_counter() - began) * rate) + 1)
        for asker in [asker for asker in askers if not asker.busy][: due - sent]:
            asker.ask()
            sent += 1
        await asyncio.sleep(0.0005)
    await asyncio.sleep(0.3)
    for asker in askers:
        asker.transport.close()
    took.sort()
    return took[len(took) // 2], took[len(took) * 99 // 100]


# A long list


def listed(side: Side, slowly: bool) -> tuple[int, float]:
    """Bytes of the list of all objects, and the seconds that it took; `slowly`: by who takes 256 KiB each 20 ms."""
    sock: socket.socket = socket.create_connection((HOST, side.port), timeout=PATIENCE)
    if slowly:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
    if side.tls:
        sock = client_context().wrap_socket(sock)
    with sock:
        began, total, buffer = time.perf_counter(), 0, bytearray(PIECE)
        view = memoryview(buffer)
        sock.sendall(request(LIST))
        asleep = 0
        while not (count := sock.recv_into(view)) or not buffer[:count].endswith((END, END + LAST)):
            if not count:
                raise SystemExit(f"{side.name}: the list ended after {total} bytes")
            total += count
            if slowly and total // PIECE > asleep:
                asleep = total // PIECE
                time.sleep(0.02)
        return total + count, time.perf_counter() - began


# Watches


class _Holder(asyncio.Protocol):
    """The API server: watches stay open; anything else is answered at once."""

    def __init__(self, watches: list[_Holder]) -> None:
        self._watches = watches
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._asked += data
        if not self._asked.endswith(b"\r\n\r\n"):
            return
        asked, self._asked = self._asked, b""
        if b"watch=true" in asked:
            self._watches.append(self)
            self.transport.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            self.tell()
        else:
            self.transport.write(HEAD + b"Content-Length: 3\r\n\r\n{}\n")

    def tell(self) -> None:
        """An event that says when it was written."""
        meta = {"name": "a", "namespace": "shop", "resourceVersion": str(time.monotonic_ns())}
        event = json.dumps({"type": "MODIFIED", "object": {"kind": "Pod", "metadata": meta, "spec": PADDING}}).encode()
        self.transport.write(b"%x\r\n%b\n\r\n" % (len(event) + 1, event))


class _Watcher(asyncio.Protocol):
    """`seen` gets when each event was written and when it was here; `ended`: when the watch was over."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []
        self.ended = 0
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(request(WATCH))

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if data.endswith(LAST[2:]):
            self.ended = now
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if (at := line.find(b'"resourceVersion": "')) >= 0:
                self.seen.append((int(line[at + 20 : line.index(b'"', at + 20)]), now))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or time.monotonic_ns()


class _Poller(asyncio.Protocol):
    """Asks again and again; `codes` has when each answer was there, and its code."""

    def __init__(self) -> None:
        self.codes: list[tuple[int, int]] = []
        self._request = request(OBJECT)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.codes.append((time.monotonic_ns(), int(data[9:12])))
        asyncio.get_running_loop().call_later(0.002, self._transport.write, self._request)


@dataclass
class Watched:
    """Seconds, and what `look` saw."""

    seen: float
    p50: float
    p99: float
    burst: float  # until the last watch has an event that all of them get at once
    answered: list[float]  # until a rule is felt by a request, and until its end is
    cut: float  # until the last open watch is ended by a rule
    released: float  # until the last one has what a rule held, once that is gone


async def watched(side: Side, upstream: int, certificate: Path, count: int, look: Callable[[], float]) -> Watched:
    """Of so many watches through a proxy before that port, where the server is as long as this takes."""
    loop, holders, context = asyncio.get_running_loop(), list[_Holder](), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    await loop.create_server(lambda: _Holder(holders), HOST, upstream, ssl=context, backlog=4096)
    watchers = await _opened(side, count)
    await asyncio.sleep(2)
    seen = look()
    took = await _one_by_one(holders, watchers)
    burst = await _all_at_once(holders, watchers)
    found = Watched(seen, took[len(took) // 2], took[len(took) * 99 // 100], burst, [], 0.0, 0.0)
    if side.orders >= 0:
        found.answered = await _ruled(side)
        found.released = await _released(side, holders, watchers)
        found.cut = await _cut(side, watchers)
    return found


async def _opened(side: Side, count: int) -> list[_Watcher]:
    context, found = client_context() if side.tls else None, list[_Watcher]()
    while len(found) < count:
        some = [asyncio.get_running_loop().create_connection(_Watcher, HOST, side.port, ssl=context) for _ in range(20)]
        found += [watcher for _, watcher in await asyncio.gather(*some)]
    await _until(lambda: all(watcher.seen for watcher in found), "the first event of each watch")
    return found


async def _one_by_one(holders: list[_Holder], watchers: list[_Watcher]) -> list[float]:
    """Seconds of each, sorted: one event for each watch, 200 a second."""
    _forget(watchers)
    for holder in holders:
        holder.tell()
        await asyncio.sleep(0.005)
    await _until(lambda: all(watcher.seen for watcher in watchers), "an event each")
    return sorted((here - sent) / 1e9 for watcher in watchers for sent, here in watcher.seen)


async def _all_at_once(holders: list[_Holder], watchers: list[_Watcher]) -> float:
    _forget(watchers)
    began = time.monotonic_ns()
    for holder in holders:
        holder.tell()
    await _until(lambda: all(watcher.seen for watcher in watchers), "an event for all")
    return (max(watcher.seen[0][1] for watcher in watchers) - began) / 1e9


async def _ruled(side: Side) -> list[float]:
    """Until a new rule is felt by one who asks each 2 ms, and until its end is; ten times."""
    _, poller = await asyncio.get_running_loop().create_connection(_Poller, HOST, side.port, ssl=client_context())
    await _until(lambda: bool(poller.codes), "an answer")
    found = []
    for _ in range(10):
        for rules, code in (((ApiRule("now", Answer(429)),), 429), ((), 200)):
            await asyncio.sleep(0.05)
            poller.codes.clear()
            began = _follow(side, rules)
            await _until(lambda code=code: any(told == code for _, told in poller.codes), str(code))  # type: ignore[misc]
            found.append((next(at for at, told in poller.codes if told == code) - began) / 1e9)
    return found


async def _released(side: Side, holders: list[_Holder], watchers: list[_Watcher]) -> float:
    _follow(side, [ApiRule("held", Stall(), (Requests(verbs=("watch",)),))])
    await asyncio.sleep(0.5)
    _forget(watchers)
    for holder in holders:
        holder.tell()
    await asyncio.sleep(0.5)
    if any(watcher.seen for watcher in watchers):
        raise RuntimeError("a stalled watch had an event")
    began = _follow(side, [])
    await _until(lambda: all(watcher.seen for watcher in watchers), "what was held")
    return (max(watcher.seen[0][1] for watcher in watchers) - began) / 1e9


async def _cut(side: Side, watchers: list[_Watcher]) -> float:
    began = _follow(side, [ApiRule("cut", CutWatch())])
    await _until(lambda: all(watcher.ended for watcher in watchers), "the end of each watch")
    return (max(watcher.ended for watcher in watchers) - began) / 1e9


def _follow(side: Side, rules: Iterable[ApiRule]) -> int:
    """When the order was given."""
    line = json.dumps([asdict(rule) for rule in rules]).encode() + b"\n"
    began = time.monotonic_ns()
    os.write(side.orders, line)
    return began


def _forget(watchers: list[_Watcher]) -> None:
    for watcher in watchers:
        watcher.seen.clear()


async def _until(there: Callable[[], bool], what: str) -> None:
    """Raises RuntimeError."""
    end = time.monotonic() + PATIENCE
    while not there():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: not within {PATIENCE:g} s")
        await asyncio.sleep(0.002)
