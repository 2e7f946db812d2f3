"""What every fault says of itself: what it needs, how it is carried out, what proves it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Set
from typing import ClassVar

from pydantic import Field

from bounceback.types.fields import Model
from bounceback.types.plan import Act, Direction, Feature, Rung
from bounceback.types.rules import Rule
from bounceback.types.selectors import Peer


class Fault(Model):
    """One kind of fault; the class is the field `kind` of a fault entry, its fields are what the user sets."""

    kind: ClassVar[str]
    hit_words: ClassVar[str]  # what one hit is, in the plural: "packets dropped"
    entry_rules: ClassVar[tuple[Rule, ...]] = ()  # on the entry of spec.faults that holds it; the fault may be unset

    @abstractmethod
    def rungs(self) -> tuple[Rung, ...]:
        """The ways to carry it out, best first."""


class NetworkFault(Fault):
    """A fault on the traffic between the target and its peers, carried out by an agent in the target's network."""

    peers: list[Peer] = Field(
        default_factory=list,
        max_length=20,
        description="Who the target talks to; empty: everyone but the node and Bounceback's own probes.",
    )

    @abstractmethod
    def act(self, rung: Rung) -> Act:
        """What the agent is to do on that rung."""

    @abstractmethod
    def ways(self) -> Direction:
        """Which way's packets are hit."""

    @abstractmethod
    def needs(self, rung: Rung) -> frozenset[Feature]:
        """What the kernel of the target's node must be able to do; any one of the nft families will do beside it."""

    def missing(self, rung: Rung, has: Set[Feature]) -> list[Feature]:
        """What is needed on that rung and not there; empty: it can be done."""
        lacking = sorted(self.needs(rung) - has)
        if rung is Rung.NFT and not has & {Feature.NFT_INET, Feature.NFT_IP}:
            lacking.append(Feature.NFT_INET)
        return lacking


NETEM_NEEDS = frozenset({Feature.NETEM, Feature.PRIO, Feature.U32})
INGRESS_NEEDS = frozenset({Feature.INGRESS, Feature.MIRRED, Feature.IFB})


def netem_needs(direction: Direction) -> frozenset[Feature]:
    """What tc needs for netem on that way: incoming packets are led through an ifb device."""
    return NETEM_NEEDS if direction is Direction.EGRESS else NETEM_NEEDS | INGRESS_NEEDS


def first_possible(
    fault: NetworkFault, has: Set[Feature], allowed: Iterable[Rung]
) -> tuple[Rung | None, dict[Rung, list[Feature]]]:
    """The best rung that the node can do among those allowed, or None with what each of them lacks."""
    lacking: dict[Rung, list[Feature]] = {}
    for rung in allowed:
        if not (missing := fault.missing(rung, has)):
            return rung, {}
        lacking[rung] = missing
    return None, lacking
