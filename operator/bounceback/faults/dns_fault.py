"""DNS: names that the target looks up are answered wrongly, late or not at all."""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.name_fault import NameFault, NamePattern
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.names import DnsAnswer, DnsRule
from bounceback.types.rules import Rule, refuse

ADDRESSES_WITH = "addresses must be given with answer WrongAddress, and with it only"
DELAY_WITH = "delayMilliseconds must be above 0 with answer Delay, and 0 or unset with any other"
TTL_WITH = "ttlSeconds must be 0 or unset with any answer but WrongAddress"
TYPES_WITH = "recordTypes must be A or AAAA, or empty for both, with answer WrongAddress"
IS_ADDRESS = "addresses must be IPv4 or IPv6 addresses, for example 192.0.2.1"


class RecordType(StrEnum):
    A = "A"
    AAAA = "AAAA"
    ANY = "ANY"
    CAA = "CAA"
    CNAME = "CNAME"
    HTTPS = "HTTPS"
    MX = "MX"
    NS = "NS"
    PTR = "PTR"
    SOA = "SOA"
    SRV = "SRV"
    SVCB = "SVCB"
    TXT = "TXT"


class DnsFault(NameFault):
    """Lookups of the target are answered with NxDomain, ServFail, WrongAddress, late (Delay) or not at all (Timeout).

    Neither the target's image nor its resolv.conf is touched: queries to port 53, by UDP and TCP, are redirected to a
    resolver that passes on what the fault is not about, byte for byte. Names are held against what is asked, search
    list included: name the full name (`db.shop.svc.cluster.local`) or use `*` (`db.*`). What the target's application
    or its runtime keeps from earlier lookups is not touched. Proof is the number of queries that were hit.
    """

    kind: ClassVar[str] = "dnsFault"
    hit_words: ClassVar[str] = "DNS queries hit"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.answer == 'WrongAddress') == (has(self.addresses) && size(self.addresses) > 0)",
            ADDRESSES_WITH,
            ".addresses",
        ),
        Rule("!has(self.addresses) || self.addresses.all(a, isIP(a))", IS_ADDRESS, ".addresses"),
        Rule("(self.answer == 'Delay') == (self.delayMilliseconds > 0)", DELAY_WITH, ".delayMilliseconds"),
        Rule("self.answer == 'WrongAddress' || self.ttlSeconds == 0", TTL_WITH, ".ttlSeconds"),
        Rule(
            "self.answer != 'WrongAddress' || !has(self.recordTypes) || self.recordTypes.all(t, t in ['A', 'AAAA'])",
            TYPES_WITH,
            ".recordTypes",
        ),
    )

    answer: DnsAnswer = Field(
        description="NxDomain (no such name), ServFail (the server is in trouble), Timeout (no answer), "
        "WrongAddress (those of `addresses`), or Delay (the true answer, late)."
    )
    names: list[NamePattern] = Field(
        default_factory=list,
        max_length=20,
        description="Names as they are asked, search list included; * stands for any characters. Empty: all names.",
    )
    record_types: list[RecordType] = Field(
        default_factory=list, max_length=20, description="Only queries for these types; empty: all types."
    )
    addresses: list[Annotated[str, Field(max_length=45)]] = Field(
        default_factory=list,
        max_length=10,
        description="For WrongAddress: A is answered with the IPv4 ones, AAAA with the IPv6 ones, or with none.",
    )
    ttl_seconds: int = Field(
        0, ge=0, le=86_400, description="For WrongAddress: how long it may be kept, maybe longer than the fault lasts."
    )
    delay_milliseconds: int = Field(0, ge=0, le=60_000, description="For Delay: how late the answer is.")

    def why_idle(self) -> str:
        return "does it look these names up meanwhile, as they are in full, and not from a cache of its own?"

    @model_validator(mode="after")
    def _fits_answer(self) -> Self:
        wrong_address = self.answer is DnsAnswer.WRONG_ADDRESS
        if wrong_address != bool(self.addresses):
            raise refuse(ADDRESSES_WITH, "addresses")
        for index, address in enumerate(self.addresses):
            if not _is_address(address):
                raise refuse(IS_ADDRESS, "addresses", index)
        if (self.answer is DnsAnswer.DELAY) != bool(self.delay_milliseconds):
            raise refuse(DELAY_WITH, "delayMilliseconds")
        if self.ttl_seconds and not wrong_address:
            raise refuse(TTL_WITH, "ttlSeconds")
        if wrong_address and not set(self.record_types) <= {RecordType.A, RecordType.AAAA}:
            raise refuse(TYPES_WITH, "recordTypes")
        return self

    def rule(self, choice: Choice = ALWAYS) -> DnsRule:
        return DnsRule(
            self.answer,
            tuple(self.names),
            tuple(map(str, self.record_types)),
            tuple(self.addresses),
            self.delay_milliseconds,
            self.ttl_seconds,
            choice,
        )


def _is_address(text: str) -> bool:
    """As isIP of the API server has it: no zones."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text
