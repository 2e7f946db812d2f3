"""docs/reference.md, generated from the models: `python -m bounceback.api.reference [FILE]` writes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from bounceback.api import API_VERSION
from bounceback.api.kinds import KINDS, Kind
from bounceback.api.problems import PATTERNS
from bounceback.api.rules import CHANGEABLE
from bounceback.api.schema import PRESERVE, VALIDATIONS, structural

Json = dict[str, Any]
HEADER: Final = f"""\
# Reference

Every field of `{API_VERSION}`, as `kubectl explain` shows it too. Generated from the models by
`python -m bounceback.api.reference`: change those, not this.
"""


def page() -> str:
    """The text of the reference."""
    return "\n".join([HEADER, *(line for kind in KINDS for line in _kind(kind))])


def _kind(kind: Kind) -> Iterator[str]:
    yield f"## {kind.kind}"
    yield ""
    yield f"{kind.description} Short name: `{kind.short}`.{'' if kind.namespaced else ' It is of the whole cluster.'}"
    yield ""
    if kind.rules:
        yield f"Once the run has started its spec stays as it is; only `{CHANGEABLE}` may change, and only to true."
        yield ""
    seen: dict[str, str] = {}
    yield from _object("spec", f"{kind.kind} spec", structural(kind.spec), seen)
    if kind.status:
        yield from _object("status", f"{kind.kind} status", structural(kind.status, rules=False), seen)


def _object(path: str, title: str, schema: Json, seen: dict[str, str]) -> Iterator[str]:
    """A table of its fields and what must hold between them, then the same for each object below it.

    What was described before, under a path in `seen`, is not described again.
    """
    yield f"### {title}"
    yield ""
    alike = json.dumps({key: value for key, value in schema.items() if key not in ("description", "default")})
    if alike in seen:
        yield f"{_text(schema.get('description', ''))} Its fields are those of `{seen[alike]}`."
        yield ""
        return
    seen[alike] = path
    if title.startswith(path):
        yield f"{_text(schema.get('description', ''))}"
        yield ""
    yield "| field | type | default | meaning |"
    yield "|---|---|---|---|"
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = "required" if name in required else _default(field)
        yield f"| `{name}` | {_type(field)} | {default} | {_text(field.get('description', ''))} |"
    yield ""
    if rules := schema.get(VALIDATIONS):
        yield "What must hold:"
        yield ""
        yield from (f"- {_text(rule['message'])}" for rule in rules)
        yield ""
    for name, field in schema["properties"].items():
        below, mark = (field["items"], "[]") if field.get("type") == "array" else (field, "")
        if "properties" in below:
            yield from _object(f"{path}.{name}", f"{path}.{name}{mark}", below, seen)


def _type(node: Json) -> str:
    """The type with its bounds, in words."""
    if "enum" in node:
        return "one of " + ", ".join(f"`{word}`" for word in node["enum"])
    match node.get("type"):
        case None:
            return "any value"
        case "integer":
            return f"integer{_between(node.get('minimum'), node.get('maximum'))}"
        case "string":
            return f"string{_between(node.get('minLength'), node.get('maxLength'), 'characters')}{_pattern(node)}"
        case "array":
            return f"list{_between(node.get('minItems'), node.get('maxItems'), 'entries')} of {_type(node['items'])}"
        case "object" if "additionalProperties" in node:
            most = f", at most {node['maxProperties']} entries" if "maxProperties" in node else ""
            return f"map of {_type(node['additionalProperties'])}{most}"
        case "object" if node.get(PRESERVE):
            return "anything"
        case other:
            return str(other)


def _between(least: int | None, most: int | None, unit: str = "") -> str:
    words = f" {unit}" if unit else ""
    if most is None:
        return f", at least {least}{words}" if least else ""
    if not least and unit:
        return f", at most {most}{words}"
    return f", {least or 0} to {most}{words}"


def _pattern(node: Json) -> str:
    if "pattern" not in node:
        return ""
    known = PATTERNS.get(node["pattern"])
    return f": {known}" if known else f", as `{_text(node['pattern'])}`"


def _default(node: Json) -> str:
    if "default" not in node or node["default"] in ({}, ""):
        return ""
    value = node["default"]
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _text(text: str) -> str:
    """Fit for a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def main(arguments: Iterable[str]) -> None:
    Path(next(iter(arguments), "docs/reference.md")).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
