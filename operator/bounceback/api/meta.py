"""What resources share: conditions and small checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from pydantic import Field

from bounceback.types.fields import StatusModel
from bounceback.types.rules import Path


class Condition(StatusModel):
    """A standard Kubernetes condition."""

    list_keys: ClassVar[tuple[str, ...]] = ("type",)

    type: str = Field(max_length=316, description="For example Ready.")
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(max_length=1024, description="One CamelCase word.")
    message: str = Field("", max_length=32768, description="For people.")
    last_transition_time: str = Field(description="When the status last changed (RFC 3339).")
    observed_generation: int | None = Field(None, description="The generation that this speaks of.")


def repeated(field: str, names: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """A problem for the names that stand more than once."""
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        yield (field,), f"names must be unique; found more than once: {', '.join(twice)}"


def with_condition(
    conditions: Sequence[Condition],
    type_: str,
    status: bool | None,
    reason: str,
    message: str,
    now: str,
    generation: int,
) -> list[Condition]:
    """`conditions` with this one set; its transition time changes only when its status does."""
    word: Literal["True", "False", "Unknown"] = "Unknown" if status is None else "True" if status else "False"
    before = next((c for c in conditions if c.type == type_), None)
    since = before.last_transition_time if before and before.status == word else now
    new = Condition(
        type=type_,
        status=word,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
    return sorted([*(c for c in conditions if c.type != type_), new], key=lambda c: c.type)
