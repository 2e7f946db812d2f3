"""A handshake with a certificate that should be refused, and what the client makes of it."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

HANDSHAKE_SECONDS: Final = 15.0
STAY_SECONDS: Final = 5.0
"""Some clients look at the certificate only when the handshake is done. Who is still there after so long, or has sent
something, has taken it."""
AT_A_TIME: Final = 65_536


class End(StrEnum):
    """How it ended."""

    REFUSED = "refused"  # by an alert
    CLOSED = "closed"  # before the handshake was done, without a word
    WITHDREW = "withdrew"  # after the handshake was done, before anything was sent
    ACCEPTED = "accepted"  # the client speaks, or waits, over a connection that it should not trust
    FAILED = "failed"  # nothing was found that both sides can: no fault of the certificate
    SLOW = "slow"  # not done in HANDSHAKE_SECONDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """`why` is the alert by its name in RFC 8446 (certificate_expired), or OpenSSL's reason where it FAILED."""

    end: End
    why: str = ""


async def shake_hands(sock: socket.socket, context: ssl.SSLContext) -> Outcome:
    """Over a socket that does not block, from the client's first byte on. Nothing of its data is read but one byte."""
    talk = _Talk(sock, context)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            if not await talk.until(talk.tls.do_handshake):
                return Outcome(End.CLOSED)
    except TimeoutError:
        return Outcome(End.SLOW)
    except ssl.SSLError as error:
        await talk.flush()
        return Outcome(End.REFUSED, alert) if (alert := alert_of(error)) else Outcome(End.FAILED, _reason(error))
    except OSError:
        return Outcome(End.CLOSED)
    try:
        async with asyncio.timeout(STAY_SECONDS):
            end = End.ACCEPTED if await talk.until(talk.read_one) else End.WITHDREW
    except TimeoutError:
        end = End.ACCEPTED
    except ssl.SSLError as error:
        return Outcome(End.REFUSED, alert) if (alert := alert_of(error)) else Outcome(End.WITHDREW)
    except OSError:
        return Outcome(End.WITHDREW)
    await talk.end()
    return Outcome(end)


class _Talk:
    """TLS over a socket, without a transport: each byte goes where we say."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=True)

    def read_one(self) -> None:
        """Raises SSLZeroReturnError when the client has nothing to say any more (close_notify)."""
        if not self.tls.read(1):
            raise ssl.SSLZeroReturnError

    async def until(self, done: Callable[[], None]) -> bool:
        """Give it what the client sends until it succeeds; False: the client is gone. Raises SSLError and OSError."""
        while True:
            try:
                done()
            except ssl.SSLWantReadError:
                await self.flush()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return False
            else:
                await self.flush()
                return True
            if not (data := await self._loop.sock_recv(self._sock, AT_A_TIME)):
                return False
            self._in.write(data)

    async def end(self) -> None:
        """Say that nothing will follow (close_notify), to who may be gone."""
        with suppress(OSError):  # of which SSLError is one: no answer is waited for
            self.tls.unwrap()
        with suppress(OSError):
            await self.flush()

    async def flush(self) -> None:
        if self._out.pending:
            await self._loop.sock_sendall(self._sock, self._out.read())


def alert_of(error: ssl.SSLError) -> str:
    """The alert that the other side sent, from OpenSSL's name of the error (SSLV3_ALERT_CERTIFICATE_EXPIRED), or ""."""
    found = re.search(r"ALERT_(\w+)", error.reason or "")
    return found[1].lower() if found else ""


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "unknown").lower()
