"""What a relay says when it goes, as the status of an injection has it."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.engine.evidence import HANDSHAKE_ENDS, fold
from bounceback.proxy.handshake import End
from bounceback.types.outcome import InjectionState
from bounceback.types.told import Line, Told
from tests.unit.engine_values import at, injection


def message(**detail: Any) -> str:
    before = injection(state=InjectionState.ACTIVE, cleared_at=None)
    line = Line(Told.CLEARED, at(11), before.name, detail={"why": "Duration", **detail})
    return fold(before, line, at(11)).message


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        ({}, ""),
        ({"cutOff": 1}, "1 connection was left at the end and reset"),
        ({"cutOff": 3}, "3 connections were left at the end and reset"),
        ({"accepted": 2}, "2 clients took a certificate that should have been refused"),  # of an agent that tells less
        (
            {
                "accepted": 1,
                "ends": {"refused": 9, "accepted": 1},
                "alerts": {"unknown_ca": 2, "certificate_expired": 7},
            },
            "1 client took a certificate that should have been refused; 9 clients refused the certificate by an alert; "
            "alerts: certificate_expired 7, unknown_ca 2",
        ),
        (
            {"ends": {"closed": 2, "failed": 1}, "cutOff": 1},
            "2 clients left in the middle of the handshake without a word, which is a refusal too; "
            "1 client had no version or cipher in common with us, which says nothing about certificates; "
            "1 connection was left at the end and reset",
        ),
    ],
)
def test_it_is_told_in_words(detail: dict[str, Any], words: str) -> None:
    assert message(**detail) == words


def test_every_end_of_a_handshake_has_its_words() -> None:
    assert HANDSHAKE_ENDS.keys() == {str(end) for end in End}
    assert message(ends={"of a newer agent": 3}) == ""


def test_the_worst_has_room_even_where_all_of_it_has_not() -> None:
    told = message(ends=dict.fromkeys(HANDSHAKE_ENDS, 1_000_000), alerts={f"alert_{n}": n for n in range(40)}, cutOff=1)
    assert len(told) == 512
    assert told.startswith("1000000 clients took a certificate")
