"""Who listens in a network, how long its queue is, and how often that was too short: /proc/net (proc(5))."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_LISTENING: Final = "0A"  # TCP_LISTEN
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


@dataclass(frozen=True, slots=True)
class Listener:
    """A TCP socket that listens; `waiting`: connections that nobody has accepted yet."""

    address: str
    port: int
    inode: int
    waiting: int

    @property
    def near(self) -> str:
        """Where it is reached from its own network."""
        return _ANY.get(self.address, self.address)

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


def listeners(port: int, net: str = "/proc/thread-self/net") -> list[Listener]:
    """Those of the network that the calling thread is in, or that `net` shows."""
    return [each for name in ("tcp", "tcp6") for each in _of(f"{net}/{name}") if each.port == port]


def overflows(net: str = "/proc/thread-self/net") -> int:
    """Connections that were turned away because a queue was full, so far (TcpExt: ListenOverflows)."""
    with open(f"{net}/netstat") as file:  # noqa: PTH123 - pathlib is not needed here
        lines = [line.split() for line in file if line.startswith("TcpExt:")]
    return int(dict(zip(*lines, strict=True))["ListenOverflows"]) if len(lines) == 2 else 0


def _of(path: str) -> Iterator[Listener]:
    """Listening sockets come first."""
    try:
        with open(path) as file:  # noqa: PTH123 - pathlib is not needed here
            next(file, "")
            for line in file:
                words = line.split()
                if words[3] != _LISTENING:
                    return
                address, _, port = words[1].rpartition(":")
                waiting = int(words[4].rpartition(":")[2], 16)
                yield Listener(_shown(address), int(port, 16), int(words[9]), waiting)
    except FileNotFoundError:  # a kernel without IPv6
        return


def _shown(digits: str) -> str:
    """An address as the kernel writes it there: 32-bit words in the machine's own order."""
    parts = [bytes.fromhex(digits[start : start + 8]) for start in range(0, len(digits), 8)]
    packed = b"".join(part[::-1] if sys.byteorder == "little" else part for part in parts)
    family = socket.AF_INET6 if len(packed) == 16 else socket.AF_INET
    shown = socket.inet_ntop(family, packed)
    return shown.removeprefix("::ffff:") if "." in shown else shown
