"""dnsFault and tlsFault: what a user writes, what is refused and how, and what the relay is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bounceback.api.problems import parse
from bounceback.api.schema import structural
from bounceback.engine.planning import act_of
from bounceback.faults.dns_fault import DnsFault
from bounceback.faults.name_fault import NameFault
from bounceback.faults.tls_fault import TlsFault
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.names import CutAfter, CutBy, DnsAnswer, DnsRule, Leaf, TlsAnswer, TlsRule
from bounceback.types.plan import Redirect, Rung
from tests.unit.engine_values import experiment

Json = dict[str, Any]
KINDS: dict[str, type[NameFault]] = {"dnsFault": DnsFault, "tlsFault": TlsFault}

CA: Json = {"secretName": "shop-ca"}

GOOD: list[tuple[str, Json]] = [
    ("dnsFault", {"answer": "NxDomain"}),
    ("dnsFault", {"answer": "ServFail", "names": ["*.example.com", "db", "_sql._tcp.DB.", "xn--bcher-kva.example"]}),
    ("dnsFault", {"answer": "Timeout", "recordTypes": ["AAAA", "SRV"]}),
    ("dnsFault", {"answer": "Delay", "delayMilliseconds": 60_000}),
    ("dnsFault", {"answer": "WrongAddress", "addresses": ["192.0.2.1", "2001:db8::1"], "ttlSeconds": 86_400}),
    ("dnsFault", {"answer": "WrongAddress", "addresses": ["192.0.2.1"], "recordTypes": ["A"]}),
    ("tlsFault", {"answer": "Expired"}),
    ("tlsFault", {"answer": "WrongHost", "names": ["*"]}),
    ("tlsFault", {"answer": "HandshakeCut", "cutAfter": "ServerHello", "cutBy": "Close"}),
    ("tlsFault", {"answer": "Expired", "authority": CA, "names": ["db.shop.svc", "db"]}),
    ("tlsFault", {"answer": "WrongHost", "authority": CA, "peers": [{"host": "db.example.com"}]}),
    ("tlsFault", {"answer": "PlainText", "peers": [{"service": {"name": "db"}, "ports": [{"port": 443}]}]}),
]
BAD: list[tuple[str, Json, str, str]] = [
    ("dnsFault", {}, ".answer", "must be given"),
    ("dnsFault", {"answer": "Lie"}, ".answer", "must be one of NxDomain, ServFail, Timeout, WrongAddress, Delay"),
    *(
        (kind, {"answer": answer, "names": ["fine.test", name]}, ".names[1]", "must be")
        for kind, answer in (("dnsFault", "NxDomain"), ("tlsFault", "Expired"))
        for name in ("a..b", "", "-a", "a b", "http://a.test", "bücher.test", "a" * 64, "a?.test", "a.b" * 90)
    ),
    ("dnsFault", {"answer": "NxDomain", "recordTypes": ["AXFR"]}, ".recordTypes[0]", "must be one of A, AAAA"),
    ("dnsFault", {"answer": "WrongAddress"}, ".addresses", "addresses must be given with answer WrongAddress"),
    ("dnsFault", {"answer": "NxDomain", "addresses": ["192.0.2.1"]}, ".addresses", "and with it only"),
    ("dnsFault", {"answer": "WrongAddress", "addresses": ["192.0.2.1", "db"]}, ".addresses[1]", "must be IPv4 or IPv6"),
    ("dnsFault", {"answer": "WrongAddress", "addresses": ["fe80::1%eth0"]}, ".addresses[0]", "must be IPv4 or IPv6"),
    (
        "dnsFault",
        {"answer": "WrongAddress", "addresses": ["192.0.2.1"], "recordTypes": ["A", "MX"]},
        ".recordTypes",
        "recordTypes must be A or AAAA",
    ),
    ("dnsFault", {"answer": "Delay"}, ".delayMilliseconds", "delayMilliseconds must be above 0"),
    ("dnsFault", {"answer": "Delay", "delayMilliseconds": 60_001}, ".delayMilliseconds", "must be"),
    ("dnsFault", {"answer": "Timeout", "delayMilliseconds": 5}, ".delayMilliseconds", "0 or unset with any other"),
    ("dnsFault", {"answer": "NxDomain", "ttlSeconds": 5}, ".ttlSeconds", "ttlSeconds must be 0 or unset"),
    ("tlsFault", {"answer": "Expired", "cutAfter": "ServerHello"}, ".cutAfter", "must be unset"),
    ("tlsFault", {"answer": "PlainText", "cutBy": "Close"}, ".cutBy", "must be unset"),
    ("tlsFault", {"answer": "Expired", "authority": {}, "names": ["a"]}, ".authority.secretName", "must be given"),
    ("tlsFault", {"answer": "Expired", "authority": CA}, ".names", "names must be given with authority"),
    (
        "tlsFault",
        {"answer": "Expired", "authority": CA, "peers": [{"cidr": "10.0.0.0/8"}]},
        ".names",
        "or peers that are hosts or services",
    ),
    (
        "tlsFault",
        {"answer": "NotYetValid", "authority": CA, "names": ["a", "*.b"]},
        ".names[1]",
        "names must be without * with authority",
    ),
    *(
        ("tlsFault", {"answer": answer, "authority": CA, "names": ["a"]}, ".authority", "authority must be unset")
        for answer in ("UnknownAuthority", "HandshakeCut", "PlainText")
    ),
]


@pytest.mark.parametrize(("kind", "fields"), GOOD)
def test_what_is_good(kind: str, fields: Json) -> None:
    fault, problems = parse(KINDS[kind], fields)
    assert problems == ()
    assert fault is not None
    assert KINDS[kind].model_validate(fault.to_json()) == fault


@pytest.mark.parametrize(("kind", "fields", "field", "message"), BAD)
def test_what_is_bad_is_refused_at_its_field(kind: str, fields: Json, field: str, message: str) -> None:
    fault, problems = parse(KINDS[kind], fields, root=("spec", "faults", 0, kind))
    assert fault is None
    (problem,) = problems
    assert str(problem).startswith(f"spec.faults[0].{kind}{field}: ")
    assert message in problem.message


def test_a_pattern_that_is_no_name_is_told_what_one_is() -> None:
    _, (problem,) = parse(DnsFault, {"answer": "NxDomain", "names": ["a..b"]})
    assert "labels of letters, digits, dashes and underscores" in problem.message


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_structural_schema_can_say_it(kind: type[NameFault]) -> None:
    schema = structural(kind)
    assert schema["required"] == ["answer"]
    assert schema["properties"]["names"]["items"]["maxLength"] == 253
    assert len(schema["x-kubernetes-validations"]) == len(kind.rules)


def test_what_the_dns_handler_is_told() -> None:
    fault = DnsFault.model_validate(
        {"answer": "WrongAddress", "names": ["db"], "recordTypes": ["A"], "addresses": ["192.0.2.1"], "ttlSeconds": 9}
    )
    assert fault.rule() == DnsRule(DnsAnswer.WRONG_ADDRESS, ("db",), ("A",), ("192.0.2.1",), 0, 9, ALWAYS)
    assert DnsFault.model_validate({"answer": "Delay", "delayMilliseconds": 7}).rule().delay_ms == 7


def test_what_the_tls_handler_is_told() -> None:
    fault = TlsFault.model_validate({"answer": "HandshakeCut", "cutAfter": "ServerHello", "cutBy": "Close"})
    expected = TlsRule(TlsAnswer.HANDSHAKE_CUT, (), CutAfter.SERVER_HELLO, CutBy.CLOSE)
    assert fault.rule() == expected
    expired = TlsFault.model_validate({"answer": "Expired"})
    assert expired.rule(Choice(nth=2)) == TlsRule(TlsAnswer.EXPIRED, choice=Choice(nth=2))


def test_an_authority_signs_for_the_names_given_or_else_for_those_of_the_peers() -> None:
    peers = [{"service": {"name": "db"}}, {"host": "DB.Example.com."}, {"cidr": "10.0.0.0/8"}]
    fault = TlsFault.model_validate({"answer": "Expired", "authority": CA, "peers": peers})
    assert fault.signed_names("shop") == (
        "db.example.com",
        "db",
        "db.shop",
        "db.shop.svc",
        "db.shop.svc.cluster.local",
    )
    named = fault.model_copy(update={"names": ["Db", "other.test", "db."]})
    assert named.signed_names("shop") == ("db", "other.test")


def test_what_was_signed_travels_with_the_names_that_it_is_for() -> None:
    fault = {"answer": "Expired", "authority": CA, "peers": [{"service": {"name": "db"}}]}
    entry = experiment(faults=[{"name": "old", "target": "web", "tlsFault": fault, "durationSeconds": 5}]).faults[0]
    act = act_of(entry, Rung.RELAY, Leaf(("db", "db.shop"), "-----BEGIN"))
    assert isinstance(act, Redirect)
    (told,) = json.loads(act.rules)
    told.pop("name")
    rule = TlsRule.from_json(told)
    assert (rule.names, rule.leaf, rule.authority) == (("db", "db.shop"), "-----BEGIN", "")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (DnsFault.model_validate({"answer": "NxDomain", "names": ["a", "b"]}), DnsRule),
        (TlsFault.model_validate({"answer": "Expired"}), TlsRule),
    ],
)
def test_the_act_carries_the_rule_to_the_relay(fault: NameFault, kind: type[DnsRule | TlsRule]) -> None:
    choice = Choice(0.5, 2, 3, 4)
    assert fault.rungs(choice) == (Rung.RELAY,)
    act = fault.act(Rung.RELAY, choice)
    assert isinstance(act, Redirect)
    (told,) = json.loads(act.rules)
    assert told.pop("name") == fault.kind
    rule = kind.from_json(told)
    assert (rule, rule.speaks) == (fault.rule(choice), act.speaks)
