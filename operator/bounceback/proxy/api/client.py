"""A connection that a client opened, and the one to the API server that belongs to it alone.

One for one, so that nothing of one client can reach another, and what happens to the one connection happens to the
other. HTTP/1.1 only: clients that know HTTP/2 as well learn that by ALPN, and each of their watches has a connection.
Requests are not taken before those before them are answered (no pipelining, which no Kubernetes client does).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final, cast
from zlib import crc32

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from bounceback.proxy.api.exchange import Exchange
from bounceback.proxy.api.server import Server

if TYPE_CHECKING:
    from bounceback.proxy.api.gate import Gate

RESET: Final = struct.pack("ii", 1, 0)  # socket(7), SO_LINGER: closing sends an RST
LONGEST_HEAD: Final = 1 << 20  # bytes: the API server's own limit (net/http.DefaultMaxHeaderBytes)
BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Client(asyncio.Protocol):
    """Reads requests, and has each of them carried out before the next."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._parser = HttpRequestParser(self)
        self.exchange: Exchange | None = None  # which the API server is answering
        self._server: Server | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []  # while the API server is being dialled
        self._read: list[bytes] = []  # what holds the head that is being read
        self._url = b""
        self._pipelined = self._tunnel = self._paused = self._server_full = False
        self._outdated = False  # the API server is to be reached by a connection of now
        self.certified = ""  # who the client's certificate says it is
        self.gone = False
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)

    @property
    def ends(self) -> tuple[int, int]:
        """The ports of its connection: its own, and ours."""
        return self.transport.get_extra_info("peername")[1], self.transport.get_extra_info("sockname")[1]

    # From the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.certified = common_name(transport.get_extra_info("peercert"))
        self._gate.enter(self)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.raw.append(data)
        else:
            self._read.append(data)
        if not self._tunnel and not self._parsed(data):
            self.transport.write(BAD_REQUEST)
            self.transport.close()
            return
        if (exchange := self.exchange) is not None:
            exchange.send()
            if exchange.raw and exchange.full:
                self._pause()
                exchange.wake()

    def _parsed(self, data: bytes) -> bool:
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._tunnel = True
        except HttpParserError:
            return False
        if self.exchange is not None:
            return not self._pipelined
        return sum(map(len, self._read)) <= LONGEST_HEAD

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if self._dialling is not None:
            self._dialling.cancel()
        if self._server is not None:
            self._server.abort()
        if self.exchange is not None:
            self._gate.lost(self.exchange)
        self._gate.left(self)

    def pause_writing(self) -> None:
        if self._server is not None:
            self._server.pause_reading()

    def resume_writing(self) -> None:
        if self._server is not None:
            self._server.resume_reading()

    # From the parser

    def on_message_begin(self) -> None:
        self._url = b""
        self._pipelined = self.exchange is not None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_headers_complete(self) -> None:
        if self._pipelined:
            return
        parser = self._parser
        method = parser.get_method()
        raw, self._read = self._read, []
        exchange = self.exchange = self._gate.exchange(self, method, self._url, raw)
        if method == b"HEAD":
            exchange.head_only = True
        if parser.should_upgrade():
            exchange.upgrade = True
        self._gate.begin(exchange)

    def on_body(self, data: bytes) -> None:
        if (exchange := self.exchange) is not None and not self._pipelined:
            exchange.digest = crc32(data, exchange.digest)
            if exchange.body is not None:
                exchange.body.append(data)

    def on_message_complete(self) -> None:
        if (exchange := self.exchange) is not None and not self._pipelined:
            self._gate.requested(exchange)

    # To the client

    def write(self, data: bytes) -> None:
        if not self.gone:
            self.transport.write(data)

    def close(self) -> None:
        """In order, once what was written is out."""
        self.transport.close()

    def reset(self) -> None:
        """By an RST."""
        if (sock := self.transport.get_extra_info("socket")) is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()

    # To the API server

    def to_server(self, data: bytes) -> None:
        if self._server is not None:
            self._server.write(data)
            return
        self._unsent.append(data)
        if self._dialling is None:
            self.server_paused()  # what came meanwhile would be kept here
            self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        self._outdated = False
        try:
            server = await self._gate.dial(self)
        except OSError:
            self.reset()  # had we not been there, it could not have been reached either
            return
        if self.gone:
            server.abort()
            return
        self._dialling, self._server = None, server
        unsent, self._unsent = self._unsent, []
        self.server_resumed()
        server.write(b"".join(unsent))

    def dial_anew(self) -> None:
        """The next request goes by another connection to the API server; the client's own stays."""
        self._outdated = True
        if self.exchange is None and self._server is not None:
            server, self._server = self._server, None
            server.leave()
            self.server_resumed()

    def hold_server(self, held: bool) -> None:
        """Whether the API server is to wait before it says more."""
        if self._server is not None:
            if held:
                self._server.pause_reading()
            else:
                self._server.resume_reading()

    def server_paused(self) -> None:
        self._server_full = True
        self._pause()

    def server_resumed(self) -> None:
        self._server_full = False
        self.go_on()

    def go_on(self) -> None:
        """Read more, if that can go on from here."""
        if not self._server_full and (self.exchange is None or not self.exchange.full):
            self._resume()

    # From the API server

    def server_lost(self) -> None:
        """Its connection ended; so does ours, after all that came, unless somebody decides how the client sees it."""
        self._server = None
        if (exchange := self.exchange) is not None:
            exchange.broken = True
            if exchange.task is not None or exchange.keeps:
                exchange.wake()
                return
        if not self.gone:
            self.transport.close()

    def finished(self, exchange: Exchange) -> None:
        """The exchange is over: the next one's turn."""
        if exchange is not self.exchange:
            return
        if exchange.upgrade or exchange.broken or not exchange.requested or self._gate.draining:
            self.transport.close()  # what the client says now cannot be told from what it was saying
            return
        self.exchange = None
        if self._outdated:
            self.dial_anew()
        if self._paused:
            self.go_on()

    # Within

    def _pause(self) -> None:
        if not self._paused and not self.gone:
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self.gone:
            self._paused = False
            self.transport.resume_reading()


def common_name(certificate: dict[str, object] | None) -> str:
    """Whom the API server takes the holder of that certificate for."""
    if not certificate:
        return ""
    subject = cast(tuple[tuple[tuple[str, str], ...], ...], certificate.get("subject", ()))
    return next((value for part in subject for key, value in part if key == "commonName"), "")
