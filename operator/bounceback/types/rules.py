"""What must hold between fields, said twice: to the API server in CEL, and offline by a model's validator."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]
"""FieldValueDuplicate is not among them: with it the API server keeps the message to itself."""
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of x-kubernetes-validations, on the object that a model describes.

    `cel` is true while all is well; `field` leads from that object to the field that is to be changed (".value").
    Messages are fixed texts: the API server's estimate of what it costs to compute one is beyond its budget.
    """

    cel: str
    message: str
    field: str = ""
    reason: Reason = "FieldValueInvalid"

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"rule": self.cel, "message": self.message, "reason": self.reason}
        if self.field:
            entry["fieldPath"] = self.field
        return entry


class FieldError(ValueError):
    """What a validator found, each with the way from its model to the field that is to be changed."""

    def __init__(self, problems: Iterable[tuple[Path, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(message for _, message in self.problems))


def refuse(message: str, *path: str | int) -> FieldError:
    """The error to raise for one problem."""
    return FieldError([(path, message)])


def exactly_one(fields: Iterable[str], given: Iterable[str] = ()) -> str:
    """The message for a choice that must be made exactly once."""
    found = " and ".join(given)
    return f"exactly one of {', '.join(fields)} must be given" + (f"; found {found}" if found else "")


def one_of(fields: Iterable[str]) -> Rule:
    """Exactly one of these fields is set."""
    names = tuple(fields)
    flags = ", ".join(f"has(self.{name})" for name in names)
    return Rule(f"[{flags}].exists_one(given, given)", exactly_one(names))
