"""What the table of a relay says: connections with the peers are led to its ports. Text from values, nothing else.

Each relay's own packets carry a mark, and a table leaves alone what a relay of its place or a later one sends. The
tables are asked in the order of their places: a connection goes through all relays that are about it, one by one.

Datagrams that are led to a listener are tracked in a zone of conntrack that has the number of the listener's port. The
kernel redirects what is new in a zone, so also what the target was saying before; and once the table is gone, nobody
looks into that zone any more: nothing is led to a listener that is not there, whoever else has the kernel track.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bounceback.drivers.nft_text import COUNTER, groups, peer_sets, present, sets, table, transport
from bounceback.types.datagrams import named, pairs
from bounceback.types.plan import Direction, Flow, Order, Redirect

MARK: Final = 0xBB00
MOST: Final = 16  # relays of one target
PRIORITY: Final = -100 - MOST  # of the first one's chains: before those of others at the usual -100 (dstnat)
ZONES: Final = "zones"
_BEFORE_TRACKING: Final = -300 - MOST  # conntrack is at -200
_SIDES: Final = {  # hook, interface, address and port of the peer
    "out": ("output", "oifname", "daddr", "dport"),
    "in": ("prerouting", "iifname", "saddr", "sport"),
}
_LOOPBACK: Final = {"ip": "127.0.0.1", "ip6": "::1"}
Ports = Mapping[str, Mapping[str, int]]
"""By side ("out": connections that the target opens, "in": that it takes) and family ("ip", "ip6"); those for datagrams
by "udp" and the peer as `named`."""


def sides(order: Order) -> tuple[str, ...]:
    """Names and certificates are asked for by who opens a connection; all else is done to both kinds."""
    assert isinstance(order.act, Redirect)
    return ("out",) if order.act.speaks != "tcp" else ("out", "in")


@dataclass(frozen=True, slots=True)
class Lead:
    """Who is led where. `zoned`: the kernel knows zones; without them datagrams are led only where they are queries."""

    order: Order
    slot: int
    exempt: tuple[str, ...]
    ports: Ports
    zoned: bool = True

    def towards(self, flows: tuple[Flow, ...], ports: Ports) -> Lead:
        return replace(self, order=replace(self.order, flows=flows), ports=ports)

    @property
    def chains(self) -> tuple[str, ...]:
        return (*sides(self.order), *((ZONES,) if self.zoned else ()))

    def creation(self, families: tuple[str, ...], owner: bool) -> str:
        """The whole redirect as one transaction."""
        lines = []
        for family in families:
            at = f"{family} {table(self.order.injection)}"
            lines.append(f"add table {at} {{ flags owner; }}" if owner else f"add table {at}")
            lines.append(f"add counter {at} {COUNTER}")
            for side in sides(self.order):
                hook = f"type nat hook {_SIDES[side][0]} priority {PRIORITY + self.slot}"
                lines.append(f"add chain {at} {side} {{ {hook}; }}")
            if self.zoned:
                hook = f"type filter hook output priority {_BEFORE_TRACKING + self.slot}"
                lines.append(f"add chain {at} {ZONES} {{ {hook}; }}")
            lines += sets(at, family, {"exempt": self.exempt})
            lines += peer_sets(at, family, self.order.flows, 0)
            lines += self.rules(family, 0)
        return "\n".join(lines)

    def rules(self, family: str, generation: int) -> list[str]:
        """What is spared, and after it what is led to the relay."""
        at = f"{family} {table(self.order.injection)}"
        lines = [f"add rule {at} {side} {rule}" for side in sides(self.order) for rule in self._led(side, family)]
        lines += [f"add rule {at} {side} {rule}" for side, rule in self._connections(family, generation)]
        if self.zoned:
            lines += [f"add rule {at} {ZONES} {rule}" for rule in self._zones(family, generation)]
        return lines

    def release(self, families: tuple[str, ...]) -> str:
        """Nobody is led to the relay any more, and who was stays: the kernel goes on translating addresses only while
        there is a chain that could, and a rule that asks for what is tracked."""
        lines = []
        for family in families:
            at = f"{family} {table(self.order.injection)}"
            lines += [f"flush chain {at} {chain}" for chain in self.chains]
            lines.append(f"add rule {at} out ct state new accept")
            if self.zoned:
                lines += [f"add rule {at} {ZONES} {rule}" for rule in self._answers(family)]
        return "\n".join(lines)

    def _spared(self, side: str, family: str) -> Iterator[str]:
        _, interface, address, _ = _SIDES[side]
        yield f"meta mark {MARK + self.slot}-{MARK + MOST - 1} accept"
        yield f'{interface} "lo" accept'
        for kind, suffix in present(family, self.exempt):
            yield f"{kind} {address} @exempt{suffix} accept"

    def _led(self, side: str, family: str) -> Iterator[str]:
        """Those spared, and datagrams."""
        yield from self._spared(side, family)
        if side == "out":
            for kind, found in self._datagrams(family):
                lead = f"counter name {COUNTER} redirect to :{kind} daddr . udp dport map"
                yield f"{kind} daddr . udp dport {{ {', '.join(found)} }} {lead} {_map(found)}"

    def _connections(self, family: str, generation: int) -> Iterator[tuple[str, str]]:
        assert isinstance(self.order.act, Redirect)
        for side in sides(self.order):
            _, _, address, port = _SIDES[side]
            for kind, number in self._listening(side, family):
                lead = f"counter name {COUNTER} redirect to :{number}"
                for who in _who(self.order.flows, kind, generation, address, port):
                    for which in _openings(self.order.act, port):
                        yield side, f"{_of(kind, family)}{who}{which}{lead}"

    def _zones(self, family: str, generation: int) -> Iterator[str]:
        """Before the kernel tracks a datagram."""
        yield "meta l4proto != udp accept"
        yield from self._answers(family)
        yield from self._spared("out", family)
        for kind, found in self._datagrams(family):
            yield f"ct zone set {kind} daddr . udp dport map {_map(found)}"
        if self._asks:
            for kind, number in self._listening("out", family):
                for who in _who(self.order.flows, kind, generation, "daddr", "dport"):
                    yield f"{_of(kind, family)}{who}udp dport 53 ct zone set {number}"

    def _answers(self, family: str) -> Iterator[str]:
        """What the relay tells the target is of the zone in which that asked."""
        for kind, found in self._datagrams(family):
            numbers = {str(number): number for number in found.values()}
            yield f"{kind} saddr {_LOOPBACK[kind]} ct zone set udp sport map {_map(numbers)}"
        if self._asks:
            for kind, number in self._listening("out", family):
                yield f"{kind} saddr {_LOOPBACK[kind]} udp sport {number} ct zone set {number}"

    @property
    def _asks(self) -> bool:
        assert isinstance(self.order.act, Redirect)
        return self.order.act.speaks == "dns"

    def _listening(self, side: str, family: str) -> Iterator[tuple[str, int]]:
        return ((kind, number) for kind, number in self.ports[side].items() if family in (kind, "inet"))

    def _datagrams(self, family: str) -> Iterator[tuple[str, dict[str, int]]]:
        """By address family: peers, and the ports of their listeners."""
        listening = self.ports.get("udp", {})
        found = [pair for pair in pairs(self.order.flows) if named(pair) in listening] if listening else []
        for kind in ("ip", "ip6"):
            of_kind = {named(pair): listening[named(pair)] for pair in found if (":" in pair[0]) == (kind == "ip6")}
            if of_kind and family in (kind, "inet"):
                yield kind, of_kind


def _map(found: Mapping[str, int]) -> str:
    return f"{{ {', '.join(f'{key} : {number}' for key, number in found.items())} }}"


def _of(kind: str, family: str) -> str:
    """A table of one family alone sees no other, and must not ask."""
    return f"meta nfproto {'ipv4' if kind == 'ip' else 'ipv6'} " if family == "inet" else ""


def _openings(act: Redirect, port: str) -> Iterator[str]:
    """Packets that open something. Where nobody tracked connections before, those of old ones look new as well."""
    asks = f"th {port} 53 " if act.speaks == "dns" else ""
    yield f"{asks}tcp flags & (fin | syn | rst | ack) == syn "
    if asks:
        yield f"{asks}meta l4proto udp "


def _who(flows: tuple[Flow, ...], kind: str, generation: int, address: str, port: str) -> Iterator[str]:
    """What selects packets of the peers of one address family; one that selects all where no peer is named."""
    if not flows:
        yield ""
    for n, ((protocol, numbers), cidrs) in enumerate(groups(flows).items()):
        for _, suffix in present(kind, cidrs):
            if protocol != "UDP":
                yield f"{kind} {address} @g{generation}n{n}_{suffix} {transport(protocol, numbers, port)}"


def seen_from(side: str, way: Direction) -> Direction:
    """The relay takes its client's part. Who opens a connection that the target takes is the peer: all is turned."""
    turned = {Direction.EGRESS: Direction.INGRESS, Direction.INGRESS: Direction.EGRESS}
    return way if side == "out" else turned.get(way, way)
