"""The connection to the API server that belongs to one client's connection."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from bounceback.proxy.api.exchange import HEAD_END, Exchange
from bounceback.proxy.api.watched import WatchedAnswer

if TYPE_CHECKING:
    from bounceback.proxy.api.client import Client
    from bounceback.proxy.api.gate import Gate

RETRY_AFTER: Final = re.compile(rb"\r\nretry-after:[ \t]*([^\r\n]*)", re.IGNORECASE)


class Server(asyncio.Protocol):
    """Passes answers on as they come, and finds where each of them ends."""

    def __init__(self, gate: Gate, client: Client) -> None:
        self._gate = gate
        self._client = client
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._answer: Answer | WatchedAnswer | None = None
        self._plain: Answer | None = None  # for one answer after the other
        self._tunnel = False
        self._left = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._tunnel:
            self._client.write(data)
            return
        if self._left or (exchange := self._client.exchange) is None:
            self._transport.abort()  # an answer that nobody asked for
            return
        if (answer := self._answer) is None or answer.exchange is not exchange:
            self._answer = answer = self._begun(exchange)
        try:
            answer.feed(data)
        except HttpParserUpgrade:
            self._tunnel = True
            exchange.code = 101
            exchange.take_answer(data)
            return
        except HttpParserError:
            self._client.reset()
            return
        if answer.complete:
            self._answer = None
            if exchange.head_only:
                self._forget()  # its parser waits for the body that such an answer tells of
            self._gate.answered(exchange)

    def _begun(self, exchange: Exchange) -> Answer | WatchedAnswer:
        """Who follows the answer to it."""
        if exchange.known.watches:
            return WatchedAnswer(self._gate, exchange)
        if self._answer is not None:
            self._forget()  # what it was following was not over
        if (plain := self._plain) is None:
            plain = self._plain = Answer()
        plain.begin(exchange)
        return plain

    def _forget(self) -> None:
        if self._plain is not None:
            self._plain.end()
            self._plain = None

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.cut_off()
        self._forget()
        if not self._left:
            self._client.server_lost()

    def pause_writing(self) -> None:
        if not self._left:
            self._client.server_paused()

    def resume_writing(self) -> None:
        if not self._left:
            self._client.server_resumed()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def leave(self) -> None:
        """Its client goes on without it."""
        self._left = True
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


class Answer:
    """Answers that are passed on as they are, one after the other."""

    __slots__ = ("_code", "_parser", "complete", "exchange")

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)

    def begin(self, exchange: Exchange) -> None:
        """With the answer to this one."""
        self.exchange = exchange
        self.complete = False
        self._code = 0

    def end(self) -> None:
        """With all of them: the parser keeps us as we keep it, and only the collector would find that."""
        del self._parser

    def feed(self, data: bytes) -> None:
        """Raises HttpParserError for what is not an answer, HttpParserUpgrade for the last one of a connection."""
        self._parser.feed_data(data)
        if self._code >= 400 and (found := RETRY_AFTER.search(data, 0, data.find(HEAD_END) + 2)):
            self.exchange.retry_after = seconds(found[1])
        self.exchange.take_answer(data)

    def cut_off(self) -> None:
        """The connection ended before the answer did."""

    # From the parser

    def on_headers_complete(self) -> None:
        self._code = self._parser.get_status_code()
        if self._code >= 200:
            self.exchange.code = self._code
            if self.exchange.head_only:
                self.complete = True

    def on_message_complete(self) -> None:
        if self._code >= 200:
            self.complete = True


def seconds(value: bytes) -> float | None:
    """Of a Retry-After (RFC 9110 section 10.2.3): a number, or a date."""
    text = value.decode("latin-1").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
