"""Good and bad faults on names and certificates, for the table of spec_cases: name, the fault's entry, message, field,
and what the API server says where its words are not ours."""

from __future__ import annotations

from typing import Any, Final

from bounceback.faults.dns_fault import ADDRESSES_WITH, DELAY_WITH, IS_ADDRESS, TTL_WITH, TYPES_WITH
from bounceback.faults.tls_fault import AUTHORITY_WITH, CUT_WITH, NAMES_WITH, NO_PATTERNS_WITH

_NAME: Final = "must be text of 1 to 253 characters: a DNS name, labels of letters, digits, dashes and underscores"
_WRONG: Final = {"answer": "WrongAddress", "addresses": ["192.0.2.1", "2001:db8::1"]}


def _dns(**fields: Any) -> dict[str, Any]:
    return {"dnsFault": {"answer": "NxDomain", **fields}}


def _tls(**fields: Any) -> dict[str, Any]:
    return {"tlsFault": {"answer": "Expired", **fields}}


_CA: Final = {"secretName": "shop-ca"}


def _elsewhere(kind: str, entry: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
    """Only by a relay."""
    return (
        (f"{kind} by nft", {**entry, "mechanism": "Nft"}, f"mechanism must be Relay, or unset, for {kind}",
         ".mechanism"),
        (f"{kind} by a deletion", {**entry, "vehicle": "PodDelete"},
         f"vehicle must be Auto or Sidecar or NodePod for {kind}", ".vehicle"),
    )  # fmt: skip


NAMES: Final[tuple[tuple[Any, ...], ...]] = (
    ("names that are gone", _dns(names=["*.example.com", "db", "_sql._tcp.DB.", "xn--bcher-kva.example"]), "", ""),
    ("a server in trouble for some queries", {**_dns(answer="ServFail", recordTypes=["AAAA", "SRV"]),
      "probability": 50, "nth": 2, "firstN": 9, "seed": 7, "mechanism": "Relay"}, "", ""),
    ("a late answer", _dns(answer="Delay", delayMilliseconds=60_000), "", ""),
    ("wrong addresses", _dns(**_WRONG, recordTypes=["A", "AAAA"], ttlSeconds=86_400), "", ""),
    *(
        (f"{name!r} as a name of {kind}", {kind: {"answer": answer, "names": ["fine.test", name]}}, _NAME,
         f".{kind}.names[1]", says)
        for kind, answer in (("dnsFault", "Timeout"), ("tlsFault", "PlainText"))
        for name, says in (
            ("a..b", "should match"), ("-a", "should match"), ("a b", "should match"), ("http://a", "should match"),
            ("bücher.test", "should match"), ("a" * 64, "should match"), ("a?", "should match"),
            ("", "should be at least 1 chars long"), ("a.b" * 90, "may not be more than 253 bytes"),
        )
    ),
    ("an answer of DNS that is none", _dns(answer="Lie"), "must be one of NxDomain, ServFail, Timeout",
     ".dnsFault.answer", "supported values"),
    ("a type of record that none has", _dns(recordTypes=["AXFR"]), "must be one of A, AAAA",
     ".dnsFault.recordTypes[0]", "supported values"),
    ("no wrong address", _dns(answer="WrongAddress"), ADDRESSES_WITH, ".dnsFault.addresses"),
    ("addresses of a name that is gone", _dns(addresses=["192.0.2.1"]), ADDRESSES_WITH, ".dnsFault.addresses"),
    ("an address that is a name", _dns(answer="WrongAddress", addresses=["db"]), IS_ADDRESS, ".dnsFault.addresses"),
    ("an address with a zone", _dns(answer="WrongAddress", addresses=["fe80::1%eth0"]), IS_ADDRESS,
     ".dnsFault.addresses"),
    ("wrong addresses of mail servers", _dns(**_WRONG, recordTypes=["A", "MX"]), TYPES_WITH,
     ".dnsFault.recordTypes"),
    ("a delay of no time", _dns(answer="Delay"), DELAY_WITH, ".dnsFault.delayMilliseconds"),
    ("a delay beyond a minute", _dns(answer="Delay", delayMilliseconds=60_001),
     "must be a whole number from 0 to 60000", ".dnsFault.delayMilliseconds", "less than or equal to 60000"),
    ("a late name that is gone", _dns(delayMilliseconds=5), DELAY_WITH, ".dnsFault.delayMilliseconds"),
    ("a lifetime of no address", _dns(ttlSeconds=5), TTL_WITH, ".dnsFault.ttlSeconds"),
    *_elsewhere("dnsFault", _dns()),
    ("an expired certificate", _tls(names=["*.shop.test"]), "", ""),
    ("a handshake cut late", _tls(answer="HandshakeCut", cutAfter="ServerHello", cutBy="Close"), "", ""),
    ("an answer of TLS that is none", _tls(answer="Revoked"), "must be one of Expired, NotYetValid, WrongHost",
     ".tlsFault.answer", "supported values"),
    ("an expired certificate cut late", _tls(cutAfter="ServerHello"), CUT_WITH, ".tlsFault.cutAfter"),
    ("plain text cut by FIN", _tls(answer="PlainText", cutBy="Close"), CUT_WITH, ".tlsFault"),
    ("an expired certificate of somebody whom they trust", _tls(authority=_CA, names=["db"]), "", ""),
    ("one for the names of a service", _tls(authority=_CA, peers=[{"service": {"name": "db"}}]), "", ""),
    ("an unknown authority that is known", _tls(answer="UnknownAuthority", authority=_CA, names=["db"]),
     AUTHORITY_WITH, ".tlsFault.authority"),
    ("an authority for nobody", _tls(authority=_CA), NAMES_WITH, ".tlsFault.names"),
    ("an authority for addresses", _tls(authority=_CA, peers=[{"cidr": "10.0.0.0/8"}]), NAMES_WITH, ".tlsFault.names"),
    ("an authority for a pattern", _tls(authority=_CA, names=["db", "*.db"]), NO_PATTERNS_WITH, ".tlsFault.names"),
    *_elsewhere("tlsFault", _tls()),
    *(
        (f"a probability of {percent}", {**_dns(), "probability": percent}, "must be a whole number from 0 to 100",
         ".probability", says)
        for percent, says in ((-1, "greater than or equal to 0"), (101, "less than or equal to 100"))
    ),
)  # fmt: skip
