"""The base of faults on what the target asks others by name: addresses of DNS, certificates of TLS."""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Annotated

from pydantic import Field

from bounceback.faults.base import NetworkFault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.names import LONGEST_NAME, PATTERN, DnsRule, TlsRule
from bounceback.types.plan import Act, Direction, Feature, Redirect, Rung

NamePattern = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME, pattern=PATTERN)]


class NameFault(NetworkFault):
    """Carried out by a relay in the target's network, to which new connections and queries are redirected."""

    @abstractmethod
    def rule(self, choice: Choice = ALWAYS) -> DnsRule | TlsRule:
        """What the relay does to those that are chosen."""

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.RELAY,)

    def act(self, rung: Rung, choice: Choice = ALWAYS) -> Act:
        rule = self.rule(choice)
        return Redirect(rule.speaks, json.dumps([{"name": self.kind, **rule.to_json()}]))

    def ways(self) -> Direction:
        return Direction.EGRESS

    def needs(self, rung: Rung, choice: Choice = ALWAYS) -> frozenset[Feature]:
        return frozenset({Feature.NFT_REDIRECT})
