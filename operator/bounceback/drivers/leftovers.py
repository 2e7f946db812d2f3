"""What Bounceback has left in a network namespace: looked for on the spot, not concluded from what was done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bounceback.drivers import PREFIX, KernelError, Site, queues
from bounceback.drivers.netlink import INGRESS, NETLINK_NETFILTER, NETLINK_ROUTE, ROOT, Netlink
from bounceback.drivers.netns import Netns
from bounceback.drivers.nft_text import table
from bounceback.types.plan import Order, Queued


@dataclass(frozen=True, slots=True)
class Found:
    """Something of ours, and whose it is: a table's name, a qdisc's slot, or all such orders' together."""

    what: str
    table: str = ""
    slot: int | None = None


def left(netns: Netns, still: Iterable[tuple[Order, Site]] = ()) -> list[str]:
    """What is there and belongs to none of the orders that are `still` in force. Raises KernelError."""
    return sorted(found.what for found in unaccounted(look(netns), still))


def unaccounted(found: Iterable[Found], still: Iterable[tuple[Order, Site]]) -> list[Found]:
    tables = {table(order.injection) for order, _ in still if not isinstance(order.act, Queued)}
    slots = {site.slot for order, site in still if isinstance(order.act, Queued)}

    def accounted(each: Found) -> bool:
        if each.table:
            return each.table in tables
        return bool(slots) if each.slot is None else each.slot in slots

    return [each for each in found if not accounted(each)]


def look(netns: Netns) -> list[Found]:
    """Everything of ours in the namespace. Raises KernelError."""
    return [*_tables(netns), *_traffic_control(netns)]


def _tables(netns: Netns) -> list[Found]:
    try:
        netlink = Netlink(netns, NETLINK_NETFILTER)
    except KernelError:  # a kernel without nf_tables has no tables
        return []
    try:
        tables = netlink.tables()
    finally:
        netlink.close()
    return [Found(f"nft table {family} {name}", table=name) for family, name in tables if name.startswith(PREFIX)]


def _traffic_control(netns: Netns) -> list[Found]:
    netlink = Netlink(netns, NETLINK_ROUTE)
    try:
        links = {link.index: link.name for link in netlink.links()}
        found = [Found(f"link {name}") for name in links.values() if name.startswith(PREFIX)]
        for qdisc in netlink.qdiscs():
            where = f"qdisc {links.get(qdisc.link, qdisc.link)} {qdisc.handle >> 16:x}: {qdisc.kind}"
            if queues.ours(qdisc.handle):
                found.append(Found(where, slot=queues.slot_of_handle(qdisc.handle)))
            elif qdisc.parent == INGRESS and queues.INGRESS_PREF in netlink.filters(qdisc.link, qdisc.handle):
                found.append(Found(where))
            if qdisc.handle == queues.ROOT and qdisc.parent == ROOT:
                prefs = netlink.filters(qdisc.link, queues.ROOT)
                found += [_filter(links.get(qdisc.link, ""), pref) for pref in prefs]
        return found
    finally:
        netlink.close()


def _filter(device: str, pref: int) -> Found:
    return Found(f"filter {device} bb00: pref {pref}", slot=queues.slot_of_pref(pref))
