"""What `bounceback proxy` makes of its client at the end, where the file says how that must behave."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from typing import Any

from bounceback.api.client_behavior import ClientBehavior
from bounceback.cli.exits import OF_VERDICT
from bounceback.engine.client_behavior import judge
from bounceback.types.outcome import Judgement, Verdict


def verdict(wanted: ClientBehavior, counted: Mapping[str, Any], ended: int | None) -> tuple[list[str], int]:
    """Lines for a person, the verdict first, and the exit code. A fault that hit nothing proves nothing.

    `counted` as `Gate.counted` has it; `ended` is the code that the client ended with by itself, below 0 a signal's.
    """
    found = list(_findings(wanted, counted, ended))
    results = {result for result, _ in found}
    word = Verdict.PASSED
    if Judgement.FAILED in results:
        word = Verdict.FAILED
    elif Judgement.INCONCLUSIVE in results:
        word = Verdict.INCONCLUSIVE
    return [str(word), *(f"  {result:<12} {line}" for result, line in found)], OF_VERDICT[word]


def shown_code(ended: int | None) -> int:
    """The exit code of a client as a shell tells it; 0 where it was ended."""
    return 0 if ended is None else ended if ended >= 0 else 128 - ended


def _findings(wanted: ClientBehavior, counted: Mapping[str, Any], ended: int | None) -> Iterator[tuple[Judgement, str]]:
    for answer in judge(wanted, counted["behavior"]):
        yield answer.result, f"{answer.field}: {answer.seen}"
    for name, count in counted["rules"].items():
        if not count["hits"]:
            yield Judgement.INCONCLUSIVE, f"fault {name} hit nothing; {count['seen']} requests were what it is about"
    if ended:
        how = f"with {ended}" if ended > 0 else f"by {signal.Signals(-ended).name}"
        yield Judgement.FAILED, f"the client ended by itself {how}"
