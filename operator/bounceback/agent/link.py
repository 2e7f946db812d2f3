"""Between an agent and its guard: a connection whose end is what the guard waits for.

An abstract unix socket (unix(7)) in the network namespace that both are in: needs no volume, and is gone with them.
The guard says which pods it can reach (`ready`), the agent what it begins (`begin`), what it takes to undo that
(`note`), what it has seen to the end (`ended`), and `done` before it goes. A connection that ends without `done` is an
agent that died, and with it all that it had started. One JSON object a line.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping
from typing import Any, Final

from bounceback.types import peer

_LONGEST: Final = 1 << 20


def address(agent: str) -> str:
    return f"\0bounceback/{agent}"


def trusted(connection: socket.socket) -> bool:
    """The other side is root or of the same user (SO_PEERCRED)."""
    return peer.trusted(_credentials(connection), os.getuid())


def other_side(connection: socket.socket) -> int | None:
    """A pidfd, which can be read from once the process has ended (pidfd_open(2)); None: it cannot be seen from here."""
    try:
        return os.pidfd_open(peer.process(_credentials(connection)))
    except OSError:  # EINVAL: number 0, of another PID namespace
        return None


def _credentials(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, peer.CREDENTIALS)


class Lines:
    """JSON objects, one a line, over a connected socket that is read without waiting."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.ended = False
        self._rest = b""

    def send(self, message: dict[str, Any]) -> None:
        """A few short lines in all: they fit the socket's buffer. An ended connection is seen by `read`."""
        try:
            self.socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.ended = True

    def read(self) -> list[dict[str, Any]]:
        """What has come since the last time; sets `ended` at the connection's end."""
        while not self.ended:
            try:
                part = self.socket.recv(1 << 16)
            except BlockingIOError:
                break
            except ConnectionError:
                part = b""
            self._rest += part
            self.ended = not part or len(self._rest) > _LONGEST
        *whole, self._rest = self._rest.split(b"\n")
        return [json.loads(line) for line in whole]

    def close(self) -> None:
        self.socket.close()


class GuardLink:
    """The agent's end. Nothing is applied on a pod before the guard said that it can undo it there."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._lines: Lines | None = None
        self.reaches: frozenset[str] | None = None  # UIDs of pods; None until the guard is ready

    @property
    def lost(self) -> bool:
        return self._lines is not None and self._lines.ended

    def fds(self) -> list[int]:
        return [] if self._lines is None or self._lines.ended else [self._lines.socket.fileno()]

    def look(self) -> None:
        """Connects where the guard listens already, and reads what it said."""
        if self._lines is None:
            self._lines = self._connected()
        if self._lines is not None:
            for message in self._lines.read():
                self.reaches = frozenset(message["ready"])

    def begin(self, injection: str, not_after: float) -> None:
        self._say({"begin": injection, "notAfter": not_after})

    def note(self, injection: str, kept: Mapping[str, Any]) -> None:
        self._say({"note": injection, "kept": dict(kept)})

    def ended(self, injection: str) -> None:
        self._say({"ended": injection})

    def done(self) -> None:
        self._say({"done": True})

    def _say(self, message: dict[str, Any]) -> None:
        if self._lines is not None:
            self._lines.send(message)

    def _connected(self) -> Lines | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(address(self._agent))
        except ConnectionRefusedError:  # the guard's container is not there yet
            connection.close()
            return None
        if not trusted(connection):
            connection.close()
            return None
        # Commands that the agent started keep the connection open until they are through: what they do is undone too.
        connection.set_inheritable(True)
        return Lines(connection)


def ready(pods: Iterable[str]) -> dict[str, Any]:
    return {"ready": sorted(pods)}
