"""TLS connections as the rules want them: to some a bad certificate, half a handshake or plain text; the others pass.

A connection that no rule hits is handed back untouched before a byte of it was taken, so TLS goes end to end: the true
server's certificate, the client's own, ALPN, tickets, all as without us. We never decrypt what a client sends a server.

The name is that of the ClientHello (SNI). What does not begin with one is not TLS to us and passes: protocols that
speak plainly first and change to TLS later (STARTTLS, PostgreSQL's sslmode), and servers that speak first, whose
clients we wait for in vain for FIRST_SECONDS.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from bounceback.proxy import original
from bounceback.proxy.certificates import Certificates
from bounceback.proxy.handshake import End, shake_hands
from bounceback.proxy.hello import HANDSHAKE, RECORD, SERVER_HELLO, Hello, Unfinished, client_hello, handshake_message
from bounceback.proxy.named import Applied, Book, Shelf
from bounceback.proxy.relay import Accepted
from bounceback.proxy.side import reset_socket
from bounceback.types.names import CERTIFICATES, CutAfter, CutBy, TlsAnswer, TlsRule, plain

FIRST_SECONDS: Final = 1.0  # for a client's first byte
HELLO_SECONDS: Final = 10.0  # for all of its hello
FAREWELL_SECONDS: Final = 2.0
SERVER_SECONDS: Final = 15.0
LARGEST_PEEK: Final = 131_072
PLAIN_TEXT: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request"
)
"""What Go's net/http says to a ClientHello on a port without TLS."""


@dataclass(slots=True)
class TlsCount:
    """Of one rule. `seen` are the connections that it is about, `hits` those that it answered."""

    seen: int = 0
    hits: int = 0
    ends: Counter[End] = field(default_factory=Counter)  # of handshakes with a bad certificate
    alerts: Counter[str] = field(default_factory=Counter)  # that clients refused it with, by name

    @property
    def accepted(self) -> int:
        """Clients that took a certificate which they should have refused."""
        return self.ends[End.ACCEPTED]

    def to_json(self) -> dict[str, Any]:
        return {
            "seen": self.seen,
            "hits": self.hits,
            "accepted": self.accepted,
            "alerts": dict(self.alerts),
            "ends": {str(end): count for end, count in self.ends.items()},
        }


@dataclass(slots=True)
class TlsTraffic:
    """Of all connections, rules or none."""

    answered: int = 0  # by a rule
    passed: int = 0
    other: int = 0  # passed, because they did not begin with a ClientHello
    unreachable: int = 0  # whose server was to say hello, and did not


def _is_about(applied: Applied[TlsRule, TlsCount], server_name: str) -> bool:
    """ "" is a client that names nobody: only a rule for all names is about it."""
    return not applied.rule.names or (bool(server_name) and applied.fits(server_name))


TlsShelf = Shelf[TlsRule, TlsCount]


class TlsGate:
    """A handler of the relay's: looks at each connection first, and answers those that a rule hits."""

    def __init__(self, certificates: Certificates, shelf: TlsShelf | None = None) -> None:
        self._certificates = certificates
        self._book: Book[TlsRule, TlsCount] = Book(TlsCount, shelf)
        self._leaves: dict[str, ssl.SSLContext] = {}  # for rules in force that bring one
        self.traffic = TlsTraffic()

    def put(self, rules: Mapping[str, TlsRule]) -> None:
        """These from now on, by name; under the same name a rule goes on counting.

        Connections that have passed stay as they are. Raises ValueError for an authority that was not given, and for a
        leaf that cannot be shown.
        """
        for name, rule in rules.items():
            if not self._certificates.knows(rule.authority):
                raise ValueError(f"{name}: no authority {rule.authority!r} was given")
        self._leaves = {rule.leaf: self._certificates.shown(rule.leaf) for rule in rules.values() if rule.leaf}
        self._book.put(rules)

    def counts(self) -> dict[str, TlsCount]:
        """Of all rules that there ever were."""
        return self._book.counts()

    async def __call__(self, accepted: Accepted) -> bool:
        """Whether a rule has answered the connection, which is closed then."""
        if not self._book.active:
            self.traffic.passed += 1
            return False
        hello = await peek(accepted.sock)
        if hello is None:
            self.traffic.other += 1
            return False
        server_name = plain(hello.server_name)
        about = (applied for applied in self._book.active if _is_about(applied, server_name))
        chosen = next((applied for applied in about if applied.hits_next()), None)
        if chosen is None:
            self.traffic.passed += 1
            return False
        self.traffic.answered += 1
        try:
            await self._answer(chosen, server_name, accepted)
        finally:
            accepted.sock.close()
        return True

    async def _answer(self, chosen: Applied[TlsRule, TlsCount], server_name: str, accepted: Accepted) -> None:
        rule, sock = chosen.rule, accepted.sock
        if rule.answer in CERTIFICATES:
            await self._present(chosen, server_name or _asked_address(sock), sock)
        elif rule.answer is TlsAnswer.PLAIN_TEXT:
            with suppress(OSError):
                await asyncio.get_running_loop().sock_sendall(sock, PLAIN_TEXT)
            await farewell(sock)
        else:
            await self._cut(rule, accepted)

    async def _cut(self, rule: TlsRule, accepted: Accepted) -> None:
        reset = rule.cut_by is CutBy.RESET
        if rule.cut_after is CutAfter.SERVER_HELLO:
            try:
                await _pass_server_hello(accepted)
            except OSError:
                self.traffic.unreachable += 1
                reset = True  # as any client of a server that is not there
        if reset:
            reset_socket(accepted.sock)
        else:
            await farewell(accepted.sock)

    async def _present(self, chosen: Applied[TlsRule, TlsCount], name: str, sock: socket.socket) -> None:
        rule = chosen.rule
        try:
            if rule.leaf:
                context = self._leaves[rule.leaf]
            else:
                context = self._certificates.context(rule.answer, name, rule.authority)
        except ValueError:  # no certificate can be for such a name
            chosen.count.ends[End.FAILED] += 1
            reset_socket(sock)
            return
        outcome = await shake_hands(sock, context)
        chosen.count.ends[outcome.end] += 1
        if outcome.end is End.REFUSED:
            chosen.count.alerts[outcome.why] += 1
        await farewell(sock)


async def peek(sock: socket.socket) -> Hello | None:
    """The ClientHello that the client's bytes begin with, all of which are still to be read; None: there is none."""
    try:
        async with asyncio.timeout(FIRST_SECONDS) as limit:
            return await _peek(sock, limit)
    except (TimeoutError, OSError):
        return None
    finally:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _peek(sock: socket.socket, limit: asyncio.Timeout) -> Hello | None:
    needed = 1
    while True:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)  # or what is there wakes us again and again
        await _readable(sock)
        if needed == 1:
            limit.reschedule(asyncio.get_running_loop().time() + HELLO_SECONDS)
        try:
            data = sock.recv(LARGEST_PEEK, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        found = client_hello(data)
        if not isinstance(found, Unfinished):
            return found
        if len(data) < needed or found.needed > LARGEST_PEEK:  # woken by the end, not by what was waited for
            return None
        needed = found.needed


async def _readable(sock: socket.socket) -> None:
    woken = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sock, woken.set)
    try:
        await woken.wait()
    finally:
        loop.remove_reader(sock)


async def farewell(sock: socket.socket) -> None:
    """FIN, after all that was sent; and what still comes is read, or closing would be an RST."""
    with suppress(OSError, TimeoutError):
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(FAREWELL_SECONDS):
            while await asyncio.get_running_loop().sock_recv(sock, LARGEST_PEEK):
                pass


async def _pass_server_hello(accepted: Accepted) -> None:
    """The true server's ServerHello, alone even where more is in its record; or whatever else it says to this client.

    Raises OSError where there is no server.
    """
    loop = asyncio.get_running_loop()
    server = await accepted.dial()
    try:
        async with asyncio.timeout(SERVER_SECONDS):
            await loop.sock_sendall(server, await loop.sock_recv(accepted.sock, LARGEST_PEEK))
            said = b""
            while isinstance(found := handshake_message(said, SERVER_HELLO), Unfinished):
                if not (data := await loop.sock_recv(server, LARGEST_PEEK)):
                    break
                said += data
        if isinstance(found, bytes):
            message = bytes([SERVER_HELLO]) + len(found).to_bytes(3, "big") + found
            version = int.from_bytes(said[1:3], "big")
            said = RECORD.pack(HANDSHAKE, version, len(message)) + message
        await loop.sock_sendall(accepted.sock, said)
    except TimeoutError as error:
        raise OSError("the true server does not answer") from error
    finally:
        server.close()


def _asked_address(sock: socket.socket) -> str:
    """Where a client that names nobody was going: certificates hold addresses, too."""
    try:
        return original.destination(sock)[0]
    except OSError:  # not redirected
        return str(sock.getsockname()[0])
