"""Partition: nothing passes between the target and its peers."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from bounceback.faults.base import NetworkFault, nft_needs, relay_needs
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Act, Direction, Drop, Feature, Rung


class Action(StrEnum):
    DROP = "Drop"
    REJECT = "Reject"


class NetworkPartition(NetworkFault):
    """Packets between the target and its peers are dropped or rejected, on established connections too.

    Carried out by nftables in the target's network namespace, in a table that the kernel removes when the agent dies.
    Proof is the number of packets that its counters saw.
    """

    kind: ClassVar[str] = "networkPartition"
    hit_words: ClassVar[str] = "packets dropped"

    direction: Direction = Field(Direction.BOTH, description="What the target sends (Egress), gets (Ingress), or Both.")
    action: Action = Field(
        Action.DROP,
        description="Drop: silence, as behind a cut cable. Reject: refused at once, with RST or an ICMP error.",
    )

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.NFT, Rung.RELAY)

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        return Drop(reject=self.action is Action.REJECT, choice=choice)

    def ways(self) -> Direction:
        return self.direction

    def needs(self, rung: Rung, choice: Choice = ALWAYS) -> frozenset[Feature]:
        if rung is Rung.RELAY:
            return relay_needs(self)
        return nft_needs(choice) | ({Feature.NFT_REJECT} if self.action is Action.REJECT else frozenset())
