"""The proxy: connections of clients on the one side, the API server on the other, rules between them."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Protocol

from bounceback.proxy.api.behavior import Behavior
from bounceback.proxy.api.carrying import Carrier, needs_body
from bounceback.proxy.api.client import Client
from bounceback.proxy.api.exchange import HEAD_END, PASS, Exchange, Known, fingerprint
from bounceback.proxy.api.identity import Identities, mark
from bounceback.proxy.api.lateness import Lateness, Waiting
from bounceback.proxy.api.rulebook import MOST_REMEMBERED, Applied, Count, Rulebook
from bounceback.proxy.api.server import Server
from bounceback.proxy.api.status import Limiter
from bounceback.proxy.api.watched import WatchedAnswer
from bounceback.types.api_request import ApiRequest
from bounceback.types.api_rule import OF_WATCHES, ApiRule, RateLimit, SpoilToken, Token

Json = dict[str, Any]
AUTHORIZATION: Final = re.compile(rb"\r\n(?i:authorization):[ \t]*(.*)\r")  # so written it is found three times as fast
COMPLAINS_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The API server."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    server_name: str = ""  # in its certificate, where it is not the host
    prefix: str = ""  # of all its paths


Ends = tuple[int, int]
"""The ports of a client's connection: its own, and ours."""
Kill = Callable[[str, Ends], Awaitable[bool]]
"""Ends the processes that hold a connection, for the rule of that name; whether there were any."""


async def nobody(_rule: str, _ends: Ends) -> bool:
    """Is killed."""
    return False


class Observer(Waiting, Protocol):
    """Who is told how clients behave; see `Behavior`."""

    def asked(self, request: ApiRequest, fingerprint: int, now: float) -> None: ...

    def answered(
        self,
        request: ApiRequest,
        fingerprint: int,
        code: int,
        now: float,
        retry_after: float | None,
        by_us: bool,
        lost: bool,
    ) -> None: ...

    def watch_ended(self, request: ApiRequest, now: float, clean: bool) -> None: ...

    def report(self, now: float) -> Json: ...


class Gate:
    """Lives in one event loop. `follow` changes the rules."""

    def __init__(self, upstream: Upstream, kill: Kill = nobody, observer: Observer | None = None) -> None:
        """`kill` is for rules that ask for it."""
        self._upstream = upstream
        self.kill = kill
        self._book = Rulebook()
        self._asks = False  # whether there is any rule
        self._identities = Identities()
        self._known: dict[tuple[bytes, bytes], Known] = {}
        self._clients: set[Client] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._draining = False
        self._accepted = self._requests = self._ours = 0
        self._silent_until = 0.0  # says nothing before of an API server that it cannot reach
        self.behavior: Observer = Behavior() if observer is None else observer
        self._lateness = Lateness(self.behavior)
        self._watches: dict[Exchange, WatchedAnswer] = {}
        self._limiters: dict[str, Limiter] = {}
        self._tokens: dict[str, dict[str, int]] = {}  # by rule and user: the token that was the current one

    # Rules

    def follow(self, rules: Iterable[ApiRule]) -> None:
        """Exactly these from now on. Raises ValueError."""
        listed = tuple(rules)
        self._book.change(listed)
        self._asks = bool(listed)
        self._known.clear()
        names = {rule.name for rule in listed}
        self._limiters = {name: limiter for name, limiter in self._limiters.items() if name in names}
        self._tokens = {name: tokens for name, tokens in self._tokens.items() if name in names}
        for watched in tuple(self._watches.values()):
            watched.follow(self.of_watch(watched.exchange))

    def counts(self) -> Mapping[str, Count]:
        """By rule, those that are gone included."""
        return self._book.counts()

    def forget(self, names: Iterable[str]) -> None:
        """See `Rulebook.forget`."""
        self._book.forget(names)

    # Connections

    def connection(self) -> Client:
        """For `loop.create_server`."""
        return Client(self)

    @property
    def draining(self) -> bool:
        """Whether clients are to go when they have their answer."""
        return self._draining

    def enter(self, client: Client) -> None:
        self._accepted += 1
        self._clients.add(client)
        self._empty.clear()

    def left(self, client: Client) -> None:
        self._clients.discard(client)
        if not self._clients:
            self._empty.set()

    async def drain(self, seconds: float) -> int:
        """Who asks nothing goes at once, the others once they are answered; reset who is left, and say how many."""
        self._draining = True
        for client in tuple(self._clients):
            if client.exchange is None:
                client.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), seconds)
        left = tuple(self._clients)
        for client in left:
            client.reset()
        return len(left)

    def counted(self) -> Json:
        """Rules with what they saw and hit, and what went through."""
        return {
            "rules": {name: {"seen": count.seen, "hits": count.hits} for name, count in self.counts().items()},
            "connections": self._accepted,
            "open": len(self._clients),
            "requests": self._requests,
            "answeredByUs": self._ours,
            "behavior": self.behavior.report(monotonic()),
        }

    def go_to(self, upstream: Upstream, *, anew: bool = False) -> None:
        """Connections from now on; those that are open stay. `anew`: each until the request that it carries is over,
        so that nobody goes on by a certificate that ends."""
        self._upstream = upstream
        self._known.clear()
        if anew:
            for client in tuple(self._clients):
                client.dial_anew()

    async def dial(self, client: Client) -> Server:
        """Raises OSError."""
        up = self._upstream
        try:
            _, server = await asyncio.get_running_loop().create_connection(
                lambda: Server(self, client),
                up.host,
                up.port,
                ssl=up.tls,
                server_hostname=(up.server_name or up.host) if up.tls is not None else None,
            )
        except OSError as error:
            self._complain(error)
            raise
        return server

    def _complain(self, error: OSError) -> None:
        """Clients see no more than a reset."""
        if (now := monotonic()) >= self._silent_until:
            self._silent_until = now + COMPLAINS_SECONDS
            log.warning("the API server at %s, port %d: %s", self._upstream.host, self._upstream.port, error)

    # Exchanges

    def exchange(self, client: Client, method: bytes, url: bytes, raw: list[bytes]) -> Exchange:
        self._requests += 1
        if (known := self._known.get((method, url))) is None:
            known = self._know(method, url)
        exchange = Exchange(client, known, raw)
        if known.watches:
            self.user(exchange)  # rules that come later ask for it, and the request is gone then
        return exchange

    def _know(self, method: bytes, url: bytes) -> Known:
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        known = Known(method.decode("ascii"), url.decode("latin-1"), self._upstream.prefix)
        known.concerns = bool(self._book.concerned(known.request))
        self._known[method, url] = known
        return known

    def begin(self, exchange: Exchange) -> None:
        """Its head is there; carry it out."""
        if exchange.known.concerns and (hits := self._book.hits(exchange.request, self.user(exchange))):
            self._carry(exchange, hits)
        else:
            exchange.opened = True

    def _carry(self, exchange: Exchange, hits: Sequence[Applied]) -> None:
        if needs_body(hits):
            exchange.body = []
        exchange.task = asyncio.get_running_loop().create_task(Carrier(self, exchange, hits).carry())
        exchange.task.add_done_callback(lambda task: _carried(task, exchange))

    def answered(self, exchange: Exchange) -> None:
        """The API server's answer is complete."""
        if exchange.answered:
            return
        exchange.answered = True
        if exchange.reply is PASS:  # what is held the client has not heard yet
            self.told(exchange, retry_after=exchange.retry_after)
        if exchange.task is None:
            exchange.client.finished(exchange)
        else:
            exchange.wake()

    def lost(self, exchange: Exchange) -> None:
        """Its client is gone."""
        self.told(exchange, lost=True)
        if exchange.task is not None:
            exchange.task.cancel()
        for applied in self._book.applied:
            applied.held.pop(exchange, None)
        if (watched := self._watches.pop(exchange, None)) is not None:
            watched.close()

    def requested(self, exchange: Exchange) -> None:
        """All of the request is there."""
        exchange.requested = True
        exchange.fingerprint = fingerprint(exchange)
        self.behavior.asked(exchange.request, exchange.fingerprint, monotonic())
        if exchange.task is not None:
            exchange.wake()

    def told(
        self, exchange: Exchange, *, ours: bool = False, retry_after: float | None = None, lost: bool = False
    ) -> None:
        """What the client was told in the end, once; `ours`: not by the API server."""
        if exchange.told or not exchange.requested:
            return
        exchange.told = True
        self._ours += ours
        self.behavior.answered(
            exchange.request, exchange.fingerprint, exchange.code, monotonic(), retry_after, exchange.touched, lost
        )
        if lost or exchange.code >= 400:
            self._lateness.watch()

    # Watches

    def of_watch(self, exchange: Exchange) -> tuple[Applied, ...]:
        """The rules on watches that it is about."""
        if not self._asks:
            return ()
        about = self._book.about(exchange.request, self.user(exchange))
        return tuple(applied for applied in about if isinstance(applied.rule.act, OF_WATCHES))

    def watching(self, watched: WatchedAnswer) -> None:
        """It is open."""
        self.told(watched.exchange)
        self._watches[watched.exchange] = watched

    def watched(self, watched: WatchedAnswer) -> None:
        """It is over."""
        self._watches.pop(watched.exchange, None)

    def watch_ended(self, exchange: Exchange, *, clean: bool) -> None:
        """For the client; `clean`: between events, and with no error."""
        self.behavior.watch_ended(exchange.request, monotonic(), clean)
        self._lateness.watch()

    # For who carries one

    def user(self, exchange: Exchange) -> str:
        """Who asks, as far as we can tell."""
        if exchange.user is None:
            token = self._token(exchange)
            exchange.user = self._identities.of(token) if token else exchange.client.certified
        return exchange.user

    def limiter(self, applied: Applied) -> Limiter:
        act = applied.rule.act
        assert isinstance(act, RateLimit)
        if (found := self._limiters.get(applied.rule.name)) is None:
            found = self._limiters[applied.rule.name] = Limiter(act.per_second, act.burst)
        return found

    def is_spoilt(self, applied: Applied, spoil: SpoilToken, exchange: Exchange) -> bool:
        """Whether the token that it came with is one of those."""
        if spoil.which is Token.ALL:
            return True
        users = self._tokens.setdefault(applied.rule.name, {})
        token = self._token(exchange)
        return users.setdefault(self.user(exchange), mark(token)) == mark(token)

    def hold(self, applied: Applied, exchange: Exchange) -> None:
        """Nothing comes any more, until the rule is lifted; then an RST."""
        applied.held[exchange] = exchange.client.reset

    @staticmethod
    def _token(exchange: Exchange) -> bytes:
        """The Authorization header; empty where there is none."""
        whole = exchange.raw[0] if len(exchange.raw) == 1 else b"".join(exchange.raw)
        found = AUTHORIZATION.search(whole, 0, whole.find(HEAD_END) + 2)
        return found[1] if found is not None else b""


def _carried(task: asyncio.Task[None], exchange: Exchange) -> None:
    """A mistake of ours must not leave a client waiting."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s of %s: %r", exchange.request.verb, exchange.request.qualified, error)
        exchange.client.reset()
