"""Loss: a share of the packets between the target and its peers never arrives."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.base import NetworkFault, netem_needs
from bounceback.types.choice import Choice
from bounceback.types.fields import Percent
from bounceback.types.plan import Act, Direction, Drop, Feature, Netem, Rung
from bounceback.types.rules import Rule, refuse


class NetworkLoss(NetworkFault):
    """Packets are lost at random, by tc-netem(8), or by nftables where the kernel has no netem and none is correlated.

    Proof is the number of packets lost.
    """

    kind: ClassVar[str] = "networkLoss"
    hit_words: ClassVar[str] = "packets lost"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.lossPercent < 100 || self.correlationPercent == 0",
            "correlationPercent must be 0 when every packet is lost",
            ".correlationPercent",
        ),
    )
    entry_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.networkLoss) || self.networkLoss.correlationPercent == 0"
            " || !has(self.mechanism) || self.mechanism != 'Nft'",
            "mechanism must be Netem, or unset, for networkLoss with a correlationPercent",
            ".mechanism",
        ),
    )

    loss_percent: int = Field(ge=1, le=100, description="Share of the packets that are lost.")
    correlation_percent: Percent = Field(
        0, description="How much the loss of one packet depends on that of the one before; needs netem."
    )
    direction: Direction = Field(
        Direction.EGRESS, description="Which way's packets: what the target sends (Egress), gets (Ingress), or Both."
    )

    @model_validator(mode="after")
    def _correlation_means_something(self) -> Self:
        if self.correlation_percent and self.loss_percent == 100:
            raise refuse("correlationPercent must be 0 when every packet is lost", "correlationPercent")
        return self

    def rungs(self) -> tuple[Rung, ...]:
        return (Rung.NETEM,) if self.correlation_percent else (Rung.NETEM, Rung.NFT)

    def act(self, rung: Rung) -> Act:
        if rung is Rung.NFT:
            return Drop(choice=Choice(self.loss_percent / 100))
        return Netem(loss_percent=float(self.loss_percent), loss_correlation=float(self.correlation_percent))

    def ways(self) -> Direction:
        return self.direction

    def needs(self, rung: Rung) -> frozenset[Feature]:
        return netem_needs(self.direction) if rung is Rung.NETEM else frozenset({Feature.NFT_NUMGEN})
