"""Which names a fault of DNS or TLS is about, and what becomes of who asks for one. Standard library only.

A pattern is a DNS name in which `*` stands for any run of characters, dots included and none included:
`*.example.com` is all below example.com and not example.com itself; `db*` is also `db.shop.svc.cluster.local`.
Letters have no case (RFC 4343) and a last dot says nothing. A name in another script is written as it travels
(`xn--...`).

A pattern is held against the name that is asked, as it is asked. A stub resolver with a search list asks several: with
Kubernetes' `ndots:5` a pod of the namespace `shop` that looks up `db` asks `db.shop.svc.cluster.local`, then
`db.svc.cluster.local`, `db.cluster.local` and last `db`, and it begins with these suffixes for `api.example.com` too,
whose dots are fewer than five. So name the full name, or write `db.*`. Where an alias (CNAME) leads is found out behind
us: the alias is the name that is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeVar

from bounceback.types.choice import ALWAYS, Choice

LONGEST_NAME: Final = 253
_LABEL: Final = "[A-Za-z0-9_*]([-A-Za-z0-9_*]{0,61}[A-Za-z0-9_*])?"
PATTERN: Final = rf"^{_LABEL}(\.{_LABEL})*\.?$"
"""A pattern, as a regular expression of RE2, which the API server uses too."""
PATTERN_WORDS: Final = (
    "a DNS name, labels of letters, digits, dashes and underscores with dots between; * stands for any characters"
)

Matcher = Callable[[str], bool]
Rule = TypeVar("Rule", "DnsRule", "TlsRule")


class DnsAnswer(StrEnum):
    """What who asks gets instead of the truth, or (Delay) with it."""

    NX_DOMAIN = "NxDomain"  # there is no such name
    SERV_FAIL = "ServFail"  # the server is in trouble
    TIMEOUT = "Timeout"  # nothing
    WRONG_ADDRESS = "WrongAddress"  # addresses of our own
    DELAY = "Delay"  # the true answer, late


@dataclass(frozen=True, slots=True)
class DnsRule:
    """What becomes of queries for these names; no names: of all queries, no record types: of all types.

    WrongAddress is about A and AAAA only: each gets those of `addresses` that are of its family, which may be none.
    The lifetime `ttl` (seconds) is that of the wrong addresses; NXDOMAIN and SERVFAIL go without a lifetime, so that
    nobody may keep them (RFC 2308 section 5).
    """

    answer: DnsAnswer
    names: tuple[str, ...] = ()
    record_types: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    delay_ms: int = 0
    ttl: int = 0
    choice: Choice = ALWAYS
    driver: str = field(default="relay", init=False)
    speaks: str = field(default="dns", init=False)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DnsRule:
        """Raises ValueError for something else."""
        return _rule(cls, "dns", data, answer=DnsAnswer)


class TlsAnswer(StrEnum):
    """What a client gets to its ClientHello instead of the server's handshake."""

    EXPIRED = "Expired"
    NOT_YET_VALID = "NotYetValid"
    WRONG_HOST = "WrongHost"
    UNKNOWN_AUTHORITY = "UnknownAuthority"
    HANDSHAKE_CUT = "HandshakeCut"
    PLAIN_TEXT = "PlainText"


CERTIFICATES: Final = frozenset(
    {TlsAnswer.EXPIRED, TlsAnswer.NOT_YET_VALID, TlsAnswer.WRONG_HOST, TlsAnswer.UNKNOWN_AUTHORITY}
)
"""The answers that are a handshake with a bad certificate."""


class CutAfter(StrEnum):
    """The last message that passes before a handshake is cut."""

    CLIENT_HELLO = "ClientHello"  # the client's: it gets nothing
    SERVER_HELLO = "ServerHello"  # the true server's: it gets that, and no certificate


class CutBy(StrEnum):
    RESET = "Reset"  # RST
    CLOSE = "Close"  # FIN


@dataclass(frozen=True, slots=True)
class Leaf:
    """A bad certificate that somebody else has signed, in PEM: its key, then itself and who is above it, no root.

    Its key is worth nothing: it expired before it was made, is for nobody, or is valid for one second in a year.
    """

    names: tuple[str, ...]  # that are asked for when it is shown
    pem: str


@dataclass(frozen=True, slots=True)
class TlsRule:
    """What becomes of TLS connections to these names (SNI); no names: of all, also of those that name nobody.

    `authority` names the one that signs the bad certificates among those that the handler was given. If clients trust
    it, Expired, NotYetValid and WrongHost are wrong in this one thing; "" is an authority that nobody knows. A `leaf`
    (see Leaf.pem) was signed already, and by whom is no matter.
    """

    answer: TlsAnswer
    names: tuple[str, ...] = ()
    cut_after: CutAfter = CutAfter.CLIENT_HELLO
    cut_by: CutBy = CutBy.RESET
    authority: str = ""
    leaf: str = ""
    choice: Choice = ALWAYS
    driver: str = field(default="relay", init=False)
    speaks: str = field(default="tls", init=False)

    def signed(self, leaf: Leaf) -> TlsRule:
        """About the names that it is for, and no others."""
        return replace(self, names=leaf.names, leaf=leaf.pem)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TlsRule:
        """Raises ValueError for something else."""
        return _rule(cls, "tls", data, answer=TlsAnswer, cut_after=CutAfter, cut_by=CutBy)


def is_pattern(text: str) -> bool:
    return len(text) <= LONGEST_NAME and re.fullmatch(PATTERN.removeprefix("^").removesuffix("$"), text) is not None


def plain(name: str) -> str:
    """The name as patterns are held against it."""
    return name.removesuffix(".").lower()


def matcher(patterns: Iterable[str]) -> Matcher:
    """Whether a `plain` name fits one of the patterns; of no patterns at all: True."""
    parts = [plain(pattern).split("*") for pattern in patterns]
    return lambda name: not parts or any(_fits(part, name) for part in parts)


def _fits(parts: list[str], name: str) -> bool:
    """Each part at the first place where it fits: in time that grows with the name, however many stars there are."""
    first, *middle = parts
    if not middle:
        return name == first
    last = middle.pop()
    end = len(name) - len(last)
    if len(first) > end or not name.startswith(first) or not name.endswith(last):
        return False
    place = len(first)
    for part in middle:
        if (found := name.find(part, place, end)) < 0:
            return False
        place = found + len(part)
    return True


def _rule(kind: type[Rule], speaks: str, data: Mapping[str, Any], **words: type[StrEnum]) -> Rule:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    if (fields.pop("driver", "relay"), fields.pop("speaks", speaks)) != ("relay", speaks):
        raise ValueError(f"not a {kind.__name__}: {dict(data)}")
    try:
        fields["choice"] = Choice(**fields.get("choice", {}))
        fields |= {key: word(fields[key]) for key, word in words.items() if key in fields}
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from error
