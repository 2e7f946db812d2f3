"""Loss: a share of the packets between the target and its peers never arrives."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.packet_fault import PacketFault, counted_elsewhere, counts
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Model, Percent
from bounceback.types.plan import Act, Drop, Feature, Netem, Rung
from bounceback.types.rules import Rule, exactly_one, one_of, refuse

CORRELATION_OF_ALL: Final = "correlationPercent must be 0 when every packet is lost"
CORRELATION_OF_BURSTS: Final = "correlationPercent must be 0 with gilbertElliott"
CALM_IS_BETTER: Final = "calmLossPercent must be below burstLossPercent"


class GilbertElliott(Model):
    """Loss that comes in bursts, as on a radio link: packets fall into calm times and bursts, in turns, by chance."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.calmLossPercent < self.burstLossPercent", CALM_IS_BETTER, ".calmLossPercent"),
    )

    calm_packets: int = Field(ge=1, le=1_000_000, description="Packets between two bursts, on average.")
    burst_packets: int = Field(ge=1, le=1_000_000, description="Packets in a burst, on average.")
    burst_loss_percent: int = Field(100, ge=1, le=100, description="Share of the packets of a burst that are lost.")
    calm_loss_percent: int = Field(0, ge=0, le=99, description="Share of the other packets that are lost.")

    @model_validator(mode="after")
    def _calm_is_better(self) -> Self:
        if self.calm_loss_percent >= self.burst_loss_percent:
            raise refuse(CALM_IS_BETTER, "calmLossPercent")
        return self


class NetworkLoss(PacketFault):
    """Packets are lost by tc-netem(8), or by nftables where the kernel has no netem and each has the same chance.

    Proof is the number of packets lost.
    """

    kind: ClassVar[str] = "networkLoss"
    hit_words: ClassVar[str] = "packets lost"
    qdisc: ClassVar[Feature] = Feature.NETEM
    rules: ClassVar[tuple[Rule, ...]] = (
        one_of(("lossPercent", "gilbertElliott")),
        Rule(
            "!has(self.lossPercent) || self.lossPercent < 100 || self.correlationPercent == 0",
            CORRELATION_OF_ALL,
            ".correlationPercent",
        ),
        Rule("!has(self.gilbertElliott) || self.correlationPercent == 0", CORRELATION_OF_BURSTS, ".correlationPercent"),
    )
    entry_rules: ClassVar[tuple[Rule, ...]] = (
        counted_elsewhere("networkLoss", Rung.NETEM, "Nft or Relay"),
        Rule(
            "!has(self.networkLoss) || (self.networkLoss.correlationPercent == 0"
            " && !has(self.networkLoss.gilbertElliott)) || !has(self.mechanism) || self.mechanism != 'Nft'",
            "mechanism must be Netem or Relay, or unset, for networkLoss with a correlationPercent or gilbertElliott",
            ".mechanism",
        ),
    )

    loss_percent: int | None = Field(None, ge=1, le=100, description="Share of the packets that are lost.")
    correlation_percent: Percent = Field(
        0,
        description="How much the loss of one packet depends on that of the one before; the share stays what it is. "
        "Not by nftables.",
    )
    gilbert_elliott: GilbertElliott | None = Field(None, description="Loss in bursts, in place of lossPercent.")

    @model_validator(mode="after")
    def _one_model_of_loss(self) -> Self:
        if (self.loss_percent is None) == (self.gilbert_elliott is None):
            both = ("lossPercent", "gilbertElliott")
            raise refuse(exactly_one(both, both if self.loss_percent else ()))
        if self.correlation_percent and self.loss_percent == 100:
            raise refuse(CORRELATION_OF_ALL, "correlationPercent")
        if self.correlation_percent and self.gilbert_elliott:
            raise refuse(CORRELATION_OF_BURSTS, "correlationPercent")
        return self

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        if self.correlation_percent or self.gilbert_elliott:
            return super().rungs(choice)
        return (Rung.NFT, Rung.RELAY) if counts(choice) else (Rung.NETEM, Rung.NFT, Rung.RELAY)

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        share = choice.probability
        if self.gilbert_elliott is not None:
            bursts = self.gilbert_elliott
            return Netem(
                burst_begins_percent=100 / bursts.calm_packets,
                burst_ends_percent=100 / bursts.burst_packets,
                burst_loss_percent=bursts.burst_loss_percent * share,
                calm_loss_percent=bursts.calm_loss_percent * share,
            )
        assert self.loss_percent is not None
        if rung is Rung.NFT:
            return Drop(choice=replace(choice, probability=share * self.loss_percent / 100))
        return Netem(loss_percent=self.loss_percent * share, loss_correlation=float(self.correlation_percent))

    def needs(self, rung: Rung, choice: Choice = ALWAYS) -> frozenset[Feature]:
        if rung is Rung.NFT and self.loss_percent != 100:
            return super().needs(rung, choice) | {Feature.NFT_NUMGEN}
        return super().needs(rung, choice)
