"""One look at the system by HTTP or TCP.

Each look makes a connection of its own. One that is kept open goes on working through a partition that cuts new ones
off, through a dead name server and past a replica that no longer accepts, and would hide all of these.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from typing import Any, Final

import aiohttp

from bounceback.api.looks import HttpLook, TcpLook
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.names import Names, open_socket, refuse_forbidden

LONGEST_BODY: Final = 1024 * 1024
"""Bytes of an answer that are read; what comes after them is neither waited for nor looked at."""
LARGEST_JSON: Final = 256 * 1024
"""Bytes of an answer that an expression looks into."""
ANY_STATUS: Final = 0


def probe_session(names: Names) -> aiohttp.ClientSession:
    """Connections that serve once, as many as it takes; no cookies, no proxies, no time limit of its own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, force_close=True, use_dns_cache=False, resolver=names, socket_factory=open_socket
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        headers={"User-Agent": "bounceback-probe", "Accept-Encoding": "identity"},
    )


async def ask_by_http(session: aiohttp.ClientSession, look: HttpLook, *, kept: bool) -> dict[str, Any]:
    """The whole exchange: name, connection, request, answer with its body, which is looked into where it is `kept`.

    Raises NotHealthyError.
    """
    began = time.monotonic()
    try:
        async with session.request(look.method, look.url, allow_redirects=look.follow_redirects) as answer:
            body = _Body((look.expect_body or "").encode(), LARGEST_JSON + 1 if kept else 0)
            await body.read(answer)
    except (aiohttp.ClientError, OSError) as error:
        raise NotHealthyError(in_a_line(error)) from error
    milliseconds = round((time.monotonic() - began) * 1000)
    if wrong := _unexpected(look, answer, milliseconds, body):
        raise NotHealthyError(wrong)
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    found = body.json() if kept else None
    return {"status": answer.status, "headers": headers, "json": found, "milliseconds": milliseconds}


def _unexpected(look: HttpLook, answer: aiohttp.ClientResponse, milliseconds: int, body: _Body) -> str | None:
    if look.expect_status not in (ANY_STATUS, answer.status):
        return f"status {answer.status}, expected {look.expect_status}"
    for name, wanted in look.expect_headers.items():
        values = answer.headers.getall(name, [])
        if wanted not in values:
            return f"header {name}: {', '.join(values)[:80] or 'none'}, expected {wanted}"
    if not body.found:
        return f"the answer does not contain {(look.expect_body or '')[:80]!r}"
    bound = look.expect_within_milliseconds
    if bound is not None and milliseconds > bound:
        return f"answered after {milliseconds} ms, expected within {bound}"
    return None


class _Body:
    """Is read through, and kept only as far as somebody asked: many looks are under way at once."""

    def __init__(self, wanted: bytes, keep: int) -> None:
        self._wanted = wanted
        self._keep = keep
        self._kept = bytearray()
        self.found = not wanted

    async def read(self, answer: aiohttp.ClientResponse) -> None:
        end, size = b"", 0
        async for chunk in answer.content.iter_any():
            self.found = self.found or self._wanted in end + chunk
            end = (end + chunk)[-len(self._wanted) :]
            self._kept += chunk[: self._keep - len(self._kept)]
            size += len(chunk)
            if size >= LONGEST_BODY:
                break

    def json(self) -> Any:
        """None for what is no JSON. Raises NotHealthyError for what is too large to be looked into."""
        if len(self._kept) > LARGEST_JSON:
            raise NotHealthyError(f"the answer is larger than {LARGEST_JSON} bytes, too large for an expression")
        return json_or_none(bytes(self._kept))


def json_or_none(text: str | bytes) -> Any:
    """What the text says as JSON, or None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


async def first_bytes(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body, or its first `limit` bytes."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) >= limit:
            break
    return bytes(body[:limit])


async def look_by_tcp(names: Names, look: TcpLook) -> str | None:
    """Open a connection and close it; the addresses of a name are tried one after the other."""
    refusal = "the name has no address"
    try:
        found = await names.addresses(look.host, look.port)
    except OSError as error:
        return in_a_line(error)
    for family, address in found:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            try:
                refuse_forbidden(address[0])
                await asyncio.get_running_loop().sock_connect(connection, address)
            except OSError as error:
                refusal = in_a_line(error)
            else:
                return None
    return refusal


def in_a_line(error: Exception) -> str:
    """What went wrong, for people."""
    match error:
        case socket.gaierror():
            return f"host name not found: {error.strerror or error}"
        case aiohttp.ClientConnectorDNSError():
            return f"host name {error.host} not found: {_cause(error.os_error)}"
        case aiohttp.ClientConnectorCertificateError():
            return f"certificate not trusted: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            return _cause(error.os_error)
        case aiohttp.ServerDisconnectedError():
            return "connection closed before an answer"
        case aiohttp.ClientPayloadError():
            return "connection closed within the answer"
        case aiohttp.TooManyRedirects():
            return "too many redirects"
        case aiohttp.InvalidURL():
            return f"not an address: {error}"
        case aiohttp.ClientResponseError():
            return f"not a valid HTTP answer: {error.message}".splitlines()[0]
        case OSError():
            return _cause(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _cause(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, ConnectionResetError):
        return "connection reset"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error.strerror or error)
    return os.strerror(error.errno).lower()
