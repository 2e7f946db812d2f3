"""The answer of a watch: its events on their way to the client, as proxy/api/watching.py decides."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Final

from httptools import HttpResponseParser

from bounceback.proxy.api.exchange import HEAD_END, Exchange
from bounceback.proxy.api.frames import framing
from bounceback.proxy.api.rulebook import Applied
from bounceback.proxy.api.watching import End, Step, Watch, Write
from bounceback.types.api_rule import Ending

if TYPE_CHECKING:
    from bounceback.proxy.api.gate import Gate

CLOSE: Final = Ending.CLOSE
ERROR: Final = b'{"type":"ERROR"'
LAST_CHUNK: Final = b"0\r\n\r\n"


class WatchedAnswer:
    """As `server.Answer`; what is no stream of events (an error) is passed on as it is."""

    def __init__(self, gate: Gate, exchange: Exchange) -> None:
        self.exchange = exchange
        self.complete = False  # the exchange is over
        self._gate = gate
        self._parser = HttpResponseParser(self)
        self._head: list[bytes] | None = []  # until it is whole
        self._fields: dict[bytes, bytes] = {}
        self._code = 0
        self._watch: Watch | None = None
        self._steps: list[Step] = []  # of what is being parsed
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False
        self._server_ended = False
        self._cut = False  # the API server's connection ended in the middle
        self._failed = False  # the API server told of an error

    def feed(self, data: bytes) -> None:
        """Raises HttpParserError, HttpParserUpgrade."""
        head = self._head
        if head is not None:
            head.append(data)
        self._parser.feed_data(data)
        if head is not None and self._head is None:
            whole = b"".join(head)
            end = whole.index(HEAD_END) + 4
            self.exchange.take_answer(whole if self._watch is None else whole[:end])
        elif self._watch is None and self._head is None:
            self.exchange.take_answer(data)
        if self._watch is not None:
            steps, self._steps = self._steps, []
            self._carry_out(steps)

    def follow(self, applied: tuple[Applied, ...]) -> None:
        """Other rules, while it is open."""
        if self._watch is not None and not self.complete:
            self._carry_out(self._watch.follow(applied, monotonic()))

    def cut_off(self) -> None:
        """The connection ended before the answer did."""
        if self._watch is not None and not (self.complete or self._server_ended):
            self._cut = True
            self._carry_out(self._watch.ended(monotonic()))

    def close(self) -> None:
        """Its client went, or it is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watch is not None:
            self._watch.left()

    # From the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._code = self._parser.get_status_code()
        if self._code < 200:
            return
        self._head = None
        self.exchange.code = self._code
        if self._code == 200 and self._fields.get(b"transfer-encoding", b"").lower() == b"chunked":
            plain = self._fields.get(b"content-encoding", b"identity").lower() == b"identity"
            content = self._fields.get(b"content-type", b"").decode("latin-1")
            applied = self._gate.of_watch(self.exchange)
            self._watch = Watch(framing(content) if plain else None, applied, monotonic())
            self._steps = self._watch.due(monotonic())
            self.exchange.keeps = True
            self._gate.watching(self)

    def on_body(self, data: bytes) -> None:
        if self._watch is not None:
            self._failed = self._failed or data.startswith(ERROR)
            self._steps += self._watch.feed(data, monotonic())

    def on_message_complete(self) -> None:
        if self._code < 200:
            return
        if self._watch is None:
            self.complete = True
            return
        self._server_ended = True
        self._steps += self._watch.ended(monotonic())

    # Within

    def _carry_out(self, steps: Iterable[Step]) -> None:
        exchange, watch = self.exchange, self._watch
        assert watch is not None
        out = []
        end: End | None = None
        for step in steps:
            if isinstance(step, Write):
                out.append(_chunk(step.data))
            else:
                end = step
        if end is not None and end.partial:
            out.append(_chunk(end.partial))
        if out:
            exchange.take_answer(out[0] if len(out) == 1 else b"".join(out))
        if end is not None:
            self._end(end)
        else:
            self._wait(watch)

    def _end(self, end: End) -> None:
        """How the client sees it; the API server's own end, if it has not come, is not waited for."""
        exchange = self.exchange
        if end.ending is Ending.SILENCE:
            return
        self.close()
        self.complete = True
        self._gate.watched(self)
        self._gate.watch_ended(
            exchange, clean=not (self._failed or end.error or end.torn or self._cut or end.ending is not CLOSE)
        )
        if end.ending is Ending.RESET:
            exchange.client.reset()
            return
        if not (end.torn or self._cut):
            exchange.take_answer(LAST_CHUNK)
        if self._server_ended:
            self._gate.answered(exchange)
        else:
            asyncio.get_running_loop().call_soon(exchange.client.close)  # it takes longer: other watches end first

    def _wait(self, watch: Watch) -> None:
        """Come again when something is due; the API server waits while too much is held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (at := watch.next_at) < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - monotonic()), self._due)
        if watch.full is not self._paused:
            self._paused = watch.full
            self.exchange.client.hold_server(self._paused)

    def _due(self) -> None:
        self._timer = None
        assert self._watch is not None
        self._carry_out(self._watch.due(monotonic()))


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
