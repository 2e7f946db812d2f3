"""Exit codes, and the errors that lead to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from bounceback.types.outcome import Verdict

PASSED: Final = 0
FAILED: Final = 1
BAD_INPUT: Final = 2
INCONCLUSIVE: Final = 3
ABORTED: Final = 4
ERROR: Final = 5
INTERRUPTED: Final = 130
UNREAD: Final = 141
"""Whoever read the output has gone; as if SIGPIPE had ended it, which is what shells expect."""

OF_VERDICT: Final = {
    Verdict.PASSED: PASSED,
    Verdict.FAILED: FAILED,
    Verdict.INCONCLUSIVE: INCONCLUSIVE,
    Verdict.ABORTED: ABORTED,
    Verdict.ERROR: ERROR,
}
GRAVEST_FIRST: Final = (INTERRUPTED, FAILED, ERROR, ABORTED, INCONCLUSIVE, BAD_INPUT, PASSED)


def gravest(codes: Iterable[int]) -> int:
    """The one code for several experiments."""
    found = set(codes)
    return next((code for code in GRAVEST_FIRST if code in found), PASSED)


def of_status(status: Mapping[str, Any]) -> int:
    """Of a finished experiment: bad input where nothing was injected because the input must be changed first."""
    conditions = status.get("conditions") or []
    if any(c.get("type") == "Stalled" and c.get("status") == "True" for c in conditions):
        return BAD_INPUT
    return OF_VERDICT[Verdict(status.get("verdict", Verdict.ERROR))]


class CommandError(Exception):
    """The command cannot do what it is asked; the message says what must be, the code how it ends."""

    def __init__(self, message: str, code: int = BAD_INPUT) -> None:
        super().__init__(message)
        self.code = code
