"""TLS: servers that the target speaks to show a certificate that it must refuse, or cannot finish the handshake."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.name_fault import NameFault, NamePattern
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.names import CutAfter, CutBy, TlsAnswer, TlsRule
from bounceback.types.rules import Rule, refuse

AUTHORITY_WITH = "authority must be unset with any answer but Expired, NotYetValid and WrongHost"
SIGNED = frozenset({TlsAnswer.EXPIRED, TlsAnswer.NOT_YET_VALID, TlsAnswer.WRONG_HOST})
"""Answers that an authority which clients trust makes wrong in one thing only."""
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


class TlsFault(AnyTlsFault):
    """New TLS connections of the target get a bad certificate, half a handshake or plain text instead of their server.

    The certificates are made on the spot, for the name that the client asks for (SNI), and sent by a relay in the
    target's network; connections to other names go on to their server untouched, and none is ever decrypted. Who signed
    them nobody knows: of an Expired one, too, many clients complain about that first. A client that takes a bad
    certificate is counted as `accepted`: it gets no answer, and what it sends reaches nobody. TLS is seen where a
    connection begins with it. Where the target also speaks to servers that speak first (mail, MySQL), name the peers
    or ports that are meant, or those connections begin a second late. Proof is the number of handshakes answered.
    """
