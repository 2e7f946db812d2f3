"""Questions to the kernel over netlink(7): what is there, and what has been counted.

Counters are read twenty times a second until the first hit, on up to fifty targets: too often to start `tc` and `nft`
for each. The layouts are those of rtnetlink(7), linux/pkt_sched.h and linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from bounceback.drivers import KernelError
from bounceback.drivers.netns import Netns

NETLINK_ROUTE: Final = 0
NETLINK_SOCK_DIAG: Final = 4
NETLINK_NETFILTER: Final = 12
ANSWER_SECONDS: Final = 5.0

_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_DUMP_INTERRUPTED = 0x10
_ERROR, _DONE = 2, 3
_TRIES: Final = 10  # of a dump that changes of the ruleset keep interrupting

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_TRAFFIC = struct.Struct("=BxxxiIII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=HBBi")
_TABLES = struct.Struct("=BBH")

_GET_LINK, _GET_ROUTE, _GET_QDISC, _GET_FILTER = 18, 26, 38, 46
_GET_TABLE, _GET_OBJECT = 10 << 8 | 1, 10 << 8 | 19
_COUNTER_OBJECT = 1
FAMILIES: Final = {1: "inet", 2: "ip", 10: "ip6"}
FAMILY_NUMBERS: Final = {name: number for number, name in FAMILIES.items()}


@dataclass(frozen=True, slots=True)
class Link:
    index: int
    name: str
    up: bool
    loopback: bool


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A queueing discipline; handle and parent as the kernel's 32-bit numbers (major << 16 | minor)."""

    link: int
    handle: int
    parent: int
    kind: str
    packets: int = 0
    drops: int = 0
    held: int = 0
    requeues: int = 0
    overlimits: int = 0


ROOT: Final = 0xFFFFFFFF
INGRESS: Final = 0xFFFFFFF1  # the parent of ingress and clsact


class Netlink:
    """A socket in one network namespace, while it is open. Raises KernelError where there is no such protocol."""

    def __init__(self, netns: Netns, protocol: int) -> None:
        try:
            with netns.entered():
                self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        except OSError as error:
            raise KernelError(f"netlink protocol {protocol}: {error}") from error
        self._socket.settimeout(ANSWER_SECONDS)
        self._sequence = 0
        self._whole = True

    def close(self) -> None:
        self._socket.close()

    def links(self) -> list[Link]:
        found = []
        for body in self.dump(_GET_LINK, _LINK.pack(0, 0, 0, 0, 0)):
            _, _, index, flags, _ = _LINK.unpack_from(body)
            found.append(Link(index, _text(_attributes(body[16:])[3]), bool(flags & 1), bool(flags & 8)))
        return found

    def qdiscs(self) -> list[Qdisc]:
        """Those of all interfaces, with what they have counted."""
        found = []
        for body in self.dump(_GET_QDISC, _TRAFFIC.pack(0, 0, 0, 0, 0)):
            _, link, handle, parent, _ = _TRAFFIC.unpack_from(body)
            attributes = _attributes(body[20:])
            statistics = _attributes(attributes.get(7, b""))
            packets = struct.unpack_from("=QI", statistics[1])[1] if 1 in statistics else 0
            if 8 in statistics:  # the 64-bit count, of kernels from 5.5 on
                packets = struct.unpack_from("=Q", statistics[8])[0]
            queue = struct.unpack_from("=IIIII", statistics[3]) if 3 in statistics else (0, 0, 0, 0, 0)
            held, _, drops, requeues, overlimits = queue
            kind = _text(attributes[1])
            found.append(Qdisc(link, handle, parent, kind, packets, drops, held, requeues, overlimits))
        return found

    def filters(self, link: int, parent: int) -> set[int]:
        """The preferences (tc's `pref`) in use on a qdisc."""
        bodies = self.dump(_GET_FILTER, _TRAFFIC.pack(0, link, 0, parent, 0))
        return {_TRAFFIC.unpack_from(body)[4] >> 16 for body in bodies}

    def gateways(self) -> set[str]:
        """Next hops of the default routes: the node, as a pod sees it."""
        found: set[str] = set()
        for body in self.dump(_GET_ROUTE, _ROUTE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)):
            family, length, *_ = _ROUTE.unpack_from(body)
            if length:
                continue
            attributes = _attributes(body[12:])
            hops = [attributes, *_next_hops(attributes.get(9, b""))]
            found.update(socket.inet_ntop(family, hop[5]) for hop in hops if 5 in hop)
        return found

    def tables(self) -> set[tuple[str, str]]:
        """Family and name of the nf_tables tables of the families that Bounceback uses."""
        found: set[tuple[str, str]] = set()
        for body in self.dump(_GET_TABLE, _TABLES.pack(0, 0, 0)):
            if body[0] in FAMILIES:
                found.add((FAMILIES[body[0]], _text(_attributes(body[4:])[1])))
        return found

    def counter(self, family: str, table: str, name: str) -> int:
        """Packets counted by a named counter. Raises KernelError when it is not there."""
        body = _TABLES.pack(FAMILY_NUMBERS[family], 0, 0)
        body += _attribute(1, table.encode() + b"\0") + _attribute(2, name.encode() + b"\0")
        body += _attribute(3, struct.pack(">I", _COUNTER_OBJECT))
        for answer in self._ask(_GET_OBJECT, _ACK, body):
            return int(struct.unpack(">Q", _attributes(_attributes(answer[4:])[4])[2])[0])
        raise KernelError(f"counter {name} of table {family} {table}: no answer")

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """The answers to one question. Raises KernelError."""
        for _ in range(_TRIES):
            answers = self._ask(kind, _DUMP, body)
            if self._whole:
                return answers
        raise KernelError("the kernel's state changed while it was read, each time")

    def each(self, kind: int, bodies: Collection[bytes]) -> list[int]:
        """What the kernel answers to each of these requests, in their order: 0 or an errno. Raises KernelError."""
        first = self._sequence + 1
        self._sequence += len(bodies)
        requests = [
            _HEADER.pack(16 + len(body), kind, _REQUEST | _ACK, first + n, 0) + body for n, body in enumerate(bodies)
        ]
        self._socket.send(b"".join(requests))
        answers: dict[int, int] = {}
        while len(answers) < len(bodies):
            part = self._received()
            start = 0
            while start + 16 <= len(part):
                length, told, _, sequence, _ = _HEADER.unpack_from(part, start)
                if told == _ERROR and sequence >= first:
                    answers[sequence] = -struct.unpack_from("=i", part, start + 16)[0]
                start += length + 3 & ~3
        return [answers[first + n] for n in range(len(bodies))]

    def _received(self) -> bytes:
        try:
            return self._socket.recv(1 << 17)
        except OSError as error:
            raise KernelError(f"netlink: {error}") from error

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._sequence += 1
        self._whole = True
        self._socket.send(_HEADER.pack(16 + len(body), kind, _REQUEST | flags, self._sequence, 0) + body)
        answers: list[bytes] = []
        while True:
            if self._gather(self._received(), answers):
                return answers

    def _gather(self, part: bytes, answers: list[bytes]) -> bool:
        """True when the answer is complete."""
        start = 0
        while start + 16 <= len(part):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(part, start)
            body = part[start + 16 : start + length]
            start += length + 3 & ~3
            if sequence != self._sequence:
                continue  # the rest of an answer that an error cut short
            self._whole &= not flags & _DUMP_INTERRUPTED
            if kind in (_ERROR, _DONE):
                number = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
                if number:
                    raise KernelError(f"netlink: {OSError(number, os.strerror(number))}")
                return True
            answers.append(body)
        return False


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    start = 0
    while start + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[start + 4 : start + length]  # without the flags "nested" and "network order"
        start += length + 3 & ~3
    return found


def _next_hops(data: bytes) -> Iterator[dict[int, bytes]]:
    while len(data) >= 8:
        length = max(_NEXT_HOP.unpack_from(data)[0], 8)
        yield _attributes(data[8:length])
        data = data[length + 3 & ~3 :]


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode()
