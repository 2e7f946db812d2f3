"""Reset: connections are broken off with an RST."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.connection_fault import ConnectionFault
from bounceback.types import relay
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Act, Drop, Feature, Packets, Reset, Rung


class ConnectionReset(ConnectionFault):
    """Both ends of a connection get a real RST (ECONNRESET): those that are open at once, or each after so much.

    By the kernel, which ends open connections (SOCK_DESTROY; the target's own end is told ECONNABORTED), else by
    nftables, which answers the next packet of either end with an RST, else by the relay.

    With `afterBytes` or `afterMilliseconds` every connection is reset once it has come that far, those opened while it
    lasts too, and none before. Proof is the number of connections reset.
    """

    kind: ClassVar[str] = "connectionReset"
    hit_words: ClassVar[str] = "connections reset"

    after_bytes: int = Field(
        0, ge=0, le=1_000_000_000_000, description="After exactly this much passed one way; 0: whatever passed."
    )
    after_milliseconds: int = Field(
        0,
        ge=0,
        le=3_600_000,
        description="This long after it was opened, or after the fault began if that came later; 0: at any age.",
    )
    refuse_new: bool = Field(False, description="Refuse connections while it lasts (ECONNREFUSED).")

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        """nft resets a connection by its next packet, and cannot choose among connections."""
        if self.after_bytes or self.after_milliseconds:
            return (Rung.RELAY,)
        by_packets = choice.everything and not self.refuse_new
        return (Rung.SOCKETS, Rung.NFT) if by_packets else (Rung.SOCKETS,)

    @classmethod
    def all_rungs(cls) -> tuple[Rung, ...]:
        return (Rung.SOCKETS, Rung.NFT, Rung.RELAY)

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        match rung:
            case Rung.SOCKETS:
                return Reset(self.refuse_new, choice)
            case Rung.NFT:
                return Drop(reject=True, packets=Packets.OPEN)
            case _:
                return super().act(rung, choice)

    def needs(self, rung: Rung, choice: Choice = ALWAYS) -> frozenset[Feature]:
        needs = super().needs(rung, choice)
        refuses = rung is Rung.NFT or (rung is Rung.SOCKETS and self.refuse_new)
        return needs | {Feature.NFT_REJECT} if refuses else needs

    def does(self) -> tuple[tuple[relay.Act, relay.Connections], ...]:
        reset = relay.Reset(self.after_bytes, self.after_milliseconds * 1000)
        which = relay.Connections.EXISTING if reset.at_once else relay.Connections.ALL
        refusal = ((relay.Refuse(), relay.Connections.NEW),) if self.refuse_new else ()
        return ((reset, which), *refusal)
