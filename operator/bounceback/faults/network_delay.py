"""Delay: what the target sends to its peers, or gets from them, arrives late."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.base import NetworkFault, netem_needs
from bounceback.types.fields import Percent
from bounceback.types.plan import Act, Direction, Feature, Netem, Rung
from bounceback.types.rules import Rule, refuse


class Distribution(StrEnum):
    UNIFORM = "Uniform"
    NORMAL = "Normal"
    PARETO = "Pareto"
    PARETO_NORMAL = "ParetoNormal"


class NetworkDelay(NetworkFault):
    """Packets are held for a while, each way that `direction` names (tc-netem(8)).

    Proof is the number of packets that netem held.
    """

    kind: ClassVar[str] = "networkDelay"
    hit_words: ClassVar[str] = "packets delayed"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.jitterMilliseconds <= self.delayMilliseconds",
            "jitterMilliseconds must not exceed delayMilliseconds",
            ".jitterMilliseconds",
        ),
        Rule(
            "self.distribution == 'Uniform' || self.jitterMilliseconds > 0",
            "jitterMilliseconds must be above 0 for a distribution other than Uniform",
            ".jitterMilliseconds",
        ),
    )

    delay_milliseconds: int = Field(ge=1, le=60_000, description="Time added to each packet, one way.")
    jitter_milliseconds: int = Field(
        0, ge=0, le=60_000, description="Largest deviation from the delay; must not exceed it."
    )
    correlation_percent: Percent = Field(
        0, description="How much the deviation of one packet depends on that of the one before."
    )
    distribution: Distribution = Field(
        Distribution.UNIFORM, description="How the deviation is spread: Uniform, Normal, Pareto or ParetoNormal."
    )
    direction: Direction = Field(
        Direction.EGRESS, description="Which way's packets: what the target sends (Egress), gets (Ingress), or Both."
    )

    @model_validator(mode="after")
    def _jitter_fits(self) -> Self:
        if self.jitter_milliseconds > self.delay_milliseconds:
            raise refuse("jitterMilliseconds must not exceed delayMilliseconds", "jitterMilliseconds")
        if self.distribution is not Distribution.UNIFORM and not self.jitter_milliseconds:
            raise refuse(
                "jitterMilliseconds must be above 0 for a distribution other than Uniform", "jitterMilliseconds"
            )
        return self

    def rungs(self) -> tuple[Rung, ...]:
        return (Rung.NETEM,)

    def act(self, rung: Rung) -> Act:
        return Netem(
            delay_us=self.delay_milliseconds * 1000,
            jitter_us=self.jitter_milliseconds * 1000,
            delay_correlation=float(self.correlation_percent),
            distribution="" if self.distribution is Distribution.UNIFORM else self.distribution.lower(),
        )

    def ways(self) -> Direction:
        return self.direction

    def needs(self, rung: Rung) -> frozenset[Feature]:
        return netem_needs(self.direction)
