"""TLS: servers that the target speaks to show a certificate that it must refuse, or cannot finish the handshake."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.name_fault import NameFault, NamePattern
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.fields import Model, ObjectName
from bounceback.types.names import CutAfter, CutBy, TlsAnswer, TlsRule, plain
from bounceback.types.rules import Rule, refuse

AUTHORITY_WITH = "authority must be unset with any answer but Expired, NotYetValid and WrongHost"
CLUSTER_DOMAIN = "cluster.local"  # what nearly all clusters have; others are to name their names
SIGNED = frozenset({TlsAnswer.EXPIRED, TlsAnswer.NOT_YET_VALID, TlsAnswer.WRONG_HOST})
"""Answers that an authority which clients trust makes wrong in one thing only."""
NAMES_WITH = (
    "names must be given with authority, or peers that are hosts or services: a certificate is signed for each name "
    "before anybody asks for it"
)
NO_PATTERNS_WITH = "names must be without * with authority: a certificate is signed for each before anybody asks for it"
CUT_WITH = "cutAfter and cutBy must be unset with any answer but HandshakeCut"


class AnyTlsFault(NameFault):
    """What they have in common wherever they are carried out; who signs the certificates depends on that."""

    kind: ClassVar[str] = "tlsFault"
    hit_words: ClassVar[str] = "TLS handshakes hit"
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.answer == 'HandshakeCut' || (self.cutAfter == 'ClientHello' && self.cutBy == 'Reset')",
            CUT_WITH,
            ".cutAfter",
        ),
    )

    answer: TlsAnswer = Field(
        description="A certificate that is Expired, NotYetValid, for another host (WrongHost) or signed by an "
        "UnknownAuthority; HandshakeCut; or PlainText, as of a server that knows no TLS."
    )
    names: list[NamePattern] = Field(
        default_factory=list,
        max_length=20,
        description="Server names as clients ask for them (SNI); * stands for any characters. Empty: all connections, "
        "also those that name nobody.",
    )
    cut_after: CutAfter = Field(
        CutAfter.CLIENT_HELLO,
        description="For HandshakeCut: the last message that passes, ClientHello or the true server's ServerHello.",
    )
    cut_by: CutBy = Field(CutBy.RESET, description="For HandshakeCut: Reset (RST) or Close (FIN).")

    def why_idle(self) -> str:
        return "does it begin a TLS connection to these peers, by these names, meanwhile?"

    @model_validator(mode="after")
    def _fits_answer(self) -> Self:
        if self.answer is not TlsAnswer.HANDSHAKE_CUT:
            if self.cut_after is not CutAfter.CLIENT_HELLO:
                raise refuse(CUT_WITH, "cutAfter")
            if self.cut_by is not CutBy.RESET:
                raise refuse(CUT_WITH, "cutBy")
        return self

    def rule(self, choice: Choice = ALWAYS) -> TlsRule:
        return TlsRule(self.answer, tuple(self.names), self.cut_after, self.cut_by, choice=choice)


class SecretAuthority(Model):
    """Who signs the bad certificates: a Secret of the experiment's namespace."""

    secret_name: ObjectName = Field(
        description="A Secret of the type kubernetes.io/tls (tls.crt, tls.key), whose certificate may sign others. It "
        "is read in the name of spec.serviceAccountName, by the operator, which its key never leaves."
    )


class TlsFault(AnyTlsFault):
    """New TLS connections of the target get a bad certificate, half a handshake or plain text instead of their server.

    The certificates are made on the spot, for the name that the client asks for (SNI), and sent by a relay in the
    target's network; connections to other names go on to their server untouched, and none is ever decrypted. Who signed
    them nobody knows: of an Expired one, too, many clients complain about that first, unless `authority` names one that
    they trust. A client that takes a bad certificate is counted as `accepted`: it gets no answer, and what it sends
    reaches nobody. TLS is seen where a connection begins with it. Where the target also speaks to servers that speak
    first (mail, MySQL), name the peers or ports that are meant, or those connections begin a second late. Proof is the
    number of handshakes answered.
    """

    rules: ClassVar[tuple[Rule, ...]] = (
        *AnyTlsFault.rules,
        Rule(f"!has(self.authority) || self.answer in {sorted(map(str, SIGNED))}", AUTHORITY_WITH, ".authority"),
        Rule(
            "!has(self.authority) || (has(self.names) && size(self.names) > 0)"
            " || (has(self.peers) && self.peers.exists(p, has(p.host) || has(p.service)))",
            NAMES_WITH,
            ".names",
        ),
        Rule(
            "!has(self.authority) || !has(self.names) || self.names.all(n, !n.contains('*'))",
            NO_PATTERNS_WITH,
            ".names",
        ),
    )

    authority: SecretAuthority | None = Field(
        None,
        description="For Expired, NotYetValid and WrongHost: an authority that the clients trust, so that the "
        "certificate is wrong in this one thing only. One is signed for `names`, or else for the names of the peers "
        "that are hosts or services, before the fault begins; connections to other names pass.",
    )

    @model_validator(mode="after")
    def _can_be_signed(self) -> Self:
        if self.authority is None:
            return self
        if self.answer not in SIGNED:
            raise refuse(AUTHORITY_WITH, "authority")
        if not self.names and not any(peer.host or peer.service for peer in self.peers):
            raise refuse(NAMES_WITH, "names")
        for index, name in enumerate(self.names):
            if "*" in name:
                raise refuse(NO_PATTERNS_WITH, "names", index)
        return self

    def signed_names(self, namespace: str) -> tuple[str, ...]:
        """What an authority's certificate is for, in an experiment of that namespace."""
        if self.names:
            return tuple(dict.fromkeys(map(plain, self.names)))
        hosts = (plain(peer.host) for peer in self.peers if peer.host)
        services = (peer.service.name for peer in self.peers if peer.service)
        here = ("", f".{namespace}", f".{namespace}.svc", f".{namespace}.svc.{CLUSTER_DOMAIN}")
        return tuple(dict.fromkeys([*hosts, *(service + end for service in services for end in here)]))
