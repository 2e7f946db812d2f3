"""From what an answer holds to whether it is healthy: the expression of a probe, and the category of a signal."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from bounceback.engine.cel import CelError, evaluate
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.sampling import Look

Values = Mapping[str, Any]
Read = Callable[[], Awaitable[Values]]
"""Asks once: what expressions can see. Raises NotHealthyError, CannotLookError."""
Said = Callable[[Values], None]
"""Told what a healthy answer held."""

LONGEST_SAYING = 160


def nothing_said(_: Values) -> None:
    """For probes that nobody asks what they said."""


def judge(expression: str, values: Values) -> str | None:
    """None where the expression holds, else why it does not."""
    try:
        return None if evaluate(expression, values) else f"{expression} is false"
    except CelError as error:
        return f"{expression}: {error}"


def judged(read: Read, expression: str | None, said: Said) -> Look:
    """A look that is healthy when there is an answer and the expression holds over it."""

    async def look() -> str | None:
        try:
            values = await read()
        except NotHealthyError as error:
            return str(error)
        if expression is not None and (wrong := judge(expression, values)):
            return f"{wrong}; {in_short(values)}"
        said(values)
        return None

    return look


def in_short(values: Values) -> str:
    """What was said, for people."""
    if event := values.get("event"):
        return f"{event.get('reason')}: {event.get('message')}"[:LONGEST_SAYING]
    if line := values.get("line"):
        return str(line)[:LONGEST_SAYING]
    return ", ".join(f"{name} {json.dumps(value, default=str)[:80]}" for name, value in values.items())[:LONGEST_SAYING]
