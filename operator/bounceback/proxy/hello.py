"""The first message of a TLS client, as far as it says to whom it wants to speak (RFC 8446 section 4.1.2, RFC 6066).

With Encrypted Client Hello the name is that of the outer one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

RECORD: Final = struct.Struct("!BHH")  # type, version, length
HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
LARGEST_RECORD: Final = 16_384
LARGEST_HELLO: Final = 65_535
SERVER_NAME: Final = 0
HOST_NAME: Final = 0


@dataclass(frozen=True, slots=True)
class Hello:
    """A whole ClientHello; `server_name` is "" where it names nobody."""

    server_name: str


@dataclass(frozen=True, slots=True)
class Unfinished:
    """It may become one: so many bytes from the beginning are needed to tell more."""

    needed: int


class _Bytes:
    """Reads from left to right. Raises ValueError beyond the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count > self.left:
            raise ValueError("shorter than it says")
        self._at += count
        return self._data[self._at - count : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def part(self, size: int) -> _Bytes:
        """What follows a length of so many bytes."""
        return _Bytes(self.take(self.number(size)))


def client_hello(data: bytes) -> Hello | Unfinished | None:
    """From what a client sent first; None: it does not speak TLS, or not as it should."""
    found = handshake_message(data, CLIENT_HELLO)
    if not isinstance(found, bytes):
        return found
    try:
        return Hello(_server_name(_Bytes(found)))
    except ValueError:
        return None


def handshake_message(data: bytes, kind: int) -> bytes | Unfinished | None:
    """The body of the message that a stream of TLS begins with, if it is of that kind, from all records it fills."""
    message = b""
    at = 0
    while True:
        if len(data) < at + RECORD.size:
            return Unfinished(at + RECORD.size) if _may_begin(data, message, kind) else None
        record, version, length = RECORD.unpack_from(data, at)
        if record != HANDSHAKE or version >> 8 != 3 or not 0 < length <= LARGEST_RECORD:
            return None
        at += RECORD.size
        message += data[at : at + length]
        if not _may_begin(data, message, kind):
            return None
        if len(message) >= 4 and len(message) >= (whole := 4 + int.from_bytes(message[1:4], "big")):
            return message[4:whole]
        if len(data) < at + length:
            return Unfinished(at + length)
        at += length


def _may_begin(data: bytes, message: bytes, kind: int) -> bool:
    if data and data[0] != HANDSHAKE:
        return False
    return (not message or message[0] == kind) and int.from_bytes(message[1:4], "big") <= LARGEST_HELLO


def _server_name(hello: _Bytes) -> str:
    hello.take(2 + 32)  # version, random
    hello.part(1)  # session
    hello.part(2)  # cipher suites
    hello.part(1)  # compression
    if not hello.left:
        return ""
    extensions = hello.part(2)
    while extensions.left:
        kind, body = extensions.number(2), extensions.part(2)
        if kind != SERVER_NAME:
            continue
        names = body.part(2)
        while names.left:
            form, name = names.number(1), names.part(2)
            if form == HOST_NAME:
                return name.take(name.left).decode("ascii")  # UnicodeDecodeError is a ValueError
    return ""
