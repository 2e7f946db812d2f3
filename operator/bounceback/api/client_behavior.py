"""How a client must take the faults that it gets: part of a check, and of the file of `bounceback proxy`."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

from pydantic import Field, model_validator

from bounceback.types.fields import Model
from bounceback.types.rules import Rule, refuse

FIELDS = (
    "honorsRetryAfter",
    "maxRequestsPerSecond",
    "backoff",
    "returnsToWatches",
    "relists",
    "maxDuplicateCreates",
    "maxHotLoops",
    "neverGivesUp",
    "maxRestarts",
)
SOMETHING = f"must have at least one of {', '.join(FIELDS)}"


class WantedBackoff(StrEnum):
    """How pauses between tries must follow each other, at least."""

    CONSTANT = "Constant"
    EXPONENTIAL = "Exponential"


class ClientBehavior(Model):
    """What is asked of a client while its API access fails; what is unset is not looked at.

    Where it had no occasion (no Retry-After was sent, no create lost its reply) nothing is known: Inconclusive.
    """

    rules: ClassVar[tuple[Rule, ...]] = (Rule(" || ".join(f"has(self.{field})" for field in FIELDS), SOMETHING),)

    honors_retry_after: bool | None = Field(
        None, description="true: each time that it was told to wait it has waited so long before it asked again."
    )
    max_requests_per_second: int | None = Field(
        None, ge=1, le=1_000_000, description="The most requests in any one second."
    )
    backoff: WantedBackoff | None = Field(
        None,
        description="Constant: it pauses before it tries again; Exponential: its pauses grow, too. Pauses that "
        "Retry-After asked for do not count.",
    )
    returns_to_watches: bool | None = Field(None, description="true: each watch that broke was begun again.")
    relists: bool | None = Field(
        None, description="true: after a watch that broke it lists before it watches (what 410 asks for)."
    )
    max_duplicate_creates: int | None = Field(
        None, ge=0, le=1_000_000, description="The most objects created twice after a reply was lost."
    )
    max_hot_loops: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="The most requests tried 20 times within a second, or watches begun so often.",
    )
    never_gives_up: bool | None = Field(
        None, description="true: nothing that failed is left untried for a minute and for four of its longest pauses."
    )
    max_restarts: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="The most times that a container of its pod ends and is started again, those that apiFault.crash "
        "killed aside. Of a client outside of pods nobody sees it.",
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not self.model_fields_set:
            raise refuse(SOMETHING)
        return self
