"""Packets delayed or lost by tc-netem(8), on all interfaces of the target but the loopback.

A qdisc stays when the process that made it dies: plans with such orders run beside a guard.
Orders on the same target compose: each has a band of its own under the shared root, and the last one to end takes the
root away, which gives the interface its default back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bounceback.drivers import KernelError, Refused, Site, queues, tc
from bounceback.drivers.netlink import INGRESS, NETLINK_ROUTE, ROOT, Link, Netlink, Qdisc
from bounceback.types.plan import Direction, Flow, Netem, Order

# What tc says where the kernel has no such part.
_MISSING: Final = (
    "qdisc kind is unknown",
    "Unknown device type",
    "Failed to load TC action",
    "TC classifier not found",
)


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


def apply(order: Order, site: Site) -> NetemInForce:
    assert isinstance(order.act, Netem)
    netlink = Netlink(site.netns, NETLINK_ROUTE)
    try:
        state = _State(netlink)
        devices = _devices(state, order.direction)
        _refuse_conflicts(state, devices, site.slot)
        exempt = (*site.exempt, *sorted(netlink.gateways()))
        try:
            _build(order, site, state, devices, exempt)
        except KernelError as error:
            undo(order, site)
            if any(words in str(error) for words in _MISSING):
                raise Refused("MissingFeature", f"this node's kernel cannot: {error}") from error
            raise
        return NetemInForce(order, site, netlink, devices)
    except BaseException:
        netlink.close()
        raise


def _devices(state: _State, direction: Direction) -> list[Device]:
    real = [link for link in state.real() if link.up]
    if not real:
        raise Refused("MissingFeature", "the target has no network interface besides the loopback")
    leaving = [Device(link, link.name, False) for link in real] if direction != Direction.INGRESS else []
    arriving = [Device(link, queues.ifb(link.index), True) for link in real] if direction != Direction.EGRESS else []
    return leaving + arriving


def _refuse_conflicts(state: _State, devices: Iterable[Device], slot: int) -> None:
    if slot >= queues.SLOTS:
        raise Refused("Conflict", f"a target can have {queues.SLOTS} netem orders at once, this is one more")
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
            left = f"an earlier injection left its netem on {device.name}"
            raise Refused("Conflict", f"{left}; `tc qdisc del dev {device.name} root` in the target takes it away")


def _build(order: Order, site: Site, state: _State, devices: Iterable[Device], exempt: tuple[str, ...]) -> None:
    assert isinstance(order.act, Netem)
    new = [device for device in devices if device.arriving and state.named(device.name) is None]
    tc.run(site.netns, "ip", [f"link add name {device.name} up type ifb" for device in new])
    lines: list[str] = []
    for device in devices:
        link = state.named(device.name)
        if link is None or not state.has_ours(link.index):
            lines += queues.root(device.name, exempt, device.arriving)
        lines.append(queues.netem(device.name, site.slot, order.act))
        lines += queues.filters(device.name, site.slot, 0, order.flows, device.arriving)
    for device in new:  # last: nothing is led through a device that is not ready
        lines += queues.arrivals(device.link.name, device.name)
    tc.run(site.netns, "tc", lines)


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
        raise KernelError(f"the kernel keeps the netem of slot {site.slot} on {', '.join(left)}")


def _without(state: _State, link: Link, slot: int) -> list[str]:
    if not state.slots(link.index) - {slot}:
        return [f"qdisc del dev {link.name} root"]
    lines = queues.without_filters(link.name, state.prefs(link.index, slot))
    if slot in state.slots(link.index):
        band = queues.band(slot)
        lines.append(f"qdisc del dev {link.name} parent bb00:{band:x} handle bb{band:02x}:")
    return lines


def _without_bare_ingress(netlink: Netlink, state: _State, link: Link) -> list[str]:
    """An apply that was cut off can leave an ingress qdisc with nothing in it; that does nothing for anybody."""
    for qdisc in state.on(link.index):
        if qdisc.parent == INGRESS and qdisc.kind == "ingress" and not netlink.filters(link.index, qdisc.handle):
            return [f"qdisc del dev {link.name} ingress"]
    return []


def _left(state: _State, slot: int) -> list[str]:
    return [link.name for link in state.links if slot in state.slots(link.index)]


class NetemInForce:
    """A delay or a loss that is in force; see `drivers.InForce`."""

    def __init__(self, order: Order, site: Site, netlink: Netlink, devices: list[Device]) -> None:
        assert isinstance(order.act, Netem)
        self.detail = {"with": "netem", "devices": " ".join(device.name for device in devices)}
        self._delays = order.act.delay_us > 0
        self._site = site
        self._netlink = netlink
        self._devices = devices
        self._generation = 0

    def hits(self) -> int:
        """Packets delayed and lost; for a loss without delay the lost ones only."""
        mine = self._mine()
        if not mine:
            raise KernelError("the netem that was applied is gone")
        lost = sum(qdisc.drops for qdisc in mine)
        return lost + sum(qdisc.packets + qdisc.held for qdisc in mine) if self._delays else lost

    def held(self) -> int:
        return sum(qdisc.held for qdisc in self._mine())

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

    def _mine(self) -> list[Qdisc]:
        return [qdisc for qdisc in self._netlink.qdiscs() if qdisc.handle == queues.handle(self._site.slot)]
