"""Delay: what the target sends to its peers, or gets from them, arrives late."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.packet_fault import PacketFault, counted_elsewhere
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Model, Percent
from bounceback.types.plan import Act, Feature, Netem, Rung
from bounceback.types.rules import Rule, refuse

JITTER_FITS: Final = "jitterMilliseconds must not exceed delayMilliseconds"
JITTER_IS_SPREAD: Final = "jitterMilliseconds must be above 0 for a distribution other than Uniform"
JITTER_OF_SPREAD: Final = "jitterMilliseconds must be at most 2000 for a distribution other than Uniform"
CORRELATION_OF_JITTER: Final = "correlationPercent must be 0 without a jitter"
SPIKE_FITS: Final = (
    "multiplier must be such that the longest delay (delayMilliseconds and the jitter, four times where it is not "
    "Uniform, times the multiplier) is at most 17000 ms"
)
_LONGEST: Final = 17_000  # between the shortest and the longest that netem can mix


class Distribution(StrEnum):
    UNIFORM = "Uniform"
    NORMAL = "Normal"
    PARETO = "Pareto"
    PARETO_NORMAL = "ParetoNormal"


class Spike(Model):
    """Some packets take several times as long."""

    probability_percent: int = Field(ge=1, le=100, description="Share of the delayed packets that it happens to.")
    multiplier: int = Field(ge=2, le=1000, description="How many times as long they are held.")


class NetworkDelay(PacketFault):
    """Packets are held for a while, each way that `direction` names (tc-netem(8)).

    Jitter lets packets overtake each other, as on a real network. Proof is the number of packets that netem held; with
    a probability below 100 the number that were held for sure, as netem does not count these.
    """

    kind: ClassVar[str] = "networkDelay"
    hit_words: ClassVar[str] = "packets delayed"
    qdisc: ClassVar[Feature] = Feature.NETEM
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.jitterMilliseconds <= self.delayMilliseconds", JITTER_FITS, ".jitterMilliseconds"),
        Rule("self.distribution == 'Uniform' || self.jitterMilliseconds > 0", JITTER_IS_SPREAD, ".jitterMilliseconds"),
        Rule(
            "self.distribution == 'Uniform' || self.jitterMilliseconds <= 2000",
            JITTER_OF_SPREAD,
            ".jitterMilliseconds",
        ),
        Rule(
            "self.correlationPercent == 0 || self.jitterMilliseconds > 0", CORRELATION_OF_JITTER, ".correlationPercent"
        ),
        Rule(
            "!has(self.spike) || (self.delayMilliseconds + self.jitterMilliseconds"
            " * (self.distribution == 'Uniform' ? 1 : 4)) * self.spike.multiplier <= 17000",
            SPIKE_FITS,
            ".spike",
        ),
    )
    entry_rules: ClassVar[tuple[Rule, ...]] = (
        counted_elsewhere("networkDelay", Rung.NETEM, "Relay"),
        Rule(
            "!has(self.networkDelay) || self.networkDelay.correlationPercent == 0"
            " || !has(self.mechanism) || self.mechanism != 'Netem'",
            "mechanism must be Relay, or unset, for networkDelay with a correlationPercent",
            ".mechanism",
        ),
    )

    delay_milliseconds: int = Field(ge=1, le=60_000, description="Time added to each packet, one way.")
    jitter_milliseconds: int = Field(
        0,
        ge=0,
        le=8_000,
        description="Deviation from the delay: the largest one (Uniform), or the standard deviation; must not exceed "
        "the delay.",
    )
    correlation_percent: Percent = Field(
        0,
        description="How much the deviation of one packet depends on that of the one before. By the relay: netem's own "
        "correlation of delays has no effect.",
    )
    distribution: Distribution = Field(
        Distribution.UNIFORM,
        description="How the deviation is spread: Uniform, Normal, Pareto or ParetoNormal, the last three cut off at "
        "four times the jitter.",
    )
    spike: Spike | None = Field(None, description="Some of the packets take several times as long.")

    @model_validator(mode="after")
    def _delays_fit(self) -> Self:
        uniform = self.distribution is Distribution.UNIFORM
        if self.jitter_milliseconds > self.delay_milliseconds:
            raise refuse(JITTER_FITS, "jitterMilliseconds")
        if not uniform and not self.jitter_milliseconds:
            raise refuse(JITTER_IS_SPREAD, "jitterMilliseconds")
        if not uniform and self.jitter_milliseconds > 2000:
            raise refuse(JITTER_OF_SPREAD, "jitterMilliseconds")
        if self.correlation_percent and not self.jitter_milliseconds:
            raise refuse(CORRELATION_OF_JITTER, "correlationPercent")
        if self.spike is not None and self._longest() > _LONGEST:
            raise refuse(SPIKE_FITS, "spike")
        return self

    def _longest(self) -> int:
        """In milliseconds; distributions that are not even are cut off at four deviations."""
        deviations = 1 if self.distribution is Distribution.UNIFORM else 4
        longest = self.delay_milliseconds + self.jitter_milliseconds * deviations
        return longest * (self.spike.multiplier if self.spike else 1)

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        """A delay by probability is a mixture with no delay at all, which must not be too far away for netem."""
        too_wide = choice.probability < 1 and self._longest() > _LONGEST
        return (Rung.RELAY,) if self.correlation_percent or too_wide else super().rungs(choice)

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        return Netem(
            delay_us=self.delay_milliseconds * 1000,
            jitter_us=self.jitter_milliseconds * 1000,
            delay_correlation=float(self.correlation_percent),
            distribution="" if self.distribution is Distribution.UNIFORM else self.distribution.lower(),
            delayed_percent=choice.probability * 100,
            spike_percent=float(self.spike.probability_percent) if self.spike else 0.0,
            spike_factor=float(self.spike.multiplier) if self.spike else 1.0,
        )
