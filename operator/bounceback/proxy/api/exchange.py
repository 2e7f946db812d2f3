"""One request of a client and its answer, on their way through the proxy.

What no rule hits is passed on byte for byte. What a rule hits is carried by a task of its own (carrying.py), which
decides how the request goes on, when, and what becomes of the answer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from bounceback.proxy.api.frames import JsonFraming, framing
from bounceback.types import api_request

if TYPE_CHECKING:
    from bounceback.proxy.api.client import Client

Header = tuple[bytes, bytes]
MOST_HELD: Final = 1 << 20
"""Bytes of one answer that wait here; the API server waits with more."""
MOST_ASKED: Final = 4 << 20
"""The same of one request. The API server takes 3 MiB (MaxRequestBodyBytes in k8s.io/apiserver/pkg/server)."""
HEAD_END: Final = b"\r\n\r\n"
CONTENT_TYPE: Final = re.compile(rb"\r\ncontent-type:[ \t]*([^\r\n]*)", re.IGNORECASE)
PLACES: Final = re.compile(r"\b(resourceVersion|resourceVersionMatch|timeoutSeconds|continue)=[^&]*&?")


class Reply(Enum):
    """What becomes of the bytes of the answer."""

    PASS = "pass"
    HOLD = "hold"  # kept until somebody says otherwise
    LOSE = "lose"


PASS: Final = Reply.PASS  # a class is asked seven times as long for its member


class Known:
    """What a method and a target say, for all requests that have them: clients ask for the same things again."""

    __slots__ = ("concerns", "request", "target", "unbodied", "watches")

    def __init__(self, method: str, target: str, prefix: str) -> None:
        self.target = target
        self.request = api_request.read(method, target.removeprefix(prefix))
        self.concerns = False  # whether a rule in force is about it, if the right user asks
        self.watches = self.request.verb == "watch"
        self.unbodied = hash((self.request.verb, _lasting(self.request.verb, target)))
        """The fingerprint of those without a body."""


class Exchange:
    """One request and its answer. The request's bytes wait in `raw` until it is opened."""

    # What one begins with; a request that goes by sets few of them.
    user: str | None = None  # once somebody has asked
    upgrade = False
    head_only = False  # its answer has no body
    opened = False
    dropped = False  # it goes no further
    requested = False  # all of the request is here
    answered = False  # all of the answer was here
    broken = False  # the API server's connection ended before
    keeps = False  # somebody decides how the client sees the end of the answer
    code = 0  # of the answer
    retry_after: float | None = None  # seconds that the API server told the client to wait
    digest = 0  # of the body
    fingerprint = 0  # once it is requested
    touched = False  # whether a rule has a hand in what the client is told
    told = False  # whether it was noted what the client was told
    reply = PASS
    task: asyncio.Task[None] | None = None
    body: list[bytes] | None = None  # decoded, for who asked for it
    _head: tuple[bytes, list[Header]] | None = None
    _changed: asyncio.Future[None] | None = None

    def __init__(self, client: Client, known: Known, raw: list[bytes]) -> None:
        self.client = client
        self.known = known
        self.request = known.request
        self.raw = raw
        self._held: list[bytes] = []

    @property
    def target(self) -> str:
        """Of the request line."""
        return self.known.target

    # The request

    def open(self) -> None:
        """Let the request go on to the API server."""
        self.opened = True

    def send(self) -> None:
        """What may go on does."""
        if self.opened and self.raw:
            raw, self.raw = self.raw, []
            self.client.to_server(raw[0] if len(raw) == 1 else b"".join(raw))
        elif self.dropped:
            self.raw.clear()

    def drop(self) -> None:
        """It goes no further: what comes of it still is for nobody."""
        self.dropped = True
        self.raw.clear()
        self.client.go_on()

    @property
    def full(self) -> bool:
        """Whether too much of the request cannot go on yet."""
        return bool(self.raw) and sum(map(len, self.raw)) > MOST_ASKED

    @property
    def headers(self) -> list[Header]:
        """Of the request, which has not been sent yet; a parser has found nothing wrong with them."""
        return self._read_head()[1]

    def rewrite(self, headers: Iterable[Header], target: str | None = None, body: bytes | None = None) -> None:
        """Another head, and another body where one is given; before it is opened."""
        line, _ = self._read_head()
        method, old, version = line.split(b" ", 2)
        whole = b"".join(self.raw)
        rest = whole[whole.index(HEAD_END) + 4 :]
        listed = list(headers)
        if body is not None:
            listed = [h for h in listed if h[0].lower() not in (b"content-length", b"transfer-encoding")]
            listed.append((b"Content-Length", b"%d" % len(body)))
            rest = body
        new = target.encode("latin-1") if target is not None else old
        head = b"\r\n".join([b"%b %b %b" % (method, new, version), *(b"%b: %b" % header for header in listed)])
        self.raw = [head + HEAD_END + rest]
        self._head = None

    def _read_head(self) -> tuple[bytes, list[Header]]:
        if self._head is None:
            head, _, _ = b"".join(self.raw).partition(HEAD_END)
            line, *fields = head.split(b"\r\n")
            pairs = (field.partition(b":") for field in fields)
            self._head = line, [(name, value.strip(b" \t")) for name, _, value in pairs]
        return self._head

    # The answer

    def take_answer(self, data: bytes) -> None:
        """Bytes as they came from the API server."""
        if self.reply is PASS:
            self.client.write(data)
        elif self.reply is Reply.HOLD:
            self._held.append(data)
            if self.held > MOST_HELD:
                self.client.hold_server(True)
            self.wake()

    def release(self) -> None:
        """What was held of the answer goes to the client, and the rest as it comes."""
        self.reply = PASS
        held, self._held = self._held, []
        if held:
            self.client.write(b"".join(held))
            self.client.hold_server(False)

    @property
    def held(self) -> int:
        """Bytes of the answer."""
        return sum(map(len, self._held)) if self._held else 0

    def holds(self, text: bytes) -> bool:
        """Whether that is in what is held of the answer."""
        return text in b"".join(self._held)

    def replace_answer(self, status: Mapping[str, Any]) -> None:
        """The watch that is held is one error event instead, in its own encoding."""
        head, _, _ = b"".join(self._held).partition(HEAD_END)
        self._held.clear()
        self.reply = Reply.LOSE
        found = CONTENT_TYPE.search(head)
        events = framing(found[1].decode("latin-1") if found is not None else "") or JsonFraming()
        event = events.error(dict(status))
        self.client.write(head + HEAD_END + b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))

    def answer_with(self, code: int, phrase: bytes, headers: Iterable[Header], body: bytes) -> None:
        """Ours, instead of the API server's."""
        lines = [b"HTTP/1.1 %d %b" % (code, phrase), *(b"%b: %b" % header for header in headers)]
        self.code = code
        self.client.write(b"\r\n".join(lines) + HEAD_END + (b"" if self.head_only else body))

    # For who carries it

    async def until_requested(self) -> None:
        """Or it is more than may wait here."""
        while not (self.requested or self.full):
            await self._news()

    async def until_answering(self) -> None:
        """Something of the answer is held."""
        while not (self._held or self.answered or self.broken):
            await self._news()

    async def until_held(self, text: bytes) -> None:
        while not (self.holds(text) or self.answered or self.broken):
            await self._news()

    async def until_answered(self) -> None:
        while not (self.answered or self.broken):
            await self._news()

    def wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _news(self) -> None:
        self._changed = asyncio.get_running_loop().create_future()
        await self._changed


def fingerprint(exchange: Exchange) -> int:
    """The same for another try of the same request."""
    return hash((exchange.known.unbodied, exchange.digest)) if exchange.digest else exchange.known.unbodied


def _lasting(verb: str, target: str) -> str:
    """Of a target, what is the same from try to try: what a list or watch begins with is not."""
    if verb not in ("list", "watch"):
        return target
    path, _, query = target.partition("?")
    return path + PLACES.sub("", query)
