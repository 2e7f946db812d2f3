"""A queue of connections that wait to be accepted: made short, and kept full.

The target's own listening socket is borrowed for a moment (pidfd_getfd(2)) and told to listen with a shorter queue,
which does not touch what is open. It is not kept: a port whose socket somebody else holds could not be listened on
again. A child of the agent (forked.py) connects whenever there is room. Who comes then is turned away, and the
kernel counts that. The former length is put back at the end, by the guard if need be, unless the target has listened
anew by itself.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from bounceback.drivers import HoldsNothing, KernelError, Refused, Site
from bounceback.drivers.crowd import START_SECONDS, listener
from bounceback.drivers.forked import Child, Parent
from bounceback.drivers.listeners import Listener, listeners, overflows
from bounceback.drivers.processes import Process, chosen, of_pod
from bounceback.types.plan import Act, Order
from bounceback.types.scarce import Backlog

LOOK_SECONDS: Final = 0.005
SELDOM_SECONDS: Final = 0.05
"""Between looks at a queue that stays full: more of them than that the neighbours notice."""
MORE: Final = 64
"""Connections that are held beside those that wait: which ones were accepted is not known."""
_PIDFD_GETFD: Final = 438  # the same number on all architectures that containers run on
_INFO: Final = 104  # bytes of struct tcp_info; of a listening socket tcpi_sacked is the length of its queue
_LONGEST: Final = slice(28, 32)
_LINGER: Final = (1).to_bytes(4, "little") + bytes(4)


def apply(order: Order, site: Site) -> Short:
    act = order.act
    assert isinstance(act, Backlog)
    with site.netns.entered():
        found = listener(order, site, act.port)
    short = Short(order, site, found)
    try:
        short.change(act)
    except BaseException:
        with suppress(KernelError, OSError):
            short.revert()
        raise
    return short


def undo(order: Order, site: Site) -> None:
    """By what the agent wrote down before it shortened anything."""
    for number, length in site.notes.kept.get("lengths", {}).items():
        _listen(order, site, int(number), length, site.notes.kept["ours"])


def left(order: Order, site: Site) -> list[str]:
    """Without notes nobody can tell a queue that is short by itself."""
    found = []
    for number, length in site.notes.kept.get("lengths", {}).items():
        for borrowed in _borrowed(order, site, int(number)):
            if (now := _length(borrowed)) in site.notes.kept["ours"] and now != length:
                found.append(f"a queue of {now} on port {_act(order).port}")
    return found


class Short(HoldsNothing):
    """A queue that is short and full; see `drivers.InForce`."""

    def __init__(self, order: Order, site: Site, found: Listener) -> None:
        act = _act(order)
        self.detail = {"with": f"a queue of {act.size + 1} on port {act.port}"}
        self._order, self._site, self._found = order, site, found
        self._child: Child | None = None
        self._before = self._hits = 0
        self._lengths: dict[int, int] = {}

    def hits(self) -> int:
        """Connections that were turned away."""
        if self._child is not None:
            self._hits = self._before + int(self._child.listen()["refused"])
        return self._hits

    def change(self, act: Act | None) -> None:
        assert act is None or isinstance(act, Backlog)
        self._fill_no_more()
        if act is None:
            undo(self._order, self._site)
            return
        self._shorten(act)

        def work(parent: Parent) -> None:
            with self._site.netns.entered():
                _fill(parent, self._found, act.size)

        self._child = Child(work, "bb-backlog")
        self._child.until("refused", START_SECONDS)

    def revert(self) -> None:
        self._fill_no_more()
        undo(self._order, self._site)
        self.farewell: Mapping[str, Any] = {"seen": [f"{self._hits} connections were turned away"]}

    def _shorten(self, act: Backlog) -> None:
        """Raises Refused where the queue is as short already."""
        with self._site.netns.entered():
            numbers = [each.inode for each in listeners(act.port)]
        for number in numbers:
            for borrowed in _borrowed(self._order, self._site, number):
                self._lengths.setdefault(number, _length(borrowed))
        if not self._lengths:
            raise Refused("NoListener", f"no socket of the target that listens on port {act.port} can be reached")
        if max(self._lengths.values()) <= act.size:
            raise Refused("NothingToLower", f"the queue of port {act.port} is {max(self._lengths.values())} long")
        ours = sorted({act.size, *self._site.notes.kept.get("ours", [])})
        self._site.notes.write(lengths={str(n): length for n, length in self._lengths.items()}, ours=ours)
        for number, length in self._lengths.items():
            _listen(self._order, self._site, number, act.size, [*ours, length])

    def _fill_no_more(self) -> None:
        if self._child is not None:
            with suppress(KernelError):
                self.hits()
            self._before = self._hits
            self._child.end()
            self._child = None


def _fill(parent: Parent, to: Listener, size: int) -> None:
    """Until the agent lets go."""
    began, held = overflows(), deque[socket.socket]()
    refused, pause = -1, LOOK_SECONDS
    while True:
        waiting = [each.waiting for each in listeners(to.port)]
        missing = sum(size + 1 - each for each in waiting if each <= size)
        for _ in range(missing):
            one = socket.socket(to.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            one.connect_ex((to.near, to.port))
            held.append(one)
        while len(held) > (size + 1) * max(1, len(waiting)) + MORE:
            held.popleft().close()
        if (now := overflows() - began) != refused:
            refused = now
            parent.tell(refused=refused)
        pause = LOOK_SECONDS if missing else min(2 * pause, SELDOM_SECONDS)
        parent.hear(pause)


def _listen(order: Order, site: Site, number: int, length: int, ours: list[int]) -> None:
    """With a queue of that length, if it has one of `ours`: another one is the target's own doing."""
    for borrowed in _borrowed(order, site, number):
        if _length(borrowed) in ours:
            borrowed.listen(length)


def _borrowed(order: Order, site: Site, number: int) -> Iterator[socket.socket]:
    """The socket with that inode, from a process of the target that has it; none where all have ended."""
    for process in chosen(of_pod(order.pod_uid, site.proc), _act(order).who):
        if (descriptor := _descriptor(process, number)) is not None and (whole := process.open()) is not None:
            try:
                borrowed = _taken(whole, descriptor)
            finally:
                os.close(whole)
            with borrowed:
                yield borrowed
            return


def _descriptor(process: Process, number: int) -> int | None:
    with suppress(FileNotFoundError, ProcessLookupError):
        for name in os.listdir(f"{process.folder}/fd"):  # noqa: PTH208 - pathlib is not needed here
            with suppress(FileNotFoundError, ProcessLookupError):
                if os.readlink(f"{process.folder}/fd/{name}") == f"socket:[{number}]":  # noqa: PTH115 - see above
                    return int(name)
    return None


def _taken(process: int, descriptor: int) -> socket.socket:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(_PIDFD_GETFD, process, descriptor, 0)
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"the target's socket cannot be reached: {os.strerror(error)}")
    return socket.socket(fileno=found)


def _length(listening: socket.socket) -> int:
    return int.from_bytes(listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO)[_LONGEST], "little")


def _act(order: Order) -> Backlog:
    assert isinstance(order.act, Backlog)
    return order.act
