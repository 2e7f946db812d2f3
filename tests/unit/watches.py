"""Watches of tests, their events, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence

from bounceback.proxy.api.frames import framing
from bounceback.proxy.api.rulebook import Applied
from bounceback.proxy.api.watching import End, Step, Watch, Write
from bounceback.types.api_rule import Act, ApiRule, CutWatch, Ending
from bounceback.types.choice import Choice

JSON = "application/json"

NOW = 1000.0

A, B, C, D = (f'{{"type":"ADDED","object":{{"metadata":{{"name":"{name}"}}}}}}\n'.encode() for name in "abcd")

MARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n'

CLOSED, RESET, SILENT = End(Ending.CLOSE), End(Ending.RESET), End(Ending.SILENCE)

TORN = End(Ending.CLOSE, torn=True)

AT_ONCE = CutWatch()


def rule(act: Act, choice: Choice | None = None, name: str = "r", after: int = 0) -> Applied:
    return Applied(ApiRule(name, act, choice=choice or Choice(), after=after))


def watch(*applied: Applied, content_type: str = JSON, now: float = NOW) -> Watch:
    return Watch(framing(content_type), applied, now)


def written(steps: Sequence[Step]) -> bytes:
    return b"".join(step.data for step in steps if isinstance(step, Write))


def end(steps: Sequence[Step]) -> End | None:
    """The end among these steps, which can only be the last."""
    assert not any(isinstance(step, End) for step in steps[:-1])
    return steps[-1] if steps and isinstance(steps[-1], End) else None
