"""What is wrong with an object that a user wrote: every problem with its field and what must be, in our words."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from bounceback.api.operations import PATH_PATTERN as REQUEST_PATTERN
from bounceback.api.operations_stores import PREFIX_PATTERN
from bounceback.api.reference_run import MASK_PATTERN, MASK_WORDS
from bounceback.api.schema import structural
from bounceback.faults.api_fault import HEADER_PATTERN, REASON_PATTERN, VALUE_PATTERN
from bounceback.faults.client_fault import GROUP_PATTERN, PATH_PATTERN, RESOURCE_PATTERN
from bounceback.faults.inside import FILE_PATTERN, FOLDER_PATTERN
from bounceback.types.fields import NAME_PATTERN, OBJECT_NAME_PATTERN
from bounceback.types.names import PATTERN, PATTERN_WORDS
from bounceback.types.rules import FieldError, Path

Json = dict[str, Any]
Spec = TypeVar("Spec", bound=BaseModel)

PATTERNS: Final[Mapping[str, str]] = {
    NAME_PATTERN: "lower-case letters, digits and dashes, beginning and ending with a letter or digit",
    OBJECT_NAME_PATTERN: "lower-case letters, digits, dashes and dots, beginning and ending with a letter or digit",
    PATTERN: PATTERN_WORDS,
    GROUP_PATTERN: 'an API group such as apps, "" for that of pods, or *',
    RESOURCE_PATTERN: "resources in lower case, with a subresource or without: pods, pods/log, pods/*, */scale",
    PATH_PATTERN: "a path such as /version or /openapi/*: with a slash first, * at its end only, and no query",
    HEADER_PATTERN: "the name of a header: letters, digits and dashes",
    VALUE_PATTERN: "printable ASCII without spaces around it",
    FOLDER_PATTERN: "a path in the container, with a slash first",
    FILE_PATTERN: "a file's path in the container, with a slash first and none at the end",
    REQUEST_PATTERN: "printable ASCII with a slash first and no spaces",
    PREFIX_PATTERN: "printable ASCII without spaces",
    MASK_PATTERN: MASK_WORDS,
    REASON_PATTERN: "a reason such as AlreadyExists: letters, a capital first",
}
LONGEST_VALUE: Final = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to correct; `path` leads to it from the object's root."""

    path: Path
    message: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.message}" if self.path else self.message


def dotted(path: Iterable[str | int]) -> str:
    """spec.faults[0].networkDelay"""
    words = ""
    for part in path:
        words += f"[{part}]" if isinstance(part, int) else f".{part}" if words else part
    return words


def parse(model: type[Spec], data: object, root: Path = ("spec",)) -> tuple[Spec | None, tuple[Problem, ...]]:
    """The model, or what stands against it; `root` is where `data` was found.

    As strict as the API server: a number in quotes is not a number.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str), strict=True), ()
    except ValidationError as error:
        schema = _schema(model)
        found = (problem for each in error.errors() for problem in _problems(schema, each))
        return None, tuple(Problem((*root, *path), message) for path, message in dict.fromkeys(found))


@functools.cache
def _schema(model: type[BaseModel]) -> Json:
    return structural(model)


def _problems(schema: Json, error: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    path = tuple(part for part in error["loc"] if part != "[key]")
    match error["type"]:
        case "missing":
            yield path, f"must be given: {_allowed(_node(schema, path))}"
        case "extra_forbidden":
            yield path, _unknown(_node(schema, path[:-1]), str(path[-1]))
        case "value_error" if isinstance(cause := error["ctx"]["error"], FieldError):
            for below, message in cause.problems:
                yield (*path, *below), message
        case _ if len(path) != len(error["loc"]):
            most = error["ctx"].get("max_length")  # of one that is empty only the least is told
            yield path, f"as a key it must have 1 to {most} characters" if most else "as a key it must not be empty"
        case _:
            yield path, f"must be {_allowed(_node(schema, path))}; found {_shown(error['input'])}"


def _node(schema: Json, path: Path) -> Json:
    """The part of the schema that describes what stands at the path; empty where it does not know."""
    for part in path:
        if isinstance(part, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(part) or schema.get("additionalProperties", {})
    return schema


def _allowed(node: Json) -> str:
    """What may stand there, in words."""
    if "enum" in node:
        return f"one of {', '.join(map(str, node['enum']))}"
    match node.get("type"):
        case None if node:
            return "any value"
        case "integer":
            return f"a whole number{_bounds(node.get('minimum'), node.get('maximum'))}"
        case "boolean":
            return "true or false"
        case "array":
            return f"a list{_bounds(node.get('minItems'), node.get('maxItems'), ' entries')}"
        case "string":
            text = f"text{_bounds(node.get('minLength'), node.get('maxLength'), ' characters')}"
            pattern = node.get("pattern")
            return f"{text}: {PATTERNS.get(pattern, f'as {pattern}')}" if pattern else text
        case "object" if "properties" in node:
            return f"a mapping with {', '.join(node['properties'])}" if node["properties"] else "an empty mapping: {}"
        case _:
            return "a mapping"


def _bounds(least: int | None, most: int | None, unit: str = "") -> str:
    if most is None:
        return f" of at least {least}{unit}" if least else ""
    if not least and unit:
        return f" of at most {most}{unit}"
    return f" {'of' if unit else 'from'} {least} to {most}{unit}"


def _unknown(node: Json, name: str) -> str:
    known = list(node.get("properties", {}))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no such field; {hint}allowed: {', '.join(known) or 'none'}"


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}... ({len(text)} characters)"
