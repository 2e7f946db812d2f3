"""What an expression may cost, told from its text: how deep its loops nest, and what would make values grow."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MOST_NESTED: Final = 3
MOST_ADDITIONS: Final = 32

_MACROS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
_LINEAR: Final = frozenset({"in", "sum", "min", "max", "distinct", "contains", "equivalent"})
TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*)
      | (?P<string>(?:[bB]?[rR][bB]?)(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')
        | [bB]?(?:\"{3}(?:\\.|.)*?\"{3}|'{3}(?:\\.|.)*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<name>[A-Za-z_]\w*)
      | (?P<number>\.?\d[\w.]*)
      | (?P<mark>\S)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """`power`: how many loops stand within each other; what looks through a list, as `in` does, is one more."""

    problem: str | None = None
    power: int = 0
    matches: bool = False  # a regular expression within a loop: compiled each time
    commas: int = 0  # an upper bound for the length of a list that is written out
    bound: frozenset[str] = field(default_factory=frozenset)  # names that macros bring in


def shape_of(expression: str) -> Shape:
    """Of an expression that compiles."""
    tokens = [(t.lastgroup, t[0]) for t in TOKEN.finditer(expression) if t.lastgroup != "comment"]
    stack: list[str] = []
    bound: set[str] = set()
    power = additions = commas = 0
    matches = False
    before = ""
    for index, (kind, text) in enumerate(tokens):
        loops = [entry for entry in stack if entry in _MACROS]
        power = max(power, len(loops) + (kind == "name" and text in _LINEAR and bool(loops)))
        if len(loops) > MOST_NESTED:
            return Shape(f"loops (all, exists, map, filter) must not nest deeper than {MOST_NESTED}")
        if "map" in loops and kind == "mark" and _builds(text, before):
            return Shape("map() must not build values of its own: no +, no [...] and no {...} within it")
        match kind, text:
            case "mark", "(" | "[" | "{":
                is_macro = text == "(" and before in _MACROS and index >= 2 and tokens[index - 2][1] == "."
                stack.append(before if is_macro else text)
                if is_macro and index + 1 < len(tokens):
                    bound.add(tokens[index + 1][1])
            case "mark", ")" | "]" | "}":
                stack.pop()
            case "mark", ",":
                commas += 1
            case "mark", "+":
                additions += 1
            case "name", "matches":
                matches = matches or bool(loops)
        before = "'" if kind == "string" else text
    if additions > MOST_ADDITIONS:
        return Shape(f"must not add more than {MOST_ADDITIONS} times; sum() adds up a list")
    return Shape(None, power, matches, commas, frozenset(bound))


@dataclass(frozen=True, slots=True)
class Member:
    """Where an expression names a variable; `name` is what it takes of it, None where that is not written out."""

    of: str
    name: str | None
    line: int
    column: int


def members(expression: str, variables: Collection[str]) -> Iterator[Member]:
    """Each place at which one of the variables stands, in an expression that compiles."""
    tokens = [token for token in TOKEN.finditer(expression) if token.lastgroup != "comment"]
    texts = ["", *(token[0] for token in tokens), "", "", ""]
    for number, token in enumerate(tokens, start=1):
        if token.lastgroup == "name" and token[0] in variables and texts[number - 1] != ".":
            start = token.start()
            line = expression.count("\n", 0, start) + 1
            yield Member(
                token[0], _taken(texts[number + 1 : number + 4]), line, start - expression.rfind("\n", 0, start)
            )


def _taken(following: list[str]) -> str | None:
    """`.name` that is no call, or `['name']`, after a variable."""
    first, second, third = following
    if first == "." and second.isidentifier() and third != "(":
        return second
    plain = second[:1] in ("'", '"') and second[1:-1].isidentifier()
    return second[1:-1] if first == "[" and plain and third == "]" else None


def _builds(mark: str, before: str) -> bool:
    """Whether the mark makes a new string or list: an index follows a value, a literal does not."""
    is_index = mark == "[" and (before in {")", "]", "}", "'"} or (before.isidentifier() and before != "in"))
    return mark == "+" or mark == "{" or (mark == "[" and not is_index)


def largest_collection(variables: Mapping[str, Any]) -> int:
    """The length of the longest list or map in the values."""
    largest = 0
    left: list[Any] = list(variables.values())
    while left:
        value = left.pop()
        if isinstance(value, dict):
            largest = max(largest, len(value))
            left += value.values()
        elif isinstance(value, list):
            largest = max(largest, len(value))
            left += value
    return largest
