"""What becomes of a DNS query: decided by the rules from the query alone, without I/O.

What no rule is about is read no further than its question; what cannot be read is for the true server to judge.
Messages are those of RFC 1035 with EDNS (RFC 6891).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from bounceback.proxy.named import Applied, Book, Shelf
from bounceback.types.names import DnsAnswer, DnsRule, plain

HEADER: Final = struct.Struct("!HHH")  # id, flags, number of questions (RFC 1035 section 4.1.1)
HEADER_SIZE: Final = 12
OPCODE_MASK: Final = 0x7800
LARGEST: Final = 65_535
LARGEST_PLAIN: Final = 512  # bytes of a datagram, unless EDNS says more (RFC 1035 section 4.2.1)
RCODES: Final = {
    DnsAnswer.NX_DOMAIN: dns.rcode.NXDOMAIN,
    DnsAnswer.SERV_FAIL: dns.rcode.SERVFAIL,
    DnsAnswer.WRONG_ADDRESS: dns.rcode.NOERROR,
}
ADDRESS_TYPES: Final = {"A": 4, "AAAA": 6}


@dataclass(frozen=True, slots=True)
class Decision:
    """After `delay` seconds: `answer` goes back, or, where there is none, the query goes on if `forward`."""

    delay: float = 0.0
    answer: bytes | None = None
    forward: bool = True


AS_IT_IS: Final = Decision()


@dataclass(slots=True)
class DnsCount:
    """Of one rule: queries that it is about, and those of them that it hit."""

    seen: int = 0
    hits: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A query's question; the name is as patterns are held against it."""

    name: str
    record_type: str


def _is_about(applied: Applied[DnsRule, DnsCount], asked: Asked) -> bool:
    return _of_type(applied.rule, asked.record_type) and applied.fits(asked.name)


def _of_type(rule: DnsRule, record_type: str) -> bool:
    if rule.answer is DnsAnswer.WRONG_ADDRESS and record_type not in ADDRESS_TYPES:
        return False
    return not rule.record_types or record_type in rule.record_types


DnsShelf = Shelf[DnsRule, DnsCount]


class Judge:
    """Holds queries against the rules, in their order: delays add up, the first other answer is the one."""

    def __init__(self, rules: Mapping[str, DnsRule] | None = None, shelf: DnsShelf | None = None) -> None:
        self._book: Book[DnsRule, DnsCount] = Book(DnsCount, shelf)
        self._book.put(rules or {})

    def put(self, rules: Mapping[str, DnsRule]) -> None:
        """These from now on. One that was there under the same name goes on counting where it was."""
        self._book.put(rules)

    def counts(self) -> dict[str, DnsCount]:
        """Of all rules that there ever were."""
        return self._book.counts()

    def decide(self, query: bytes, *, stream: bool) -> Decision:
        """`stream`: it came by TCP, where an answer may have any size."""
        if not self._book.active or (asked := question(query)) is None:
            return AS_IT_IS
        delay = 0.0
        for rule in self._hit(asked):
            if rule.answer is DnsAnswer.DELAY:
                delay += rule.delay_ms / 1000
            elif rule.answer is DnsAnswer.TIMEOUT:
                return Decision(delay, forward=False)
            else:
                return Decision(delay, answer(query, rule, stream=stream))
        return Decision(delay) if delay else AS_IT_IS

    def _hit(self, asked: Asked) -> Iterator[DnsRule]:
        about = (applied for applied in self._book.active if _is_about(applied, asked))
        return (applied.rule for applied in about if applied.hits_next())


def question(query: bytes) -> Asked | None:
    """None for all but a plain query with one question of the class IN, well-formed as far as that."""
    if len(query) < HEADER_SIZE:
        return None
    _, flags, questions = HEADER.unpack_from(query)
    if flags & dns.flags.QR or flags & OPCODE_MASK or questions != 1:
        return None
    try:
        asked = dns.message.from_wire(query, question_only=True).question[0]
    except dns.exception.DNSException:
        return None
    if asked.rdclass != dns.rdataclass.IN:
        return None
    return Asked(plain(asked.name.to_text()), dns.rdatatype.to_text(asked.rdtype))


def answer(query: bytes, rule: DnsRule, *, stream: bool) -> bytes:
    """What the rule says to a query that has a `question`: its ID, its name letter by letter, EDNS if it has it."""
    whole = _whole(query)
    response = dns.message.make_response(whole, recursion_available=True)
    response.set_rcode(RCODES[rule.answer])
    asked = response.question[0]
    for address in _of_family(rule.addresses, ADDRESS_TYPES.get(dns.rdatatype.to_text(asked.rdtype), 0)):
        # Each a set of its own, because the records of one set would be shuffled.
        response.answer.append(dns.rrset.from_text(asked.name, rule.ttl, asked.rdclass, asked.rdtype, address))
    most = LARGEST if stream else max(LARGEST_PLAIN, whole.payload)
    return response.to_wire(max_size=most, prefer_truncation=True)


def _whole(query: bytes) -> dns.message.Message:
    """All of the query, or its question where more cannot be read."""
    try:
        return dns.message.from_wire(query)
    except dns.exception.DNSException:
        return dns.message.from_wire(query, question_only=True)


def _of_family(addresses: Iterable[str], version: int) -> Iterator[str]:
    return (address for address in addresses if ipaddress.ip_address(address).version == version)
