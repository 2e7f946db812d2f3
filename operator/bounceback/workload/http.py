"""HTTP/1.1 as a workload needs it: one request at a time on a connection that is kept, and nothing else.

No request is sent twice, no redirect followed: each is one operation. Heads and bodies are taken apart by llhttp.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final, cast
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.operations import KEY, VALUE, HttpRead, HttpTake, HttpWorkload, HttpWrite
from bounceback.workload.client import Answer, SilentError, number_of

FAILED = Answer(Outcome.FAILED)
UNKNOWN = Answer(Outcome.UNKNOWN)
SUCCESS: Final = range(200, 300)
REFUSAL: Final = range(400, 500)
MISSING: Final = object()

Reply = tuple[int, bytes]
Taken = Callable[[Reply], Answer]
Exchange = Callable[[str, int], tuple[bytes, Taken]]
"""Of a key and a value: what is sent, and what its answer means."""


class HttpSystem:
    """An HTTP server, as `http` tells of it."""

    def __init__(self, http: HttpWorkload, model: Model, seconds: float) -> None:
        address = urlsplit(http.url)
        self._secure = address.scheme == "https"
        self.host = address.hostname or ""
        self.port = address.port or (443 if self._secure else 80)
        self.context = ssl.create_default_context() if self._secure else None
        self.seconds = seconds  # that an operation may take
        self._http = http
        self._base = address.path.rstrip("/")
        self._head = f"Host: {address.netloc.rpartition('@')[2]}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in http.headers.items()
        )
        self.operations: dict[Function, Exchange] = {}
        is_set = model is Model.SET
        if (write := http.write) is not None:
            self.operations[Function.WRITE] = self._call(write, False) or self._exchange(write, _written(write))
        if (read := http.read) is not None:
            taken = _read(read, Outcome.FAILED, is_set)
            self.operations[Function.READ] = self._call(read, is_set) or self._exchange(read, taken)
        if (take := http.take) is not None:
            taken = _read(take, Outcome.UNKNOWN, False)
            self.operations[Function.TAKE] = self._call(take, False) or self._exchange(take, taken)

    def client(self) -> HttpClient:
        return HttpClient(self)

    async def listed(self, key: str, seconds: float) -> array[int]:
        assert self._http.list is not None
        wanted = self._http.list
        head = f"GET {self._base}{wanted.path} HTTP/1.1\r\n{self._head}\r\n".replace(KEY, key).encode()
        client = HttpClient(self)
        try:
            status, body = await client.ask(head, seconds)
        except OSError as error:
            raise SilentError(f"GET {wanted.path}: {str(error) or type(error).__name__}") from error
        finally:
            await client.close()
        if status not in SUCCESS:
            raise SilentError(f"GET {wanted.path}: answered {status}")
        return _list_of(body, way_of(wanted.field), way_of(wanted.value), wanted.path)

    def _exchange(self, operation: HttpWrite | HttpRead | HttpTake, taken: Taken) -> Exchange:
        head = f"{operation.method} {self._base}{operation.path} HTTP/1.1\r\n{self._head}"
        template = Template(head, operation.body)
        return lambda key, value: (template.request(key, value), taken)

    def _call(self, operation: HttpWrite | HttpRead | HttpTake, is_set: bool) -> Exchange | None:
        if operation.json_rpc is None:
            return None
        from bounceback.workload.rpc import exchange  # which knows this module

        has_type = any(name.lower() == "content-type" for name in self._http.headers)
        head = "" if has_type else "Content-Type: application/json\r\n"
        head = f"POST {self._base}{operation.path} HTTP/1.1\r\n{self._head}{head}"
        return exchange(head, operation, operation.json_rpc, is_set=is_set)


class Template:
    """A request with places for key and value."""

    def __init__(self, head: str, body: str | None, *, variable: bool = False) -> None:
        """`variable`: the body is another one for each request, whatever stands in it."""
        self._head = head
        self._body = body
        if body is not None and not (variable or KEY in body or VALUE in body):
            self._head, self._body = f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}", None
        elif body is None:
            self._head = f"{head}\r\n" if head.startswith("GET ") else f"{head}Content-Length: 0\r\n\r\n"

    def request(self, key: str, value: int, begin: str = "") -> bytes:
        """`begin` comes before a body that is variable."""
        number = str(value)
        head = self._head.replace(KEY, key).replace(VALUE, number)
        if self._body is None:
            return head.encode()
        body = (begin + self._body).replace(KEY, key).replace(VALUE, number).encode()
        return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


class HttpClient:
    """One connection; opened where there is none."""

    def __init__(self, system: HttpSystem) -> None:
        self._system = system
        self.trouble = ""
        self._connection: _Connection | None = None

    async def perform(self, function: Function, key: str, value: int) -> Answer:
        request, taken = self._system.operations[function](key, value)
        try:
            if (connection := self._connection) is None or connection.is_over:
                connection = await self._connect(self._system.seconds)
        except OSError as error:
            self.trouble = str(error) or "no connection in time"
            return FAILED  # nothing was sent
        try:
            reply = await connection.ask(request, self._system.seconds)
        except OSError as error:
            self.trouble = str(error) or type(error).__name__
            await self.close()
            return FAILED if function is Function.READ else UNKNOWN
        answer = taken(reply)
        if answer.outcome is not Outcome.ACKNOWLEDGED:
            self.trouble = f"status {reply[0]}: {reply[1][:160].decode(errors='replace')}"
        return answer

    async def ask(self, request: bytes, seconds: float) -> Reply:
        """Raises OSError, TimeoutError among them."""
        connection = await self._connect(seconds)
        return await connection.ask(request, seconds)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _connect(self, seconds: float) -> _Connection:
        system = self._system
        try:
            async with asyncio.timeout(seconds):
                _, self._connection = await asyncio.get_running_loop().create_connection(
                    _Connection, system.host, system.port, ssl=system.context
                )
        except UnicodeError as error:  # a host name that cannot be one
            raise OSError(str(error)) from error
        return self._connection


class _Connection(asyncio.Protocol):
    """Requests one after another; the answer to each is there whole or not at all."""

    def __init__(self) -> None:
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        self._waiting: asyncio.Future[Reply] | None = None
        self._parser = HttpResponseParser(self)
        self._body: list[bytes] = []
        self._until_end = False  # the body is all that comes
        self._head_over = False

    async def ask(self, request: bytes, seconds: float) -> Reply:
        self._waiting = waiting = self._loop.create_future()
        patience = self._loop.call_later(seconds, self._give_up)
        self._transport.write(request)
        try:
            reply: Reply = await waiting
            return reply
        finally:
            patience.cancel()

    def abort(self) -> None:
        self.is_over = True
        self._transport.abort()

    def _give_up(self) -> None:
        self._fail(TimeoutError("no answer in time"))

    def _fail(self, error: OSError) -> None:
        self.is_over = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)

    def _complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # another one follows
            return
        if not self._parser.should_keep_alive():
            self.is_over = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((status, b"".join(self._body)))
        else:
            self.is_over = True  # an answer that nobody asked for

    # asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none of asyncio's

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(ConnectionError(f"not HTTP: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        if error is None and self._head_over and self._until_end:
            self.is_over = True
            self._complete()
        self._fail(ConnectionResetError(str(error or "closed before the answer was whole")))

    # llhttp's

    def on_message_begin(self) -> None:
        self._body.clear()
        self._until_end, self._head_over = True, False

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) in (14, 17) and name.lower() in (b"content-length", b"transfer-encoding"):
            self._until_end = False

    def on_headers_complete(self) -> None:
        self._head_over = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._until_end = False
        self._complete()


# What answers mean


def _written(write: HttpWrite) -> Taken:
    acknowledged = set(write.acknowledged_statuses or SUCCESS)
    failed = set(write.failed_statuses or REFUSAL)
    if write.acknowledged_statuses:
        failed -= acknowledged
    else:
        acknowledged -= failed
    known = dict.fromkeys(acknowledged, Answer(Outcome.ACKNOWLEDGED)) | dict.fromkeys(failed, FAILED)
    way = way_of(write.field)

    def taken(reply: Reply) -> Answer:
        return known.get(reply[0], UNKNOWN)

    def taken_if_there(reply: Reply) -> Answer:
        status, body = reply
        return taken(reply) if status not in acknowledged or in_json(body, way) is not None else UNKNOWN

    return taken_if_there if way else taken


def _read(read: HttpRead | HttpTake, without: Outcome, is_set: bool) -> Taken:
    """`without` is what it comes to where there is no answer that says something."""
    absent, way = frozenset(read.absent_statuses), way_of(read.field)
    nothing, silent = Answer(Outcome.ACKNOWLEDGED), Answer(without)

    def taken(reply: Reply) -> Answer:
        status, body = reply
        if status in absent:
            return nothing
        if status not in SUCCESS:
            return FAILED if without is Outcome.FAILED or status in REFUSAL else silent
        if is_set and not way:
            return Answer(Outcome.ACKNOWLEDGED, 1)
        found = in_json(body, way, MISSING) if way else body
        if found is MISSING:
            return silent
        if found is None or found == b"":
            return nothing
        return Answer(Outcome.ACKNOWLEDGED, 1 if is_set else number_of(found))

    return taken


def way_of(field: str | None) -> tuple[str, ...]:
    return tuple(field.split(".")) if field else ()


def in_json(body: bytes, way: Sequence[str], missing: object = None) -> Any:
    """What stands there; `missing` where nothing does, or the body is no JSON."""
    try:
        return at(json.loads(body), way)
    except (ValueError, LookupError, TypeError):
        return missing


def at(found: Any, way: Sequence[str]) -> Any:
    """Raises LookupError or TypeError where the way leads nowhere."""
    for step in way:
        found = found[int(step) if isinstance(found, list) and step.isdecimal() else step]
    return found


def _list_of(body: bytes, field: tuple[str, ...], value: tuple[str, ...], path: str) -> array[int]:
    if not field and not body.lstrip().startswith((b"[", b"{")):
        return array("q", map(number_of, body.split()))
    try:
        entries = at(json.loads(body), field)
        if not isinstance(entries, list):
            raise TypeError
        return array("q", (number_of(at(entry, value)) for entry in entries))
    except (ValueError, LookupError, TypeError) as error:
        place = ".".join(field) or "the answer"
        raise SilentError(f"GET {path}: {place} must be a list of values or of entries that have one") from error
