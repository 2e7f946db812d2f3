"""Qdiscs that trouble packets, on all interfaces of the target but the loopback: what netem and rate have in common.

A qdisc stays when the process that made it dies: plans with such orders run beside a guard.
Orders on the same target compose: each has a band of its own under the shared root, and the last one to end takes the
root away, which gives the interface its default back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from bounceback.drivers import DRAIN_SECONDS, FIRST_LOOK_SECONDS, NOTHING_MORE, KernelError, Refused, Site, queues, tc
from bounceback.drivers.netlink import INGRESS, NETLINK_ROUTE, ROOT, Link, Netlink, Qdisc
from bounceback.types.plan import Act, Direction, Flow, Order

# What tc says where the kernel has no such part.
_MISSING: Final = (
    "qdisc kind is unknown",
    "Unknown device type",
    "Failed to load TC action",
    "TC classifier not found",
)
_ALONE: Final = "cannot mix duplicating netems"  # Linux 6.12.50 to 6.18: two that multiply each other's packets


@dataclass(frozen=True, slots=True)
class Leaf:
    """A qdisc as tc is told of it, and the delay tables that it refers to, by name."""

    words: str
    tables: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Counts:
    """What an order's qdiscs have counted, on all interfaces: packets taken in (let out or held), and of these ..."""

    taken: int = 0
    lost: int = 0
    reordered: int = 0
    waited: int = 0  # times that a packet had to wait for its turn

    def since(self, before: Counts) -> Counts:
        return Counts(
            self.taken - before.taken,
            self.lost - before.lost,
            self.reordered - before.reordered,
            self.waited - before.waited,
        )


class Kind(Protocol):
    """What a driver of this sort knows of its qdisc."""

    name: str

    def leaf(self, act: Act | None) -> Leaf:
        """Every parameter, so that it can also be changed to this; None: nothing happens to packets."""

    def hits(self, act: Act, counts: Counts) -> int:
        """Packets that the act touched; grows with the counts."""


@dataclass(frozen=True, slots=True)
class Device:
    """An interface that has, or shall have, Bounceback's root. `arriving`: an ifb; `name` is the ifb's then."""

    link: Link
    name: str
    arriving: bool


class _State:
    """What the kernel has at one moment."""

    def __init__(self, netlink: Netlink) -> None:
        self.links = netlink.links()
        self.qdiscs = netlink.qdiscs()
        self._netlink = netlink

    def real(self) -> list[Link]:
        return [each for each in self.links if not each.loopback and not each.name.startswith(queues.IFB)]

    def named(self, name: str) -> Link | None:
        return next((link for link in self.links if link.name == name), None)

    def on(self, link: int) -> list[Qdisc]:
        return [qdisc for qdisc in self.qdiscs if qdisc.link == link]

    def root(self, link: int) -> Qdisc | None:
        return next((qdisc for qdisc in self.on(link) if qdisc.parent == ROOT), None)

    def has_ours(self, link: int) -> bool:
        root = self.root(link)
        return root is not None and root.handle == queues.ROOT

    def slots(self, link: int) -> set[int]:
        return {slot for qdisc in self.on(link) if (slot := queues.slot_of_handle(qdisc.handle)) is not None}

    def prefs(self, link: int, slot: int) -> set[int]:
        return {pref for pref in self._netlink.filters(link, queues.ROOT) if queues.slot_of_pref(pref) == slot}


def apply(kind: Kind, order: Order, site: Site) -> QueueInForce:
    """See `drivers.Driver`."""
    netlink = Netlink(site.netns, NETLINK_ROUTE)
    try:
        devices, exempt = _devices(_State(netlink), order.direction), (*site.exempt, *sorted(netlink.gateways()))
        for root in queues.ROOTS:
            state = _State(netlink)
            _refuse_conflicts(state, devices, site.slot)
            try:
                _build(kind.leaf(order.act), order, site, state, devices, exempt, root)
            except KernelError as error:
                undo(order, site)
                if _unknown_root(error, root) and root != queues.ROOTS[-1]:
                    continue
                raise _told(error) from error
            return QueueInForce(kind, order, site, netlink, devices)
        raise AssertionError("the last root is tried or told of")
    except BaseException:
        netlink.close()
        raise


def _unknown_root(error: KernelError, root: str) -> bool:
    return _MISSING[0] in str(error) and f"handle bb00: {root}" in str(error)


def _told(error: KernelError) -> KernelError | Refused:
    if _ALONE in str(error):
        return Refused(
            "Conflict",
            "this kernel has no netem beside one that duplicates packets (Linux 6.12.50 to 6.18): let one of the "
            "faults on this target end before the other begins",
        )
    if any(words in str(error) for words in _MISSING):
        return Refused("MissingFeature", f"this node's kernel cannot: {error}")
    return error


def _devices(state: _State, direction: Direction) -> list[Device]:
    real = [link for link in state.real() if link.up]
    if not real:
        raise Refused("MissingFeature", "the target has no network interface besides the loopback")
    leaving = [Device(link, link.name, False) for link in real] if direction != Direction.INGRESS else []
    arriving = [Device(link, queues.ifb(link.index), True) for link in real] if direction != Direction.EGRESS else []
    return leaving + arriving


def _refuse_conflicts(state: _State, devices: Iterable[Device], slot: int) -> None:
    if slot >= queues.SLOTS:
        raise Refused("Conflict", f"a target can have {queues.SLOTS} such orders at once, this is one more")
    for device in devices:
        for qdisc in state.on(device.link.index):
            if device.arriving:
                mine = state.named(device.name) is not None
                foreign = qdisc.parent == INGRESS and not mine
            else:
                default = qdisc.kind in queues.DEFAULT_KINDS and qdisc.handle >> 16 == 0
                foreign = qdisc.parent == ROOT and not default and qdisc.handle != queues.ROOT
            if foreign:
                what = f"{device.link.name} already has a qdisc {qdisc.kind} {qdisc.handle >> 16:x}:"
                raise Refused("Conflict", f"{what}, which is not Bounceback's; take it away or use networkPartition")
        target = state.named(device.name)
        if target is not None and slot in state.slots(target.index):
            left = f"an earlier injection left its qdisc on {device.name}"
            raise Refused("Conflict", f"{left}; `tc qdisc del dev {device.name} root` in the target takes it away")


def _build(
    leaf: Leaf,
    order: Order,
    site: Site,
    state: _State,
    devices: Iterable[Device],
    exempt: tuple[str, ...],
    root: str,
) -> None:
    new = [device for device in devices if device.arriving and state.named(device.name) is None]
    tc.run(site.netns, "ip", [f"link add name {device.name} up type ifb" for device in new])
    lines: list[str] = []
    for device in devices:
        link = state.named(device.name)
        there = state.root(link.index) if link is not None and state.has_ours(link.index) else None
        if there is None:
            lines += queues.root(device.name, exempt, device.arriving, root)
        lines += queues.place(device.name, site.slot, there.kind if there else root)
        lines.append(queues.leaf("add", device.name, site.slot, leaf.words))
        lines += queues.filters(device.name, site.slot, 0, order.flows, device.arriving)
    for device in new:  # last: nothing is led through a device that is not ready
        lines += queues.arrivals(device.link.name, device.name)
    tc.run(site.netns, "tc", lines, tables=leaf.tables)


def undo(order: Order, site: Site) -> None:
    """See `drivers.Driver`; needs to know no more than the slot."""
    netlink = Netlink(site.netns, NETLINK_ROUTE)
    try:
        _take_away(netlink, site)
    finally:
        netlink.close()


def _take_away(netlink: Netlink, site: Site) -> None:
    """Others may be at the same work (a guard and its agent): commands may fail, what counts is what is left."""
    state = _State(netlink)
    lines: list[str] = []
    unused: list[str] = []
    for link in state.real():
        if state.has_ours(link.index):
            lines += _without(state, link, site.slot)
        through = state.named(queues.ifb(link.index))
        if through is None:
            lines += _without_bare_ingress(netlink, state, link)
        elif state.slots(through.index) - {site.slot}:
            lines += _without(state, through, site.slot)
        else:
            lines.append(f"qdisc del dev {link.name} ingress")
            unused.append(f"link del dev {through.name}")
    tc.run(site.netns, "tc", lines, anyway=True)
    tc.run(site.netns, "ip", unused, anyway=True)
    if left := _left(_State(netlink), site.slot):
        raise KernelError(f"the kernel keeps the qdisc of slot {site.slot} on {', '.join(left)}")


def _without(state: _State, link: Link, slot: int) -> list[str]:
    if not state.slots(link.index) - {slot}:
        return [f"qdisc del dev {link.name} root"]
    lines = queues.without_filters(link.name, state.prefs(link.index, slot))
    if slot in state.slots(link.index):
        band = queues.band(slot)
        lines.append(f"qdisc del dev {link.name} parent bb00:{band:x} handle bb{band:02x}:")
        root = state.root(link.index)
        if root is not None and root.kind == "htb":
            lines.append(f"class del dev {link.name} classid bb00:{band:x}")
    return lines


def _without_bare_ingress(netlink: Netlink, state: _State, link: Link) -> list[str]:
    """An apply that was cut off can leave an ingress qdisc with nothing in it; that does nothing for anybody."""
    for qdisc in state.on(link.index):
        if qdisc.parent == INGRESS and qdisc.kind == "ingress" and not netlink.filters(link.index, qdisc.handle):
            return [f"qdisc del dev {link.name} ingress"]
    return []


def _left(state: _State, slot: int) -> list[str]:
    return [link.name for link in state.links if slot in state.slots(link.index)]


class QueueInForce:
    """A trouble of packets that is in force; see `drivers.InForce`."""

    first_look_seconds = FIRST_LOOK_SECONDS
    drain_seconds = DRAIN_SECONDS
    over_when_lifted = False  # held packets are late until the last of them has gone
    farewell = NOTHING_MORE

    def __init__(self, kind: Kind, order: Order, site: Site, netlink: Netlink, devices: list[Device]) -> None:
        self.detail = {"with": kind.name, "devices": " ".join(device.name for device in devices)}
        self._kind = kind
        self._act: Act | None = order.act
        self._site = site
        self._netlink = netlink
        self._devices = devices
        self._generation = 0
        self._before = Counts()  # when the act was last changed
        self._hits = 0  # of the acts before

    def hits(self) -> int:
        return self._hits + self._hits_of_act(self._counts())

    def held(self) -> int:
        return sum(qdisc.held for qdisc in self._mine())

    def change(self, act: Act | None) -> None:
        """`tc qdisc change`, which leaves the packets that are held in their queue, with the times that they have."""
        leaf = self._kind.leaf(act)
        counts = self._counts()
        lines = [queues.leaf("change", device.name, self._site.slot, leaf.words) for device in self._devices]
        tc.run(self._site.netns, "tc", lines, tables=leaf.tables)
        self._hits += self._hits_of_act(counts)
        self._act, self._before = act, counts

    def amend(self, flows: tuple[Flow, ...]) -> None:
        """The new filters come before the old ones go: a packet may match both, which is the same as one."""
        slot, following = self._site.slot, self._generation + 1
        new = [line for d in self._devices for line in queues.filters(d.name, slot, following, flows, d.arriving)]
        try:
            tc.run(self._site.netns, "tc", new)
        except KernelError:
            self._drop_filters(set(queues.prefs(slot, following)))
            raise
        self._drop_filters(set(queues.prefs(slot, self._generation)))
        self._generation = following

    def lift(self) -> None:
        slot = self._site.slot
        self._drop_filters({pref for generation in (0, 1) for pref in queues.prefs(slot, generation)})

    def revert(self) -> None:
        _take_away(self._netlink, self._site)
        self._netlink.close()

    def _drop_filters(self, unwanted: set[int]) -> None:
        state = _State(self._netlink)
        lines: list[str] = []
        for device in self._devices:
            link = state.named(device.name)
            if link is not None:
                lines += queues.without_filters(device.name, unwanted & state.prefs(link.index, self._site.slot))
        tc.run(self._site.netns, "tc", lines, anyway=True)

    def _hits_of_act(self, counts: Counts) -> int:
        return self._kind.hits(self._act, counts.since(self._before)) if self._act is not None else 0

    def _counts(self) -> Counts:
        mine = self._mine()
        if not mine:
            raise KernelError(f"the {self._kind.name} that was applied is gone")
        return Counts(
            taken=sum(qdisc.packets + qdisc.held for qdisc in mine),
            lost=sum(qdisc.drops for qdisc in mine),
            reordered=sum(qdisc.requeues for qdisc in mine),
            waited=sum(qdisc.overlimits for qdisc in mine),
        )

    def _mine(self) -> list[Qdisc]:
        return [qdisc for qdisc in self._netlink.qdiscs() if qdisc.handle == queues.handle(self._site.slot)]
