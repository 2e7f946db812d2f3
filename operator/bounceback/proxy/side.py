"""One socket of a connection that passes through, and what goes from it to the other one.

Without a rule what is read on one side is written to the other, and that is all. With rules it goes through a lane.
What a socket does not take makes the other one wait; an end of stream or a reset on one side becomes one on the other.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final, Protocol, cast

from bounceback.proxy.lane import Applied, End, Lane
from bounceback.types.plan import Direction

LINGER_NOTHING: Final = struct.pack("ii", 1, 0)
"""For SO_LINGER (socket(7)): closing sends an RST and throws away what was not sent."""


def reset_socket(sock: socket.socket) -> None:
    """Close a socket with an RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOTHING)
    sock.close()


class Budget:
    """Memory for what waits in lanes: so many bytes for each, and for all of them together (half full: 64 KiB each)."""

    __slots__ = ("each", "total", "used")

    LEAST: Final = 64 * 1024

    def __init__(self, each: int = 16 << 20, total: int = 256 << 20) -> None:
        self.each = each
        self.total = total
        self.used = 0

    def allows(self, held: int) -> bool:
        """Whether a lane that holds so much may be given more."""
        return held < (self.each if self.used < self.total else self.LEAST)


MUCH: Final = 64 * 1024
"""Bytes read at a time from which on a side is taken to be sending in bulk: copying them is then what costs most."""
LITTLE: Final = 16 * 1024
BUFFER: Final = memoryview(bytearray(1024 * 1024))
"""For all that send in bulk: it is empty again before the next one reads."""


class Whole(Protocol):
    """What a side asks of its connection."""

    over: bool
    budget: Budget

    def close(self) -> None: ...
    def reset(self) -> None: ...
    def reset_by_rule(self) -> None: ...
    def check_gone(self) -> None: ...


class Side(asyncio.Protocol):
    """One socket of a connection; `lane` is for what is read from it."""

    __slots__ = (
        "_booked",
        "_connection",
        "_due",
        "_timer",
        "_write",
        "bytes",
        "done",
        "ended",
        "held_up",
        "lane",
        "lost",
        "other",
        "paused",
        "sock",
        "transport",
    )

    other: Side

    def __init__(self, connection: Whole, sock: socket.socket) -> None:
        self._connection = connection
        self.sock = sock
        self.transport: asyncio.Transport | None = None
        self.lane: Lane | None = None
        self.bytes = 0
        self.ended = False  # nothing more comes from here
        self.done = False  # and the other side was told so
        self.lost = False  # the socket is gone
        self.paused = False  # not read from
        self.held_up = False  # does not take what is written to it
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf
        self._booked = 0
        self._write: Callable[[bytes], None] = _nowhere  # to the other side

    def itself(self) -> Side:
        """As the factory that the loop asks for."""
        return self

    # What the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are like it, and no subclass
        if self._connection.over:
            self.reset()
        else:
            self.other._write = self.transport.write

    def data_received(self, data: bytes) -> None:
        self.bytes += (size := len(data))
        if self.lane is None:
            self._write(data)
            if size >= MUCH:
                self._flow(True)
        else:
            self.lane.put(data, monotonic())
            self.pump()

    def eof_received(self) -> bool:
        self.ended = True
        self.pass_end(End.FIN)
        return True

    def pause_writing(self) -> None:
        self.held_up = True
        self.other.regulate()

    def resume_writing(self) -> None:
        self.held_up = False
        self.other.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = self.ended = True
        self.other._write = _nowhere
        if not self._connection.over:  # neither an end of stream nor we: the other one reset it, or is out of reach
            self.pass_end(End.RESET)
        self._connection.check_gone()

    # What goes on to the other side

    def pass_end(self, how: End) -> None:
        if self.lane is None:
            self._end(how)
        else:
            self.lane.end(how, monotonic())
            self.pump()

    def pump(self) -> None:
        """Pass on all whose time has come, and see to it that the rest gets its turn."""
        lane = self.lane
        if lane is None:
            self.regulate()
            return
        if not self.other.held_up or self.lost:
            for piece in lane.take(monotonic()):
                if isinstance(piece, End):
                    self._end(piece)
                else:
                    self._write(piece)
            if self._connection.over:
                return
            self._set_timer(lane.wake())
        if lane.idle:
            self.lane = None
        self.regulate()

    def follow(self, rules: tuple[Applied, ...], way: Direction, number: int) -> None:
        if self.lane is None:
            if not rules:
                return
            self.lane = Lane(way, number)
        self.lane.follow(rules, monotonic())
        self.pump()

    def pass_at_once(self, data: memoryview) -> None:
        """Write what is in a buffer that will be used again: to the socket itself, and keep what it does not take."""
        self.bytes += len(data)
        sent, other = 0, self.other
        if self.lane is None and other.transport is not None and not other.transport.get_write_buffer_size():
            with suppress(OSError):  # full, or gone: the loop finds that out with the rest
                sent = other.sock.send(data)
        if self.lane is not None:
            self.bytes -= len(data)
            self.data_received(bytes(data))
        elif sent < len(data):
            self._write(bytes(data[sent:]))
        if len(data) < LITTLE:
            self._flow(False)

    def _flow(self, much: bool) -> None:
        """From now on data is read into a buffer that is there, not copied into objects; or as usual again."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.set_protocol(_Flow(self) if much else self)
            if not self.paused and not self.ended:
                self.transport.pause_reading()  # only beginning to read makes the loop ask which kind it is
                self.transport.resume_reading()

    def regulate(self) -> None:
        """Read on, or wait: until the other side takes what is there, and until the lane has room."""
        held = 0
        if self.lane is not None:
            held = self.lane.held
        budget = self._connection.budget
        budget.used += held - self._booked
        self._booked = held
        if self.ended or self.transport is None:
            return
        wait = self.other.held_up or (held > 0 and not budget.allows(held * 2 if self.paused else held))
        if wait != self.paused:
            self.paused = wait
            if wait:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()

    def _set_timer(self, due: float) -> None:
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = due
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - monotonic()), self._rings)

    def _rings(self) -> None:
        self._timer, self._due = None, math.inf
        self.pump()

    def _end(self, how: End) -> None:
        if how is End.RESET:
            if self.lost:
                self._connection.reset()
            else:
                self._connection.reset_by_rule()
        elif how is End.CLOSE:
            self._connection.close()
        elif not self.done:
            self.done = True
            if self.other.done:
                self._connection.close()
            elif self.other.transport is not None and not self.other.lost:
                self.other.transport.write_eof()

    # What we do to it

    def close(self) -> None:
        """In order, after all that was written; with an RST by the kernel if there is something that nobody read."""
        self._forget()
        if self.transport is not None and not self.lost:
            self.transport.close()

    def reset(self) -> None:
        self._forget()
        if self.transport is not None and not self.lost:
            with suppress(OSError):  # the loop has closed it already
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOTHING)
            self.transport.abort()

    def _forget(self) -> None:
        self._set_timer(math.inf)
        self.lane = None
        self._write = _nowhere
        self._connection.budget.used -= self._booked
        self._booked = 0


class _Flow(asyncio.BufferedProtocol):
    """In the place of a side that sends in bulk."""

    __slots__ = ("_side", "connection_lost", "eof_received", "pause_writing", "resume_writing")

    def __init__(self, side: Side) -> None:
        self._side = side
        self.eof_received = side.eof_received  # type: ignore[method-assign]
        self.connection_lost = side.connection_lost  # type: ignore[method-assign]
        self.pause_writing = side.pause_writing  # type: ignore[method-assign]
        self.resume_writing = side.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        return BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self._side.pass_at_once(BUFFER[:nbytes])


def _nowhere(data: bytes) -> None:
    """What is written to a socket that is gone."""
