"""Timeout: connections stay open, and nothing passes."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from bounceback.faults.connection_fault import ConnectionFault
from bounceback.types import relay
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Act, Drop, Packets, Rung


class TimedOut(StrEnum):
    ALL = "All"
    NEW = "New"


class ConnectionTimeout(ConnectionFault):
    """Data between the target and its peers is silently held back, as behind a cut cable: nobody is told anything.

    By nftables, which drops the packets, of new connections those that open them; or by the relay, which takes them and
    then is silent. When it is over what was held back arrives, unless it was to be discarded: a
    connection that lost bytes is reset then, for its stream has a hole.
    """

    kind: ClassVar[str] = "connectionTimeout"
    hit_words: ClassVar[str] = "packets or segments held back"

    connections: TimedOut = Field(
        TimedOut.ALL, description="All connections, or only those opened while it lasts (New)."
    )
    close_after_milliseconds: int = Field(
        0, ge=0, le=3_600_000, description="Close a connection after it was silent this long; 0: never."
    )
    discard: bool = Field(
        False, description="Throw away what is sent meanwhile; connections that lost something are reset at the end."
    )

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        """nft chooses among packets; a share of the connections is the relay's to choose."""
        by_relay = self.close_after_milliseconds or self.discard or not choice.everything
        return (Rung.RELAY,) if by_relay else (Rung.NFT, Rung.RELAY)

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        if rung is not Rung.NFT:
            return super().act(rung, choice)
        new = self.connections is TimedOut.NEW
        return Drop(packets=Packets.OPENING if new else Packets.ALL)

    def does(self) -> tuple[tuple[relay.Act, relay.Connections], ...]:
        silence = relay.Silence(self.discard, self.close_after_milliseconds * 1000)
        return ((silence, relay.Connections(self.connections)),)
