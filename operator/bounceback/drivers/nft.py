"""Packets lost or refused, by a table of nf_tables for each order.

The table is owned by the socket that made it (`flags owner`, Linux 5.12): when the agent dies, however it dies, the
kernel takes the table away. Established flows are hit like new ones: nothing here looks at connection state.

Always spared: the loopback interface, neighbour and router discovery (an IPv6 peer must be findable again at once),
the exempt addresses and the pod's default gateways, which is where the node speaks from. With `reject` also the
resets and ICMP errors that tell a peer of the rejection.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bounceback.drivers import (
    DRAIN_SECONDS,
    FIRST_LOOK_SECONDS,
    NOTHING_MORE,
    PREFIX,
    KernelError,
    Refused,
    Site,
    tables,
)
from bounceback.drivers.libnft import Nft
from bounceback.drivers.netlink import NETLINK_NETFILTER, Netlink
from bounceback.drivers.nft_text import COUNTER, groups, peer_sets, present, sets, table, transport
from bounceback.types.choice import Choice
from bounceback.types.plan import Act, Direction, Drop, Feature, Flow, Order, Packets

FIRST: Final = "first"
FRESH: Final = "fresh"
_OPENS: Final = "tcp flags & (syn | ack) == syn"
# Units of nf_tables' limits in nanoseconds; the burst times the unit must fit in 64 bits.
_UNITS: Final = {"week": 604_800 * 10**9, "day": 86_400 * 10**9, "hour": 3600 * 10**9, "minute": 60 * 10**9}
_DICE: Final = 1_000_000
_SIDES: Final = {
    Direction.EGRESS: ("out",),
    Direction.INGRESS: ("in",),
    Direction.BOTH: ("out", "in"),
}
_HOOKS: Final = {"out": ("output", "oifname", "daddr", "dport"), "in": ("input", "iifname", "saddr", "sport")}


def needs_guard(features: frozenset[Feature]) -> bool:
    """On kernels that do not know owned tables a partition needs a guard, as a qdisc does."""
    return Feature.NFT_OWNER not in features


def probes() -> dict[Feature, str]:
    """What the kernel must accept for it to have the feature; each in a transaction that is then thrown away."""
    chain = f"add table {{0}} {PREFIX}probe; add chain {{0}} {PREFIX}probe c; add rule {{0}} {PREFIX}probe c "
    return {
        Feature.NFT_INET: f"add table inet {PREFIX}probe",
        Feature.NFT_IP: f"add table ip {PREFIX}probe; add table ip6 {PREFIX}probe",
        Feature.NFT_OWNER: f"add table ip {PREFIX}probe {{ flags owner; }}",
        Feature.NFT_REJECT: (chain + "reject with icmp type port-unreachable").format("ip"),
        Feature.NFT_NUMGEN: (chain + f"numgen random mod {_DICE} >= 5 accept").format("ip"),
        Feature.NFT_REDIRECT: (
            f"add table ip {PREFIX}probe; add chain ip {PREFIX}probe n {{ type nat hook output priority -100; }}; "
            f"add rule ip {PREFIX}probe n meta l4proto tcp redirect to :5"
        ),
        Feature.NFT_ZONE: (
            f"add table ip {PREFIX}probe; "
            f"add chain ip {PREFIX}probe z {{ type filter hook output priority -300; }}; "
            f"add rule ip {PREFIX}probe z ct zone set 5"
        ),
        Feature.NFT_LIMIT: (chain + f"{_first(5)} accept").format("ip"),
    }


def needs(act: Drop, guarded: bool) -> tuple[Feature, ...]:
    """Which features the order cannot do without, the family apart."""
    wanted = [(Feature.NFT_OWNER, not guarded), (Feature.NFT_REJECT, act.reject)]
    wanted.append((Feature.NFT_NUMGEN, act.choice.probability < 1 or act.choice.nth > 1))
    wanted.append((Feature.NFT_LIMIT, act.choice.first_n > 0))
    return tuple(feature for feature, asked in wanted if asked)


def apply(order: Order, site: Site) -> DropInForce:
    nft = Nft(site.netns)
    exempt = (*site.exempt, *tables.gateways(site.netns))
    try:
        tables.take_away(nft, site.netns, order.injection)  # what an earlier try left: it is carried out afresh
        used = _create(nft, order, site, exempt)
    except BaseException:
        nft.close()
        raise
    return DropInForce(order, site, nft, used, exempt)


def _create(nft: Nft, order: Order, site: Site, exempt: tuple[str, ...]) -> tuple[str, ...]:
    """The families used. What most kernels can is tried first; only where that fails, each feature for itself."""
    assert isinstance(order.act, Drop)
    try:
        nft.run(creation(order, exempt, ("inet",), owner=True))
    except KernelError:
        offered = {feature for feature, rules in probes().items() if nft.can(rules)}
        missing = [feature for feature in needs(order.act, site.guarded) if feature not in offered]
        if Feature.NFT_IP not in offered:
            missing.append(Feature.NFT_IP)
        if missing:
            raise Refused("MissingFeature", f"this node's kernel has no {', '.join(missing)}") from None
        nft.run(creation(order, exempt, ("ip", "ip6"), owner=Feature.NFT_OWNER in offered))
        return ("ip", "ip6")
    return ("inet",)


def undo(order: Order, site: Site) -> None:
    tables.undo(order.injection, site.netns)


class DropInForce:
    """A partition or random loss that is in force; see `drivers.InForce`."""

    first_look_seconds = FIRST_LOOK_SECONDS
    drain_seconds = DRAIN_SECONDS
    over_when_lifted = True
    farewell = NOTHING_MORE

    def __init__(self, order: Order, site: Site, nft: Nft, families: tuple[str, ...], exempt: tuple[str, ...]) -> None:
        self.detail = {"with": f"nft {' and '.join(families)}", "table": table(order.injection)}
        self._exempt = exempt
        self._order = order
        self._site = site
        self._nft = nft
        self._families = families
        self._peers = tables.Peers(nft, order.injection, families, _SIDES[order.direction], order.flows)
        self._reader = Netlink(site.netns, NETLINK_NETFILTER)

    def hits(self) -> int:
        name = table(self._order.injection)
        return sum(self._reader.counter(family, name, COUNTER) for family in self._families)

    def held(self) -> int:
        return 0

    def amend(self, flows: tuple[Flow, ...]) -> None:
        after = replace(self._order, flows=flows)
        self._peers.change(flows, lambda family, generation: rules(after, family, generation, self._exempt))
        self._order = after

    def change(self, act: Act | None) -> None:
        """One transaction. What is chosen may change, not what becomes of it; the first N are counted on."""
        before = self._order.act
        assert isinstance(before, Drop)
        assert act is None or isinstance(act, Drop)
        if act is not None and _fixed(act) != _fixed(before):
            raise KernelError("only the probability and the nth of a drop can be changed")
        lines = []
        for family in self._families:
            at = f"{family} {table(self._order.injection)}"
            lines.append(f"flush chain {at} chosen")
            if act is not None:
                lines += [f"add rule {at} chosen {rule}" for rule in _chosen(act)]
        self._nft.run("\n".join(lines))
        self._order = replace(self._order, act=act or before)

    def lift(self) -> None:
        """What was dropped until then is counted after that, and nothing else is dropped meanwhile."""
        self.change(None)

    def revert(self) -> None:
        tables.take_away(self._nft, self._site.netns, self._order.injection)
        self._nft.close()


def _fixed(act: Drop) -> tuple[object, ...]:
    """What a table has from its creation on."""
    return act.reject, act.packets, act.choice.first_n


# What the tables say: text from values, nothing else.


def creation(order: Order, exempt: tuple[str, ...], families: tuple[str, ...], owner: bool) -> str:
    """The whole order as one transaction."""
    assert isinstance(order.act, Drop)
    lines = []
    for family in families:
        at = f"{family} {table(order.injection)}"
        lines += [f"add table {at} {{ flags owner; }}" if owner else f"add table {at}"]
        lines += [f"add counter {at} {COUNTER}", f"add chain {at} lost", f"add chain {at} chosen"]
        if order.act.choice.first_n:
            lines.append(f"add limit {at} {FIRST} {{ {_first(order.act.choice.first_n).removeprefix('limit ')} }}")
        lines += [f"add rule {at} lost {statement}" for statement in _lost(order.act)]
        if order.act.packets is Packets.OPEN:
            kind = "type inet_service . inet_service; flags dynamic; size 262144;"
            lines.append(f"add set {at} {FRESH} {{ {kind} }}")
        lines += [f"add rule {at} chosen {rule}" for rule in _chosen(order.act)]
        for side in _SIDES[order.direction]:
            lines.append(f"add chain {at} {side} {{ type filter hook {_HOOKS[side][0]} priority filter; }}")
        lines += sets(at, family, {"exempt": exempt})
        lines += [*peer_sets(at, family, order.flows, 0), *rules(order, family, 0, exempt)]
    return "\n".join(lines)


def _lost(act: Drop) -> list[str]:
    """What becomes of a packet that was chosen."""
    if act.reject:
        return [f"meta l4proto tcp counter name {COUNTER} reject with tcp reset", f"counter name {COUNTER} reject"]
    return [f"counter name {COUNTER} drop"]


def _chosen(act: Drop) -> list[str]:
    """Of the packets of the flows, those to hit, as `types.choice` says: a condition is looked at if those before hold.

    The kernel throws its own dice: of a seed it knows nothing. Which connections are open already it is not asked (that
    would make it track them all): one whose opening is seen is fresh.
    """
    if act.packets is Packets.OPENING:
        return [f"{_OPENS} {_conditions(act.choice)}"]
    if act.packets is Packets.OPEN:
        both_ways = " ".join(
            f"add @{FRESH} {{ {pair} }}" for pair in ("tcp sport . tcp dport", "tcp dport . tcp sport")
        )
        known = f"tcp sport . tcp dport @{FRESH} accept"
        return [f"{_OPENS} {both_ways} accept", known, f"meta l4proto tcp {_conditions(act.choice)}"]
    return [_conditions(act.choice)]


def _first(count: int) -> str:
    """A limit that lets so many through and then one each week; of more than 30,000 one each day, hour or minute."""
    unit = next((unit for unit, length in _UNITS.items() if count * length < 2**63), "second")
    return f"limit rate 1/{unit} burst {count} packets"


def _conditions(choice: Choice) -> str:
    conditions = [f"numgen inc mod {choice.nth} {choice.nth - 1}"] if choice.nth > 1 else []
    if choice.probability < 1:
        conditions.append(f"numgen random mod {_DICE} < {round(choice.probability * _DICE)}")
    if choice.first_n:
        conditions.append(f'limit name "{FIRST}"')
    return " ".join([*conditions, "goto lost"])


def rules(order: Order, family: str, generation: int, exempt: tuple[str, ...]) -> list[str]:
    """What is spared, and after it what is lost."""
    assert isinstance(order.act, Drop)
    lines = []
    for side in _SIDES[order.direction]:
        _, interface, address, port = _HOOKS[side]
        each = [f'{interface} "lo" accept', *_discovery(family)]
        each += _answers(family) if order.act.reject else []
        each += [f"{kind} {address} @exempt{suffix} accept" for kind, suffix in present(family, exempt)]
        for n, ((protocol, ports), cidrs) in enumerate(groups(order.flows).items()):
            narrowed = transport(protocol, ports, port)
            for kind, suffix in present(family, cidrs):
                each.append(f"{kind} {address} @g{generation}n{n}_{suffix} {narrowed}goto chosen")
        if not order.flows:
            each.append("goto chosen")
        lines += [f"add rule {family} {table(order.injection)} {side} {rule}" for rule in each]
    return lines


def _discovery(family: str) -> list[str]:
    kinds = "nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, nd-router-advert"
    return [] if family == "ip" else [f"icmpv6 type {{ {kinds} }} accept"]


def _answers(family: str) -> list[str]:
    rules = ["tcp flags & rst == rst accept"]
    rules += [] if family == "ip6" else ["icmp type destination-unreachable accept"]
    rules += [] if family == "ip" else ["icmpv6 type destination-unreachable accept"]
    return rules
