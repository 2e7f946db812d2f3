"""Rules of names: which names a pattern means, and that a rule survives its journey as JSON."""

import json
import re
from fnmatch import translate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.types.choice import Choice
from bounceback.types.names import (
    CutAfter,
    CutBy,
    DnsAnswer,
    DnsRule,
    TlsAnswer,
    TlsRule,
    is_pattern,
    matcher,
    plain,
)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("db", "db", True),
        ("db", "db.shop.svc.cluster.local", False),
        ("DB.Shop.", "db.shop", True),
        ("*.example.com", "api.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "badexample.com", False),
        ("db*", "db.shop.svc.cluster.local", True),
        ("*db*", "mydb.shop", True),
        ("a*b*c", "abc", True),
        ("a*b*c", "acb", False),
        ("ab*ba", "aba", False),  # one letter does not count twice
        ("*", "", True),  # the root
        ("a.b", "axb", False),  # a dot is a dot
    ],
)
def test_a_pattern_means(pattern: str, name: str, fits: bool) -> None:
    assert matcher([pattern])(plain(name)) is fits


def test_no_pattern_is_every_name_and_one_of_several_is_enough() -> None:
    assert matcher([])("whatever")
    assert matcher(["a", "b*"])("bc")


@given(st.text("ab*.", min_size=1, max_size=12), st.text("ab.", max_size=12))
def test_stars_mean_what_they_mean_in_a_shell(pattern: str, name: str) -> None:
    shell = re.fullmatch(translate(pattern.removesuffix(".")), name.removesuffix("."))
    assert matcher([pattern])(plain(name)) is (shell is not None)


def test_many_stars_take_no_time() -> None:
    """As a regular expression this one would run for ages."""
    assert not matcher(["*".join("a" * 120) + "b"])("a" * 253)


@pytest.mark.parametrize("text", ["db", "*", "*.example.com", "_http._tcp.db", "xn--bcher-kva.example", "a." * 3])
def test_a_pattern(text: str) -> None:
    assert is_pattern(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "a..b", ".a", "-a", "a-", "a b", "bücher.de", "a" * 64, "a." * 126 + "ab", "a\n", "http://a", "a?"],
)
def test_not_a_pattern(text: str) -> None:
    assert not is_pattern(text)


@pytest.mark.parametrize(
    "rule",
    [
        DnsRule(DnsAnswer.NX_DOMAIN),
        DnsRule(DnsAnswer.WRONG_ADDRESS, ("*.a",), ("AAAA",), ("fd00::1",), ttl=30, choice=Choice(0.5, 2, 10, 7)),
        DnsRule(DnsAnswer.DELAY, delay_ms=200),
    ],
)
def test_a_dns_rule_survives_its_journey(rule: DnsRule) -> None:
    assert DnsRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    "rule",
    [
        TlsRule(TlsAnswer.EXPIRED, ("a", "b"), authority="shop-ca"),
        TlsRule(TlsAnswer.HANDSHAKE_CUT, cut_after=CutAfter.SERVER_HELLO, cut_by=CutBy.CLOSE, choice=Choice(nth=3)),
    ],
)
def test_a_tls_rule_survives_its_journey(rule: TlsRule) -> None:
    back = TlsRule.from_json(json.loads(json.dumps(rule.to_json())))
    assert back == rule
    assert isinstance(back.cut_after, CutAfter)


@pytest.mark.parametrize(
    "data", [{}, {"answer": "Lie"}, {"answer": "Delay", "more": 1}, {"answer": "Delay", "choice": {"luck": 1}}]
)
def test_what_is_no_rule_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        DnsRule.from_json(data)


def test_one_is_not_taken_for_the_other() -> None:
    with pytest.raises(ValueError, match="not a TlsRule"):
        TlsRule.from_json(DnsRule(DnsAnswer.TIMEOUT).to_json())
