"""Rules for what flows, inside a target's network: in connections, and in datagrams to peers that are named."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from time import monotonic
from typing import Final

from bounceback.proxy.counters import Traffic
from bounceback.proxy.inside_tcp import Connections
from bounceback.proxy.listening import bound
from bounceback.proxy.rulebook import Rulebook
from bounceback.proxy.task import LOCAL, Json, Ports, Task, can_listen
from bounceback.proxy.udp import Datagrams, Waiting
from bounceback.proxy.upstream import Fixed
from bounceback.types.datagrams import Pair, named
from bounceback.types.relay import rule_from

LISTENER: Final = "udp"
"""What rules for datagrams name as theirs: all listeners together, so that a rate is one of all of them."""
HELD: Final = (16_384, 16 << 20)
"""Datagrams, and their bytes, that are held: the target's memory limit pays."""
IDLE_SECONDS: Final = 300.0
"""Longer than the kernel remembers whom the answers are for (120 s, net.netfilter.nf_conntrack_udp_timeout_stream)."""
QUIET_SECONDS: Final = 0.5
"""Once nothing was heard for so long, nobody waits for an answer through us."""


class Exchanges:
    """Datagrams of the target to each of the peers, and the answers. The peer sees another port of the target."""

    def __init__(self, mark: int) -> None:
        self._mark = mark
        self._book = Rulebook()
        self._waiting = Waiting(*HELD)
        self._listeners: dict[Pair, Datagrams] = {}
        self._next = 1

    def reach(self, pairs: Collection[Pair]) -> dict[str, int]:
        """Listen for exactly these peers; the ports, but for peers of a family that this network does not have.

        Raises OSError, and those that were there before stay as they are.
        """
        opened: dict[Pair, Datagrams] = {}
        try:
            for pair in pairs:
                if pair not in self._listeners and can_listen(_here(pair)):
                    opened[pair] = self._open(pair)
        except OSError:
            for listener in opened.values():
                listener.close()
            raise
        for pair in self._listeners.keys() - set(pairs):
            self._listeners.pop(pair).close()
        self._listeners |= opened
        return {named(pair): listener.address[1] for pair, listener in self._listeners.items()}

    def follow(self, rules: list[Json]) -> None:
        """Exactly these from now on. Raises ValueError."""
        if self._book.change([rule_from(rule) for rule in rules], monotonic(), self._next):
            for listener in self._listeners.values():
                listener.follow()

    @property
    def hits(self) -> int:
        return sum(counter.hits for counter in self._book.counters().values())

    async def drain(self, seconds: float) -> None:
        """What is held goes now; then answers may come, for as long as there are some."""
        for listener in self._listeners.values():
            listener.let_go()
        began = monotonic()
        while self._listeners:
            left = min(began + seconds, max(began, self._heard()) + QUIET_SECONDS) - monotonic()
            if left <= 0:
                break
            await asyncio.sleep(left)
        self.reach(())

    def _heard(self) -> float:
        return max((listener.heard for listener in self._listeners.values()), default=0.0)

    def _open(self, pair: Pair) -> Datagrams:
        return Datagrams(
            LISTENER,
            bound(_here(pair), 0, socket.SOCK_DGRAM),
            Fixed(*pair, self._mark),
            self._book,
            Traffic(),
            self._take_number,
            self._waiting,
            IDLE_SECONDS,
        )

    def _take_number(self) -> int:
        number, self._next = self._next, self._next + 1
        return number


class Everything(Connections):
    """Connections, and exchanges by datagrams. What is `open`, and cut off at the end, are connections."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._pairs = task.pairs
        self._exchanges = Exchanges(task.mark)

    async def listen(self) -> Ports:
        return {**await super().listen(), LISTENER: self._exchanges.reach(self._pairs)}

    def reach(self, pairs: Collection[Pair]) -> dict[str, int]:
        """Listen for datagrams to exactly these. Raises OSError."""
        return self._exchanges.reach(pairs)

    def follow(self, rules: list[Json]) -> None:
        super().follow([rule for rule in rules if rule["listener"] != LISTENER])
        self._exchanges.follow([rule for rule in rules if rule["listener"] == LISTENER])

    def seen(self) -> Json:
        seen = super().seen()
        return {**seen, "hits": seen["hits"] + self._exchanges.hits}

    async def drain(self, seconds: float) -> int:
        reset, _ = await asyncio.gather(super().drain(seconds), self._exchanges.drain(seconds))
        return reset


def _here(pair: Pair) -> str:
    return LOCAL["ip6" if ":" in pair[0] else "ip"]
