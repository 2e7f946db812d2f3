"""Connections led through a relay of ours in the target's network: rules for what flows, for names, for certificates.

The relay is a child process (proxy/inside.py). nftables redirects new connections to it, in a table that the kernel
takes away with this process, and the kernel ends the child with it too. So nothing needs to be undone by others where
tables have owners. Connections that are open when the order begins are not redirected: they are reset, or kept, as the
order says. At the end the redirect goes first; the relay then lets its connections end, and resets those that do not.

Datagrams to peers that the order names with their ports are led to a listener for each; they are redirected from the
first one on, whatever was said before, and at the end what is held is let go, and answers are waited for a moment.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Collection
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import IO, Any, Final

from bounceback.drivers import FIRST_LOOK_SECONDS, KernelError, Refused, Site, redirect, tables
from bounceback.drivers.libnft import Nft
from bounceback.drivers.nft_text import table
from bounceback.types.datagrams import Pair, pairs
from bounceback.types.plan import Act, Direction, Feature, Flow, Order, Redirect
from bounceback.types.relay import STREAM_ONLY

START_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 2.0
END_SECONDS: Final = 2.0
LAST_WORDS: Final = 4096  # bytes
OF_STREAMS: Final = frozenset(kind.__name__ for kind in STREAM_ONLY)
Json = dict[str, Any]


def apply(order: Order, site: Site) -> Relayed:
    return start(order, site).apply()


def start(order: Order, site: Site) -> Starting:
    """See `drivers.Starter`."""
    return Starting(order, site)


class Starting:
    """A relay that comes up: nothing is led to it yet. See `drivers.Started`."""

    def __init__(self, order: Order, site: Site) -> None:
        if site.slot >= redirect.MOST:
            raise Refused("Conflict", f"a target can have {redirect.MOST} relays at once, this is one more")
        try:
            wanted = _pairs(order)
        except ValueError as error:
            raise Refused("CannotRelay", str(error)) from error
        self._order, self._site = order, site
        self._child = Child(order, site, wanted)

    def apply(self) -> Relayed:
        order, site, child = self._order, self._site, self._child
        with ExitStack() as stack:
            stack.callback(child.end)
            nft = Nft(site.netns)
            stack.callback(nft.close)
            tables.take_away(nft, site.netns, order.injection)  # what an earlier try left: it is carried out afresh
            ports = child.await_ports()
            lead, families = _redirect(nft, order, site, ports)
            closed = _reset_open(order, site)
            stack.pop_all()
        return Relayed(order, site, nft, child, lead, families, closed)

    def end(self) -> None:
        self._child.end()


def _redirect(nft: Nft, order: Order, site: Site, ports: redirect.Ports) -> tuple[redirect.Lead, tuple[str, ...]]:
    """What is in force, and the families used: one table for both where the kernel can, else one for each.

    Queries are led without zones, too, if need be: who asks them does so from a socket of its own each time.
    """
    assert isinstance(order.act, Redirect)
    exempt = (*site.exempt, *tables.gateways(site.netns))
    zoned = redirect.Lead(order, site.slot, exempt, ports, zoned=order.act.speaks != "tls")
    leads = (zoned, replace(zoned, zoned=False)) if order.act.speaks == "dns" else (zoned,)
    tries = ((("inet",), True), (("ip", "ip6"), True), (("ip",), True), (("ip", "ip6"), False))
    trouble = KernelError("not tried")
    for families, owner in tries:
        if not owner and not site.guarded:
            continue
        for lead in leads:
            try:
                nft.run(lead.creation(families, owner))
            except KernelError as error:
                trouble = error
            else:
                return lead, families
    needs = f"{Feature.NFT_REDIRECT} or no {Feature.NFT_ZONE}" if ports.get("udp") else Feature.NFT_REDIRECT
    raise Refused("MissingFeature", f"this node's kernel has no {needs}: {trouble}")


def _pairs(order: Order) -> tuple[Pair, ...]:
    """Peers of UDP, where a rule has something to do for datagrams. Raises ValueError, as `datagrams.pairs` does."""
    assert isinstance(order.act, Redirect)
    if order.act.speaks != "tcp" or not any(_for_datagrams(rule) for rule in json.loads(order.act.rules)):
        return ()
    return pairs(order.flows)


def _for_datagrams(rule: Json) -> bool:
    return rule["act"]["does"] not in OF_STREAMS


def _reset_open(order: Order, site: Site) -> int:
    """How many connections were open and are reset, if that is asked for."""
    assert isinstance(order.act, Redirect)
    if order.act.existing != "Reset":
        return 0
    from bounceback.drivers import sockets

    return sockets.destroy(site.netns, order.flows, redirect.sides(order), site.exempt)


def undo(order: Order, site: Site) -> None:
    """The child died with the agent; where the kernel knows no owners of tables, the redirect did not."""
    tables.undo(order.injection, site.netns)


class Child:
    """The relay's process. What it says is read when somebody asks."""

    def __init__(self, order: Order, site: Site, wanted: tuple[Pair, ...]) -> None:
        assert isinstance(order.act, Redirect)
        self._order = order
        with site.netns.entered():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bounceback.proxy.inside"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._out: IO[bytes] = self._process.stdout
        self._complaints: IO[bytes] = self._process.stderr
        for pipe in (self._out, self._complaints):
            os.set_blocking(pipe.fileno(), False)
        self._partial = self._heard = b""
        self.seen: Json = {"hits": 0, "open": 0}
        self.drained: int | None = None
        self._say(
            {
                "parent": os.getpid(),
                "speaks": order.act.speaks,
                "sides": redirect.sides(order),
                "mark": redirect.MARK + site.slot,
                "servers": site.resolvers,
                "pairs": wanted,
                "rules": self._rules(order.act),
            }
        )

    def await_ports(self) -> redirect.Ports:
        """Raises KernelError when it does not come up."""
        ports: redirect.Ports = self._await("ports", START_SECONDS)
        return ports

    def reach(self, wanted: Collection[Pair]) -> dict[str, int]:
        """Listen for datagrams to exactly these; where. Raises KernelError."""
        self._read()  # an answer that came too late is no answer to this
        self._say({"pairs": sorted(wanted)})
        ports: dict[str, int] = self._await("datagrams", ANSWER_SECONDS)
        return ports

    def follow(self, act: Redirect | None) -> None:
        """Other rules, or none. Raises KernelError."""
        self._say({"rules": self._rules(act) if act else []})
        self._await("following", ANSWER_SECONDS)

    def drain(self, seconds: float) -> None:
        self._say({"drain": seconds})

    def listen(self) -> None:
        """Take in what it said meanwhile. Raises KernelError when it is not there any more."""
        self._read()
        if self._process.poll() is not None and self.drained is None:
            raise KernelError(f"the relay ended: {self._last_words()}")

    def end(self) -> None:
        """It is gone afterwards, and has said what it had to cut off."""
        assert self._process.stdin is not None
        if self._out.closed:
            return
        with suppress(OSError):  # it has ended already
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._read()
        self._out.close()
        self._complaints.close()

    def _rules(self, act: Redirect) -> list[Json]:
        """Those for connections once for each listener: what the target sends is what the client of some gets."""
        rules: list[Json] = json.loads(act.rules)
        if act.speaks != "tcp":
            return rules
        listeners = [(side, family) for side in redirect.sides(self._order) for family in ("ip", "ip6")]
        datagrams = [
            {**rule, "name": f"{rule['name']}/udp", "listener": "udp"} for rule in rules if _for_datagrams(rule)
        ]
        return datagrams + [
            {
                **rule,
                "name": f"{rule['name']}/{side}-{family}",
                "direction": redirect.seen_from(side, Direction(rule["direction"])),
                "listener": f"{side}-{family}",
            }
            for side, family in listeners
            for rule in rules
        ]

    def _say(self, message: Json) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise KernelError(f"the relay ended: {self._last_words() or error}") from error

    def _await(self, what: str, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0:
                selector.select(left)
                for message in self._read():
                    if "refused" in message:
                        raise KernelError(f"the relay refused: {message['refused']}")
                    if what in message:
                        return message[what]
                if self._process.poll() is not None:
                    raise KernelError(f"the relay ended: {self._last_words()}")
        raise KernelError(f"the relay did not answer within {seconds:.0f} s")

    def _read(self) -> list[Json]:
        messages = []
        while chunk := self._out.read():
            *lines, self._partial = (self._partial + chunk).split(b"\n")
            messages += [json.loads(line) for line in lines]
        while chunk := self._complaints.read():  # a pipe that nobody reads stops who writes to it
            self._heard = (self._heard + chunk)[-LAST_WORDS:]
        for message in messages:
            self.seen = message.get("seen", self.seen)
            if "drained" in message:  # once when asked to, and once when it ends
                self.drained = (self.drained or 0) + message["drained"]
        return messages

    def _last_words(self) -> str:
        self._read()
        return self._heard.decode(errors="replace").strip().rpartition("\n")[2][:300]


class Relayed:
    """Connections that go through a relay; see `drivers.InForce`."""

    def __init__(
        self,
        order: Order,
        site: Site,
        nft: Nft,
        child: Child,
        lead: redirect.Lead,
        families: tuple[str, ...],
        closed: int,
    ) -> None:
        assert isinstance(order.act, Redirect)
        self.detail = {"with": f"relay by nft {' and '.join(families)}", "table": table(order.injection)}
        if order.act.existing == "Reset":
            self.detail["reset"] = str(closed)
        self.first_look_seconds = FIRST_LOOK_SECONDS
        self.drain_seconds = order.act.drain
        self.over_when_lifted = True  # rules go with the redirect; connections only stay
        self.farewell: dict[str, Any] = {}
        self._order, self._site, self._nft, self._child = order, site, nft, child
        self._lead, self._families = lead, families
        self._peers = tables.Peers(nft, order.injection, families, lead.chains, order.flows)

    def hits(self) -> int:
        self._child.listen()
        return int(self._child.seen["hits"])

    def held(self) -> int:
        """Connections that have not ended yet."""
        self._child.listen()
        return 0 if self._child.drained is not None else max(1, int(self._child.seen["open"]))

    def amend(self, flows: tuple[Flow, ...]) -> None:
        """The relay listens for the new peers before anybody is led there, and for the old ones until nobody is."""
        after = replace(self._order, flows=flows)
        try:
            former, following = _pairs(self._order), _pairs(after)
        except ValueError as error:
            raise KernelError(str(error)) from error
        ports = self._lead.ports
        if former != following:
            ports = {**ports, "udp": self._child.reach({*former, *following})}
        lead = self._lead.towards(flows, ports)
        stays = former
        try:
            self._peers.change(flows, lead.rules)
            self._order, self._lead, stays = after, lead, following
        finally:
            if former != following:
                self._child.reach(stays)

    def change(self, act: Act | None) -> None:
        assert act is None or isinstance(act, Redirect)
        self._child.follow(act)

    def lift(self) -> None:
        """New connections go straight; those that the relay has may end by themselves for a while, without faults."""
        self._nft.run(self._lead.release(self._families))
        self._child.follow(None)
        self._child.drain(self.drain_seconds)

    def revert(self) -> None:
        tables.take_away(self._nft, self._site.netns, self._order.injection)
        self._child.end()
        last = {
            "cutOff": self._child.drained,
            **{key: self._child.seen.get(key) for key in ("accepted", "alerts", "ends")},
        }
        self.farewell = {key: value for key, value in last.items() if value}
        self._nft.close()
