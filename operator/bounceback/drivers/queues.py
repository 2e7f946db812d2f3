"""How Bounceback's qdiscs are laid out on an interface: names, numbers and commands, from values alone.

An interface that an order is on gets a `prio` root (handle bb00:) of sixteen bands. The first three carry normal
traffic as the kernel's default does; each order has one of the others, with its netem or tbf below it and u32 filters
that send its flows there. What arrives is led through an ifb device of its own, which is built in the same way. Where
the kernel has no prio, the root is an `htb` whose classes have the bands' numbers, and a rate that nothing reaches.

Everything is found again by number alone, so that a guard, a verifier or a restarted agent needs no memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bounceback.drivers import PREFIX
from bounceback.types.plan import Flow

ROOT: Final = 0xBB00_0000
ROOTS: Final = ("prio", "htb")  # the first that the kernel has
SLOTS: Final = 13  # prio has sixteen bands at most
INGRESS_PREF: Final = 0xBB  # of the filter that leads arriving traffic to the ifb
EXEMPT_PREFS: Final = (10, 11)
IFB: Final = f"{PREFIX}ifb"
_FIRST_BAND: Final = 4
_FIRST_PREF: Final = 100
_PREFS: Final = 4  # a slot's: IPv4 and IPv6, of this and of the next generation of flows
_NORMAL: Final = "bb00:2"
_BANDS: Final = {"prio": (1, 2, 3), "htb": (2,)}  # that carry normal traffic
_UNREACHED: Final = "htb rate 100gbit quantum 200000"
_NORMAL_LIMIT: Final = 10_000  # packets; some interfaces have a queue length of none
_PROTOCOLS: Final = {"TCP": 6, "UDP": 17}
DEFAULT_KINDS: Final = frozenset({"noqueue", "pfifo_fast", "fq_codel", "fq", "pfifo", "mq"})


def ours(handle: int) -> bool:
    return handle & 0xFF00_0000 == 0xBB00_0000


def band(slot: int) -> int:
    return _FIRST_BAND + slot


def handle(slot: int) -> int:
    """Of the slot's qdisc."""
    return ROOT | band(slot) << 16


def slot_of_handle(number: int) -> int | None:
    """None for the root and the bands of normal traffic."""
    found = (number >> 16 & 0xFF) - _FIRST_BAND
    return found if ours(number) and 0 <= found < SLOTS else None


def slot_of_pref(pref: int) -> int | None:
    found = (pref - _FIRST_PREF) // _PREFS
    return found if 0 <= found < SLOTS else None


def prefs(slot: int, generation: int) -> tuple[int, int]:
    """IPv4's and IPv6's."""
    first = _FIRST_PREF + slot * _PREFS + generation % 2 * 2
    return first, first + 1


def ifb(link: int) -> str:
    """The device that the arriving traffic of interface number `link` goes through."""
    return f"{IFB}{link}"


def root(device: str, exempt: Iterable[str], arriving: bool, kind: str = "prio") -> list[str]:
    """`arriving`: peers are in the source address, as they are on an ifb. `kind` is one of ROOTS."""
    if kind == "prio":
        bands = "bands 16 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1"
        lines = [f"qdisc add dev {device} root handle bb00: prio {bands}"]
    else:
        lines = [f"qdisc add dev {device} root handle bb00: htb default 2"]
        lines += [f"class add dev {device} parent bb00: classid {_NORMAL} {_UNREACHED}"]
    for n in _BANDS[kind]:
        lines.append(f"qdisc add dev {device} parent bb00:{n} handle bb0{n}: pfifo limit {_NORMAL_LIMIT}")
    four, six = EXEMPT_PREFS
    for cidr in exempt:
        lines.append(_filter(device, six if ":" in cidr else four, Flow(cidr), "", 0, arriving, _NORMAL))
    for kinds in ("0x84 0xfc", "0x88 0xfe"):  # ICMPv6 types 132 to 137: neighbours and routers stay known
        match = f"match ip6 protocol 58 0xff match u8 {kinds} at 40"
        lines.append(f"filter add dev {device} parent bb00: protocol ipv6 pref {six} u32 {match} flowid {_NORMAL}")
    return lines


def arrivals(device: str, through: str) -> list[str]:
    match = "u32 match u32 0 0 action mirred egress redirect dev"
    return [
        f"qdisc add dev {device} handle ffff: ingress",
        f"filter add dev {device} parent ffff: protocol all pref {INGRESS_PREF} {match} {through}",
    ]


def place(device: str, slot: int, root: str) -> list[str]:
    """What the slot's qdisc needs above it, by the root's kind; prio has all its bands from the start."""
    if root == "prio":
        return []
    return [f"class replace dev {device} parent bb00: classid bb00:{band(slot):x} {_UNREACHED}"]


def leaf(verb: str, device: str, slot: int, words: str) -> str:
    """The slot's qdisc, to `add` or to `change`."""
    return f"qdisc {verb} dev {device} parent bb00:{band(slot):x} handle bb{band(slot):02x}: {words}"


def filters(device: str, slot: int, generation: int, flows: tuple[Flow, ...], arriving: bool) -> list[str]:
    """What sends the flows (none: everything) to the slot's band."""
    four, six = prefs(slot, generation)
    to = f"bb00:{band(slot):x}"
    lines = []
    for flow in flows or (Flow("0.0.0.0/0"), Flow("::/0")):
        pref = six if ":" in flow.cidr else four
        protocols = [flow.protocol] if flow.protocol or not flow.ports else ["TCP", "UDP"]
        for protocol in protocols:
            for port in flow.ports or (0,):
                lines.append(_filter(device, pref, flow, protocol, port, arriving, to))
    return lines


def without_filters(device: str, there: Iterable[int]) -> list[str]:
    """Takes the filters of these preferences away."""
    return [
        f"filter del dev {device} parent bb00: pref {pref} protocol {'ip' if pref % 2 == 0 else 'ipv6'}"
        for pref in sorted(there)
    ]


def _filter(device: str, pref: int, flow: Flow, protocol: str, port: int, arriving: bool, to: str) -> str:
    """One u32 filter; protocol "" and port 0 are any."""
    version, kind = ("ipv6", "ip6") if ":" in flow.cidr else ("ip", "ip")
    match = f"match {kind} {'src' if arriving else 'dst'} {flow.cidr}"
    if protocol:
        match += f" match {kind} protocol {_PROTOCOLS[protocol]} 0xff"
    if port:
        match += f" match {kind} {'sport' if arriving else 'dport'} {port} 0xffff"
    return f"filter add dev {device} parent bb00: protocol {version} pref {pref} u32 {match} flowid {to}"
