"""Bandwidth: what the target sends to its peers, or gets from them, is no faster than so much."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from bounceback.faults.packet_fault import PacketFault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.plan import Act, Feature, Rate, Rung
from bounceback.types.rules import Rule


class NetworkBandwidth(PacketFault):
    """All packets together, each way that `direction` names, pass at a rate (tc-tbf(8)); others wait, or are lost.

    The rate is that of whole packets, headers included. Proof is the number of packets that had to wait or were lost.
    """

    kind: ClassVar[str] = "networkBandwidth"
    hit_words: ClassVar[str] = "packets over the limit"
    qdisc: ClassVar[Feature] = Feature.TBF
    entry_rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.networkBandwidth) || (self.probability == 100 && self.nth <= 1 && self.firstN == 0)"
            " || !has(self.mechanism) || self.mechanism != 'Tbf'",
            "mechanism must be Relay, or unset, for networkBandwidth with probability, nth or firstN",
            ".mechanism",
        ),
    )

    kilobits_per_second: int = Field(
        ge=1, le=100_000_000, description="The rate: 1000 bits a second are 1; each interface and way has its own."
    )
    burst_kilobytes: int | None = Field(
        None,
        ge=2,
        le=1_000_000,
        description="What passes at full speed after a pause (1000 bytes are 1), and at least what takes a "
        "millisecond; unset: what takes ten, and at least 32.",
    )
    latency_milliseconds: int = Field(
        400, ge=1, le=60_000, description="How long a packet may wait; those that would have to wait longer are lost."
    )

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        """A rate is one of all packets together; the relay can limit some connections and not others."""
        return (Rung.TBF, Rung.RELAY) if choice.everything else (Rung.RELAY,)

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        rate = self.kilobits_per_second * 125
        burst = max(32_000, rate // 100) if self.burst_kilobytes is None else self.burst_kilobytes * 1000
        return Rate(rate, max(burst, rate // 1000), self.latency_milliseconds * 1000)
