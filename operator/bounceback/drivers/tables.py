"""An order's tables in a kernel: found by the injection's name, given other peers, taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bounceback.drivers.libnft import Nft
from bounceback.drivers.netlink import NETLINK_NETFILTER, NETLINK_ROUTE, Netlink
from bounceback.drivers.netns import Netns
from bounceback.drivers.nft_text import peer_sets, set_names, table
from bounceback.types.plan import Flow


def gateways(netns: Netns) -> tuple[str, ...]:
    """Where the node speaks from: the target's default gateways, which are spared like the exempt addresses."""
    netlink = Netlink(netns, NETLINK_ROUTE)
    try:
        return tuple(sorted(netlink.gateways()))
    finally:
        netlink.close()


def take_away(nft: Nft, netns: Netns, injection: str) -> None:
    """Its tables, if there are any: those that `nft` owns, and those without an owner. Raises KernelError."""
    netlink = Netlink(netns, NETLINK_NETFILTER)
    try:
        found = netlink.tables()
    finally:
        netlink.close()
    for family, name in found:
        if name == table(injection):
            nft.run(f"delete table {family} {name}")


def undo(injection: str, netns: Netns) -> None:
    """See `drivers.Driver`."""
    nft = Nft(netns)
    try:
        take_away(nft, netns, injection)
    finally:
        nft.close()


class Peers:
    """Whom the tables of an order are about; `rules` makes those of one family and generation of peers."""

    def __init__(
        self, nft: Nft, injection: str, families: Iterable[str], sides: Iterable[str], flows: tuple[Flow, ...]
    ) -> None:
        self._nft, self._injection = nft, injection
        self._families, self._sides = tuple(families), tuple(sides)
        self._flows = flows
        self._generation = 0

    def change(self, flows: tuple[Flow, ...], rules: Callable[[str, int], list[str]]) -> None:
        """Two transactions: the kernel takes up rules a moment before the elements of sets that came with them.

        After the first one both the old and the new peers are hit; the second takes the old ones away.
        """
        former, following = self._generation, self._generation + 1
        with_both, without_old = [], []
        for family in self._families:
            at = f"{family} {table(self._injection)}"
            new = rules(family, following)
            with_both += [*peer_sets(at, family, flows, following), *new]
            without_old += [f"flush chain {at} {side}" for side in self._sides]
            without_old += [*new, *(f"delete set {at} {each}" for each in set_names(self._flows, family, former))]
        self._nft.run("\n".join(with_both))
        self._flows, self._generation = flows, following
        self._nft.run("\n".join(without_old))
