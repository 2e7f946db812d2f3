"""One look at the system by HTTP or TCP: None when it is healthy, else what happened, in a line.

Each look makes a connection of its own. One that is kept open goes on working through a partition that cuts new ones
off, through a dead name server and past a replica that no longer accepts, and would hide all of these.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Final

import aiohttp

from bounceback.api.probes import HttpLook, TcpLook
from bounceback.recovery.names import Names, open_socket, refuse_forbidden

LONGEST_BODY: Final = 1024 * 1024
"""Bytes of an answer that are read; what comes after them is neither waited for nor looked at."""


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


async def look_by_http(session: aiohttp.ClientSession, look: HttpLook) -> str | None:
    """The whole exchange: name, connection, request, answer with its body."""
    try:
        async with session.request(look.method, look.url, allow_redirects=look.follow_redirects) as answer:
            found = await _contains(answer, (look.expect_body or "").encode())
            if answer.status != look.expect_status:
                return f"status {answer.status}, expected {look.expect_status}"
            return None if found else f"the answer does not contain {(look.expect_body or '')[:80]!r}"
    except (aiohttp.ClientError, OSError) as error:
        return in_a_line(error)


async def _contains(answer: aiohttp.ClientResponse, wanted: bytes) -> bool:
    """Whether the text is in the body, which is read through and not kept: many looks are under way at once."""
    found, end, size = False, b"", 0
    async for chunk in answer.content.iter_any():
        found = found or wanted in end + chunk
        end = (end + chunk)[-len(wanted) :]
        size += len(chunk)
        if size >= LONGEST_BODY:
            break
    return found or not wanted


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
