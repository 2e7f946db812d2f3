"""Sockets in a target's network: its ephemeral ports taken, or connections made to it and held.

A child of the agent (forked.py) holds them, in the target's network namespace; the kernel closes them with it, and
breaks connections off rather than have each of them linger for a minute (SO_LINGER, socket(7)).

A port on which a socket is bound is none that connect(2) chooses, of whatever family (__inet_hash_connect of the kernel
passes over it). Those that the target's own connections have already can serve others to other peers; they are taken
when they are free.
"""

from __future__ import annotations

import errno
import resource
import select
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from bounceback.drivers import HoldsNothing, KernelError, Refused, Site
from bounceback.drivers.forked import Child, Parent
from bounceback.drivers.listeners import Listener, listeners, overflows
from bounceback.drivers.processes import chosen, listens, of_pod
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Act, Order
from bounceback.types.scarce import Crowd

START_SECONDS: Final = 10.0
TURN_SECONDS: Final = 0.1
SELDOM_SECONDS: Final = 0.25
FEW: Final = 25
"""Connections, for which a turn is put off until SELDOM_SECONDS: each one disturbs what else the processor is at."""
AGAIN_SECONDS: Final = 1.0
AT_ONCE: Final = 500  # sockets in one turn
SPARE: Final = 64  # descriptors for all else
_LINGER: Final = struct.pack("ii", 1, 0)
_PORTS: Final = "/proc/sys/net/ipv4/ip_local_port_range"
_TELL_SECONDS: Final = 0.1


def apply(order: Order, site: Site) -> Crowded:
    act = order.act
    assert isinstance(act, Crowd)
    parts: list[Ports] | list[Connections]
    with site.netns.entered():
        parts = _ports(act) if act.leave_ports is not None else [Connections(act, listener(order, site, act.port))]
    for part in parts:
        _check_descriptors(part.most)
    children: list[Child] = []
    try:
        children += (Child(partial(_work, part, site), "bb-crowd") for part in parts)
        for child in children:
            child.until("total", START_SECONDS)
    except (KernelError, Refused, OSError):
        for child in children:
            child.end()
        raise
    return Crowded(children, parts)


def undo(order: Order, site: Site) -> None:
    """The child has died with the agent, and the sockets with it."""


def left(order: Order, site: Site) -> list[str]:
    return []


def listener(order: Order, site: Site, port: int) -> Listener:
    """Who listens there, of the processes that are meant; asked in the target's network. Raises Refused."""
    assert isinstance(order.act, InsideAct)
    who = order.act.who
    meant = chosen(of_pod(order.pod_uid, site.proc), who)
    found = listeners(port)
    if not found or not any(listens(process, port) for process in meant):
        raise Refused("NoListener", f"no process of the target ({who}) listens on port {port}")
    return found[0]


class Crowded(HoldsNothing):
    """Sockets that are held; see `drivers.InForce`."""

    def __init__(self, children: list[Child], parts: list[Ports] | list[Connections]) -> None:
        self._children, self._sort = children, type(parts[0])
        self._seen: list[Mapping[str, Any]] = [dict(child.seen) for child in children]
        self.detail = {"with": self._sort.words.format(sum(part.most for part in parts))}

    def hits(self) -> int:
        """Sockets that were taken so far."""
        self._seen = [dict(child.listen()) for child in self._children]
        return sum(each["total"] for each in self._seen)

    def change(self, act: Act | None) -> None:
        assert act is None or isinstance(act, Crowd)
        for child in self._children:
            child.say(share=act.share if act else 0.0)

    def revert(self) -> None:
        for child in self._children:
            child.end()
        self.farewell = {"seen": [self._sort.said(self._seen)]}


class Ports:
    """Ephemeral ports that are taken."""

    words = "{} ephemeral ports"

    def __init__(self, ports: Iterable[int]) -> None:
        self._free = list(ports)
        self.most = len(self._free)
        self._busy: list[int] = []
        self._held: list[tuple[int, socket.socket]] = []
        self._again = 0.0
        self._peak = 0

    def turn(self, wanted: int) -> float:
        """Seconds until the next one."""
        while len(self._held) > wanted:
            port, taken = self._held.pop()
            taken.close()
            self._free.append(port)
        if not self._free and time.monotonic() >= self._again:
            self._free, self._busy = self._busy, []
            self._again = time.monotonic() + AGAIN_SECONDS
        for _ in range(AT_ONCE):
            if len(self._held) >= wanted or not self._free:
                break
            self._take(self._free.pop())
        self._peak = max(self._peak, len(self._held))
        return 0.0 if len(self._held) < wanted and self._free else AGAIN_SECONDS

    def told(self) -> dict[str, Any]:
        return {"total": self._peak}

    @staticmethod
    def said(seen: list[Mapping[str, Any]]) -> str:
        return f"{sum(each['total'] for each in seen)} ephemeral ports were taken"

    def _take(self, port: int) -> None:
        taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            taken.bind(("", port))
        except OSError as error:
            taken.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            self._busy.append(port)
        else:
            self._held.append((port, taken))


class Connections:
    """Connections that are made to a port and held; those that the target closes are made again."""

    words = "{} connections"

    def __init__(self, act: Crowd, to: Listener) -> None:
        self.most = act.connections
        self._to, self._pace = to, act.per_second or act.connections
        self._open: dict[int, socket.socket] = {}
        self._made = self._peak = self._failed = self._closed = 0
        self._poll: select.epoll | None = None
        self._credit, self._at = 0.0, time.monotonic()
        self._pending: set[int] = set()
        self._overflows = overflows()

    def turn(self, wanted: int) -> float:
        if self._poll is None:  # of the child's own
            self._poll = select.epoll()
            self._at = time.monotonic()
        now = time.monotonic()
        self._credit = min(AT_ONCE, self._credit + (now - self._at) * self._pace)
        self._at = now
        while len(self._open) > wanted:
            self._drop(next(iter(self._open)))
        while len(self._open) < wanted and self._credit >= 1:
            self._credit -= 1
            self._begin()
        self._look()
        self._peak = max(self._peak, len(self._open) - len(self._pending))
        if len(self._open) == wanted and not self._pending:
            return SELDOM_SECONDS
        return min(SELDOM_SECONDS, max(TURN_SECONDS, FEW / self._pace), AT_ONCE / 2 / self._pace)

    def told(self) -> dict[str, Any]:
        return {
            "total": self._made,
            "peak": self._peak,
            "failed": self._failed,
            "closed": self._closed,
            "full": overflows() - self._overflows,
        }

    @staticmethod
    def said(seen: list[Mapping[str, Any]]) -> str:
        return (
            "{peak} connections at a time, {total} in all; {failed} were refused or not answered, {closed} closed by "
            "the target, whose queue was full {full} times"
        ).format(**seen[0])

    def _begin(self) -> None:
        one = socket.socket(self._to.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        number = one.connect_ex((self._to.near, self._to.port))
        if number not in (0, errno.EINPROGRESS):
            one.close()
            self._failed += 1
            return
        assert self._poll is not None
        self._open[one.fileno()] = one
        self._pending.add(one.fileno())
        self._poll.register(one.fileno(), select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

    def _look(self) -> None:
        assert self._poll is not None
        for number, events in self._poll.poll(0, AT_ONCE * 2):
            if number in self._pending and events & select.EPOLLOUT:
                self._pending.discard(number)
                if self._open[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self._failed += 1
                    self._drop(number)
                    continue
                self._made += 1
            if events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                was_made = number not in self._pending
                self._closed += was_made
                self._failed += not was_made
                self._drop(number)

    def _drop(self, number: int) -> None:
        self._pending.discard(number)
        self._open.pop(number).close()


def _ports(act: Crowd) -> list[Ports]:
    """Those of the network that the caller is in; more parts than one where a process may not have so many sockets.

    Raises Refused.
    """
    assert act.leave_ports is not None
    with open(_PORTS) as file:  # noqa: PTH123 - pathlib is not needed here
        first, last = map(int, file.read().split())
    most = last - first + 1 - act.leave_ports
    if most <= 0:
        raise Refused("NothingToTake", f"the target has {last - first + 1} ephemeral ports, all are to be left")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    at_once = max(1, hard - SPARE)
    starts = range(first, first + most, at_once)
    return [Ports(range(start, min(start + at_once, first + most))) for start in starts]


def _work(crowd: Ports | Connections, site: Site, parent: Parent) -> None:
    with site.netns.entered():
        _hold(parent, crowd)


def _hold(parent: Parent, crowd: Ports | Connections) -> None:
    """Until the agent lets go."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    seen: dict[str, Any] = {}
    wanted, told_at = crowd.most, 0.0
    while True:
        pause = crowd.turn(wanted)
        if not seen or time.monotonic() - told_at > _TELL_SECONDS:
            seen, told_at = crowd.told(), time.monotonic()
            parent.tell(**seen)
        for words in parent.hear(pause):
            wanted = round(crowd.most * words["share"])


def _check_descriptors(most: int) -> None:
    """Raises Refused."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < most + SPARE:
        raise Refused(
            "NoDescriptors", f"takes {most:,} sockets, and the agent may have {hard:,} open files on this node"
        )
