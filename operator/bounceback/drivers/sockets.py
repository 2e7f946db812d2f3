"""Open TCP connections ended by the kernel, as `ss --kill` does (SOCK_DESTROY, sock_diag(7)).

The peer of a connection gets an RST (ECONNRESET); the target's own end is told ECONNABORTED, at once, idle or not.
Listeners and the loopback are spared. New connections are refused, if asked for, by a table of nf_tables that answers
with an RST what opens one.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from bounceback.drivers import (
    DRAIN_SECONDS,
    FIRST_LOOK_SECONDS,
    NOTHING_MORE,
    InForce,
    KernelError,
    Refused,
    Site,
    nft,
    tables,
)
from bounceback.drivers.netlink import NETLINK_SOCK_DIAG, Netlink
from bounceback.drivers.netns import Netns
from bounceback.types.choice import ALWAYS, Chooser
from bounceback.types.plan import Act, Direction, Drop, Flow, Order, Packets, Reset

# linux/sock_diag.h, linux/inet_diag.h, include/net/tcp_states.h
_BY_FAMILY: Final = 20
_DESTROY: Final = 21
_REQUEST: Final = struct.Struct("=BBBxI48s")  # family, protocol, extensions, states, id
_ANSWER: Final = struct.Struct("=BBBB48s")  # family, state, timer, retransmissions, id
_ID: Final = struct.Struct("!HH16s16s12s")  # ports and addresses of both ends; interface and cookie, as they are
_ESTABLISHED, _FIN_WAIT_1, _FIN_WAIT_2, _CLOSE_WAIT, _LISTEN = 1, 4, 5, 8, 10
_OPEN: Final = (_ESTABLISHED, _FIN_WAIT_1, _FIN_WAIT_2, _CLOSE_WAIT)
_BATCH: Final = 200  # messages in one write, each with an answer: they fit the socket's buffer
_GONE, _UNKNOWN = 2, 95  # ENOENT, EOPNOTSUPP

_SIDES: Final = {Direction.EGRESS: ("out",), Direction.INGRESS: ("in",), Direction.BOTH: ("out", "in")}
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Connection:
    """One end of a TCP connection, in the kernel's words and in ours."""

    family: int
    id: bytes
    local_port: int
    peer: _Address
    peer_port: int


def apply(order: Order, site: Site) -> ResetInForce:
    """See `drivers.Driver`."""
    assert isinstance(order.act, Reset)
    refusing = nft.apply(_refusal(order), site) if order.act.refuse_new else None
    made = ResetInForce(order, site, refusing)
    try:
        made.change(order.act)
    except BaseException:
        made.revert()
        raise
    return made


def undo(order: Order, site: Site) -> None:
    """A connection that is gone cannot be had back."""
    assert isinstance(order.act, Reset)
    if order.act.refuse_new:
        nft.undo(_refusal(order), site)


class ResetInForce:
    """Connections that are gone, and a refusal of new ones that is in force; see `drivers.InForce`."""

    first_look_seconds = FIRST_LOOK_SECONDS
    drain_seconds = DRAIN_SECONDS
    over_when_lifted = True
    farewell = NOTHING_MORE

    def __init__(self, order: Order, site: Site, refusing: InForce | None) -> None:
        self.detail = {"with": "sock_diag" + (" and nft" if refusing else "")}
        self._order = order
        self._site = site
        self._refusing = refusing
        self._destroyed = 0
        self._refuses = True

    def hits(self) -> int:
        """Connections ended and refused."""
        return self._destroyed + (self._refusing.hits() if self._refusing else 0)

    def held(self) -> int:
        return 0

    def amend(self, flows: tuple[Flow, ...]) -> None:
        """Connections with peers that were not among them before are ended as well."""
        if self._refusing:
            self._refusing.amend(flows)
        new = tuple(flow for flow in flows if flow not in self._order.flows)
        self._order = replace(self._order, flows=flows)
        if self._refuses and (new or not flows):
            self._destroy(new)

    def change(self, act: Act | None) -> None:
        """Each time that the act comes (back), what is open then is ended."""
        assert act is None or isinstance(act, Reset)
        if self._refusing:
            self._refusing.change(None if act is None else _refusing(act))
        self._refuses = act is not None
        if act is not None:
            self._order = replace(self._order, act=act)
            self._destroy(self._order.flows)

    def lift(self) -> None:
        if self._refusing:
            self._refusing.lift()

    def revert(self) -> None:
        if self._refusing:
            self._refusing.revert()

    def _destroy(self, flows: tuple[Flow, ...]) -> None:
        act = self._order.act
        assert isinstance(act, Reset)
        sides = _SIDES[self._order.direction]
        chooser = Chooser(act.choice, self._order.injection)
        self._destroyed += destroy(self._site.netns, flows, sides, self._site.exempt, chooser)


def _refusing(act: Reset) -> Drop:
    return Drop(reject=True, packets=Packets.OPENING, choice=replace(act.choice, nth=0, first_n=0))


def _refusal(order: Order) -> Order:
    assert isinstance(order.act, Reset)
    return replace(order, act=_refusing(order.act))


def destroy(
    netns: Netns,
    flows: Collection[Flow],
    sides: Collection[str],
    exempt: Iterable[str] = (),
    chooser: Chooser | None = None,
) -> int:
    """How many connections were ended: of these flows (none: all but the exempt ones), and of what `chooser` chooses.

    `sides`: "out" are connections that the target opened, "in" those that it accepted. Raises Refused where the
    kernel does not do this, KernelError.
    """
    wanted, chosen = _matcher(flows), chooser or Chooser(ALWAYS, "")
    spared = [ipaddress.ip_network(cidr) for cidr in (*exempt, *tables.gateways(netns))]
    netlink = Netlink(netns, NETLINK_SOCK_DIAG)
    try:
        listening = {connection.local_port for connection in _sockets(netlink, (_LISTEN,))}
        hit = [
            each
            for each in _sockets(netlink, _OPEN)
            if ("in" if each.local_port in listening else "out") in sides
            and not each.peer.is_loopback
            and not any(each.peer in network for network in spared)
            and wanted(each)
            and chosen.next()
        ]
        return sum(_end(netlink, hit[n : n + _BATCH]) for n in range(0, len(hit), _BATCH))
    finally:
        netlink.close()


def can(netns: Netns) -> bool:
    """Asked to end a connection that there is not, a kernel that can says that it is not there."""
    netlink = Netlink(netns, NETLINK_SOCK_DIAG)
    try:
        nobody = Connection(socket.AF_INET, _ID.pack(1, 1, b"", b"", b"\xff" * 12), 1, ipaddress.ip_address(0), 1)
        return _end(netlink, [nobody]) == 0
    except Refused:
        return False
    finally:
        netlink.close()


def _sockets(netlink: Netlink, states: Iterable[int]) -> Iterator[Connection]:
    """TCP's, of both families, in these states."""
    mask = sum(1 << state for state in states)
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in netlink.dump(_BY_FAMILY, _REQUEST.pack(family, socket.IPPROTO_TCP, 0, mask, bytes(48))):
            found, _, _, _, each = _ANSWER.unpack_from(body)
            local_port, peer_port, _, peer, _ = _ID.unpack(each)
            yield Connection(found, each, local_port, _address(found, peer), peer_port)


def _address(family: int, packed: bytes) -> _Address:
    """IPv4's as such, also where a socket of IPv6 has it."""
    if family == socket.AF_INET:
        return ipaddress.IPv4Address(packed[:4])
    six = ipaddress.IPv6Address(packed)
    return six.ipv4_mapped or six


def _matcher(flows: Iterable[Flow]) -> _Matcher:
    return _Matcher([(ipaddress.ip_network(flow.cidr), flow.ports) for flow in flows if flow.protocol != "UDP"], flows)


class _Matcher:
    """Whether a connection is one of the flows; peers that are single addresses are looked up, not searched."""

    def __init__(self, tcp: list[tuple[_Network, tuple[int, ...]]], flows: Iterable[Flow]) -> None:
        self._everybody = not tuple(flows)
        self._single: dict[_Address, list[tuple[int, ...]]] = {}
        self._wide: list[tuple[_Network, tuple[int, ...]]] = []
        for network, ports in tcp:
            if network.num_addresses == 1:
                self._single.setdefault(network.network_address, []).append(ports)
            else:
                self._wide.append((network, ports))

    def __call__(self, each: Connection) -> bool:
        if self._everybody:
            return True
        found = [*self._single.get(each.peer, ()), *(ports for network, ports in self._wide if each.peer in network)]
        return any(not ports or each.peer_port in ports for ports in found)


def _end(netlink: Netlink, connections: Collection[Connection]) -> int:
    """How many were still there. Raises Refused, KernelError."""
    asked = [_REQUEST.pack(each.family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF, each.id) for each in connections]
    errors = netlink.each(_DESTROY, asked)
    if _UNKNOWN in errors:
        raise Refused("MissingFeature", "this node's kernel ends no connections (CONFIG_INET_DIAG_DESTROY)")
    if unexpected := [error for error in errors if error not in (0, _GONE)]:
        raise KernelError(f"a connection could not be ended: error {unexpected[0]}")
    return errors.count(0)
