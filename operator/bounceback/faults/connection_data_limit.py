"""Data limit: a connection ends in the middle of what it had to say."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from bounceback.faults.connection_fault import ConnectionFault
from bounceback.types import relay


class Ending(StrEnum):
    CLOSE = "Close"
    RESET = "Reset"


class ConnectionDataLimit(ConnectionFault):
    """A connection ends once exactly so many bytes have passed one way: in order, or with an RST.

    The bytes that passed before the fault began do not count. Proof is the number of connections ended.
    """

    kind: ClassVar[str] = "connectionDataLimit"
    hit_words: ClassVar[str] = "connections ended"

    limit_bytes: int = Field(ge=0, le=1_000_000_000_000, description="How much passes; 0: not a byte.")
    end: Ending = Field(Ending.CLOSE, description="Close: an end of stream (FIN). Reset: an RST.")

    def does(self) -> tuple[tuple[relay.Act, relay.Connections], ...]:
        return ((relay.LimitData(self.limit_bytes, self.end is Ending.RESET), relay.Connections.ALL),)
