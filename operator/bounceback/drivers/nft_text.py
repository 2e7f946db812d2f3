"""Parts of nftables rules that all our tables are made of: names, sets of peers, ports. Text from values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from bounceback.drivers import PREFIX
from bounceback.types.plan import Flow

COUNTER: Final = "hits"
_LONGEST: Final = 200  # of a table's name; the kernel takes 255
_SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
_ADDRESSES: Final = {"ip": ("4", "ipv4_addr"), "ip6": ("6", "ipv6_addr")}
Group = tuple[str, tuple[int, ...]]
"""A protocol ("": any) and ports (none: all)."""


def table(injection: str) -> str:
    return PREFIX + "".join(letter if letter in _SAFE else "_" for letter in injection)[:_LONGEST]


def groups(flows: Iterable[Flow]) -> dict[Group, list[str]]:
    """One set of addresses for all flows of the same protocol and ports."""
    found: dict[Group, list[str]] = {}
    for flow in flows:
        found.setdefault((flow.protocol, flow.ports), []).append(flow.cidr)
    return found


def sets(at: str, family: str, members: dict[str, Sequence[str]]) -> list[str]:
    """What adds sets of these names with these CIDRs to the table `at`, one for each address family."""
    lines = []
    for name, cidrs in members.items():
        for kind, suffix in present(family, cidrs):
            elements = ", ".join(cidr for cidr in cidrs if (":" in cidr) == (kind == "ip6"))
            flags = "flags interval; auto-merge;"
            lines.append(
                f"add set {at} {name}{suffix} {{ type {_ADDRESSES[kind][1]}; {flags} elements = {{ {elements} }}; }}"
            )
    return lines


def peer_sets(at: str, family: str, flows: Iterable[Flow], generation: int) -> list[str]:
    """One set for all peers of the same protocol and ports; `generation` keeps those of an amended order apart."""
    return sets(at, family, {f"g{generation}n{n}_": cidrs for n, cidrs in enumerate(groups(flows).values())})


def set_names(flows: Iterable[Flow], family: str, generation: int) -> list[str]:
    """Of what `peer_sets` makes."""
    return [
        f"g{generation}n{n}_{suffix}"
        for n, cidrs in enumerate(groups(flows).values())
        for _, suffix in present(family, cidrs)
    ]


def present(family: str, cidrs: Iterable[str]) -> list[tuple[str, str]]:
    """The address families that occur among `cidrs` and that a table of `family` sees, with their sets' suffix."""
    there = {"ip6" if ":" in cidr else "ip" for cidr in cidrs}
    return [(kind, suffix) for kind, (suffix, _) in _ADDRESSES.items() if kind in there and family in (kind, "inet")]


def transport(protocol: str, ports: Iterable[int], side: str) -> str:
    """What selects a protocol and ports; `side` is dport or sport. Ends with a space, or is empty."""
    numbers = ", ".join(str(port) for port in ports)
    if not numbers:
        return f"meta l4proto {protocol.lower()} " if protocol else ""
    if not protocol:
        return f"meta l4proto {{ tcp, udp }} th {side} {{ {numbers} }} "
    return f"{protocol.lower()} {side} {{ {numbers} }} "
