"""Who is at the other end of a unix socket (unix(7), SO_PEERCRED). Standard library only: the agent imports this."""

from __future__ import annotations

import struct
from typing import Final

_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred: process, user, group
CREDENTIALS: Final = _CREDENTIALS.size
"""How many bytes to ask getsockopt(2) for."""


def trusted(credentials: bytes, own: int) -> bool:
    """The other side is root or of our own user, by its number."""
    _, user, _ = _CREDENTIALS.unpack(credentials)
    return user in (0, own)


def process(credentials: bytes) -> int:
    """Its number as the asking process has it; 0 where that one cannot see it."""
    number, _, _ = _CREDENTIALS.unpack(credentials)
    return int(number)
