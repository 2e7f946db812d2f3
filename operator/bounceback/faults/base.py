"""What every fault says of itself: what it needs, how it is carried out, what proves it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Set
from typing import ClassVar

from pydantic import Field

from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Model
from bounceback.types.plan import Act, Direction, Feature, Rung
from bounceback.types.rules import Rule
from bounceback.types.selectors import Peer, Protocol

NO_PATTERN = "pattern must be unset for {}: what is done at a moment cannot come and go"


class Fault(Model):
    """One kind of fault; the class is the field `kind` of a fault entry, its fields are what the user sets."""

    kind: ClassVar[str]
    hit_words: ClassVar[str]  # what one hit is, in the plural: "packets dropped"
    entry_rules: ClassVar[tuple[Rule, ...]] = ()  # on the entry of spec.faults that holds it; the fault may be unset

    @abstractmethod
    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        """The ways to carry it out among those that can tell such a choice, best first."""

    @property
    def momentary(self) -> str:
        """What of this kind is done at moments: nothing in between could come and go, or grow. "" for the others."""
        return self.kind if Rung.API in self.rungs() else ""

    def why_idle(self) -> str:
        """What to look at where it hit nothing."""
        return f"there were no {self.hit_words}"

    @classmethod
    def all_rungs(cls) -> tuple[Rung, ...]:
        """Those of the kind, whatever its fields say."""
        return cls.model_construct().rungs()


class NetworkFault(Fault):
    """A fault on the traffic between the target and its peers, carried out by an agent in the target's network."""

    peers: list[Peer] = Field(
        default_factory=list,
        max_length=20,
        description="Who the target talks to; empty: all but the node and our probes.",
    )

    @abstractmethod
    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        """What the agent is to do on that rung of the kernel. Raises ValueError for the relay, which has rules."""

    @abstractmethod
    def ways(self) -> Direction:
        """Which way's packets are hit."""

    @abstractmethod
    def needs(self, rung: Rung, choice: Choice = ALWAYS) -> frozenset[Feature]:
        """What the kernel of the target's node must be able to do; any one of the nft families will do beside it."""

    def why_idle(self) -> str:
        return "is anyone talking to these peers?"

    @property
    def speaks_udp(self) -> bool:
        """A peer is named with a port of UDP."""
        return any(port.protocol is Protocol.UDP for peer in self.peers for port in peer.ports)

    def missing(self, rung: Rung, has: Set[Feature], choice: Choice = ALWAYS) -> list[Feature]:
        """What is needed on that rung and not there; empty: it can be done."""
        lacking = sorted(self.needs(rung, choice) - has)
        if rung in (Rung.NFT, Rung.RELAY) and not has & {Feature.NFT_INET, Feature.NFT_IP}:
            lacking.append(Feature.NFT_INET)
        if rung in (Rung.NETEM, Rung.TBF) and not has & {Feature.PRIO, Feature.HTB}:
            lacking.append(Feature.PRIO)
        return lacking


INGRESS_NEEDS = frozenset({Feature.INGRESS, Feature.MIRRED, Feature.IFB})
RELAY_NEEDS = frozenset({Feature.NFT_REDIRECT})


def relay_needs(fault: NetworkFault) -> frozenset[Feature]:
    """What nf_tables needs to lead the target's traffic to a relay."""
    return RELAY_NEEDS | {Feature.NFT_ZONE} if fault.speaks_udp else RELAY_NEEDS


def queue_needs(qdisc: Feature, direction: Direction) -> frozenset[Feature]:
    """What tc needs for a qdisc on that way, the root apart: incoming packets are led through an ifb device."""
    needs = frozenset({qdisc, Feature.U32})
    return needs if direction is Direction.EGRESS else needs | INGRESS_NEEDS


def nft_needs(choice: Choice) -> frozenset[Feature]:
    """What nf_tables needs to choose like that."""
    needs = {Feature.NFT_NUMGEN} if choice.probability < 1 or choice.nth > 1 else set()
    return frozenset(needs | ({Feature.NFT_LIMIT} if choice.first_n else set()))


def first_possible(
    fault: NetworkFault, has: Set[Feature], allowed: Iterable[Rung], choice: Choice = ALWAYS
) -> tuple[Rung | None, dict[Rung, list[Feature]]]:
    """The best rung that the node can do among those allowed, or None with what each of them lacks."""
    lacking: dict[Rung, list[Feature]] = {}
    for rung in allowed:
        if not (missing := fault.missing(rung, has, choice)):
            return rung, {}
        lacking[rung] = missing
    return None, lacking
