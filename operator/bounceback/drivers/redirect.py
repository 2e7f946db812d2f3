"""What the table of a relay says: connections with the peers are led to its ports. Text from values, nothing else.

Each relay's own packets carry a mark, and a table leaves alone what a relay of its place or a later one sends. The
tables are asked in the order of their places: a connection goes through all relays that are about it, one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from bounceback.drivers.nft_text import COUNTER, groups, peer_sets, present, sets, table, transport
from bounceback.types.plan import Direction, Flow, Order, Redirect

MARK: Final = 0xBB00
MOST: Final = 16  # relays of one target
PRIORITY: Final = -100 - MOST  # of the first one's chains: before those of others at the usual -100 (dstnat)
_SIDES: Final = {  # hook, interface, address and port of the peer
    "out": ("output", "oifname", "daddr", "dport"),
    "in": ("prerouting", "iifname", "saddr", "sport"),
}
Ports = Mapping[str, Mapping[str, int]]
"""By side ("out": connections that the target opens, "in": that it takes) and family ("ip", "ip6")."""


def sides(order: Order) -> tuple[str, ...]:
    """Names and certificates are asked for by who opens a connection; all else is done to both kinds."""
    assert isinstance(order.act, Redirect)
    return ("out",) if order.act.speaks != "tcp" else ("out", "in")


def creation(
    order: Order, slot: int, exempt: tuple[str, ...], families: tuple[str, ...], ports: Ports, owner: bool
) -> str:
    """The whole redirect as one transaction."""
    lines = []
    for family in families:
        at = f"{family} {table(order.injection)}"
        lines += [f"add table {at} {{ flags owner; }}" if owner else f"add table {at}", f"add counter {at} {COUNTER}"]
        for side in sides(order):
            lines.append(f"add chain {at} {side} {{ type nat hook {_SIDES[side][0]} priority {PRIORITY + slot}; }}")
        lines += sets(at, family, {"exempt": exempt})
        lines += peer_sets(at, family, order.flows, 0)
        lines += [f"add rule {at} {side} {rule}" for side, rule in rules(order, slot, exempt, family, 0, ports)]
    return "\n".join(lines)


def rules(
    order: Order, slot: int, exempt: tuple[str, ...], family: str, generation: int, ports: Ports
) -> Iterator[tuple[str, str]]:
    """Side and rule: what is spared, and after it what is led to the relay."""
    assert isinstance(order.act, Redirect)
    for side in sides(order):
        _, interface, address, port = _SIDES[side]
        yield side, f"meta mark {MARK + slot}-{MARK + MOST - 1} accept"
        yield side, f'{interface} "lo" accept'
        for kind, suffix in present(family, exempt):
            yield side, f"{kind} {address} @exempt{suffix} accept"
        for kind, number in ports[side].items():
            if family not in (kind, "inet"):
                continue
            of_kind = f"meta nfproto {'ipv4' if kind == 'ip' else 'ipv6'} "
            lead = f"counter name {COUNTER} redirect to :{number}"
            for who in _who(order.flows, kind, generation, address, port):
                for which in _openings(order.act, port):
                    yield side, f"{of_kind}{who}{which}{lead}"


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
