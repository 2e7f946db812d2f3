"""CEL: the language of probes over objects and of invariants.

Expressions come from users and are evaluated in the operator's own process, so what one may cost is bounded before
it runs: see `Shape`. The language is that of cel-spec without optional syntax (`.?`), and with the functions of
`FUNCTIONS` beside the standard ones.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from bounceback.engine.cel_functions import FUNCTIONS, NAMESPACES, STANDARD
from bounceback.engine.cel_library import cel
from bounceback.engine.cel_shape import Shape, largest_collection, members, shape_of
from bounceback.engine.cel_types import mistyped

MOST_STEPS: Final = 1_000_000
"""Steps that one evaluation may take: about a second of the operator's time at the very worst."""

_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
_NO_SUCH = re.compile(r"Undefined variable or function: '([^']*)'")
_OPERATORS = re.compile(r"[^a-zA-Z]")


class CelError(Exception):
    """The expression has no answer of true or false; the message says why."""


def check_syntax(expression: str, variables: Collection[str] | None = None) -> str | None:
    """What is wrong with the expression, or None: also what can be no answer of true or false, as far as that shows.

    With `variables`, names beside them are found as well; of a mapping the values are the names that each of them has.
    """
    try:
        program, shape = _compiled(expression)
    except CelError as error:
        return str(error)
    if unknown := [name for name in program.functions() if not _is_known(name)]:
        return f"there is no function {unknown[0]}; there are {', '.join(sorted(STANDARD | FUNCTIONS.keys()))}"
    if variables is not None:
        known = {*variables, *shape.bound, *NAMESPACES}
        if unknown := [name for name in program.variables() if name not in known]:
            return f"there is no variable {unknown[0]}; there are {', '.join(sorted(variables)) or 'none'}"
    if isinstance(variables, Mapping) and (wrong := _no_such_member(expression, variables, shape)):
        return wrong
    return mistyped(expression, variables or ())


def _no_such_member(expression: str, variables: Mapping[str, Collection[str]], shape: Shape) -> str | None:
    if hidden := sorted(shape.bound & variables.keys()):
        return f"{hidden[0]} is a variable already: let the loop name its own otherwise"
    for found in members(expression, variables):
        known = variables[found.of]
        if found.name is not None and found.name not in known:
            where = f"line {found.line}, column {found.column}"
            return f"{where}: there is no {found.of}.{found.name}; there are {', '.join(sorted(known)) or 'none'}"
    return None


def speaks_of(expression: str) -> frozenset[str]:
    """The variables that it names. Raises CelError where it cannot be compiled."""
    return frozenset(_compiled(expression)[0].variables())


def taken_of(expression: str, variable: str) -> frozenset[str] | None:
    """Which members of it the expression may look at; None: any. Raises CelError where it cannot be compiled."""
    if variable not in speaks_of(expression):
        return frozenset()
    names = {found.name for found in members(expression, {variable})}
    return frozenset(name for name in names if name is not None) if names and None not in names else None


def evaluate(expression: str, variables: Mapping[str, Any]) -> bool:
    """Whether the expression holds, over JSON values.

    Raises CelError where it cannot be compiled or evaluated, is not a boolean, or would take too long.
    """
    program, shape = _compiled(expression)
    _refuse_long(shape, variables)
    try:
        result = program.execute(cel.Context(dict(variables), dict(FUNCTIONS)))
    except (LookupError, ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise CelError(_reason(error)) from error
    if not isinstance(result, bool):
        raise CelError(f"must be true or false, and is {_kind(result)}")
    return result


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> tuple[cel.Program, Shape]:
    try:
        program = cel.compile(expression)
    except ValueError as error:
        raise CelError(_position(str(error))) from error
    shape = shape_of(expression)
    if shape.problem:
        raise CelError(shape.problem)
    return program, shape


def _refuse_long(shape: Shape, variables: Mapping[str, Any]) -> None:
    if shape.power < 2 and not shape.matches:
        return  # linear in what it looks at
    size = max(largest_collection(variables), shape.commas + 1)
    if size**shape.power * (100 if shape.matches else 1) > MOST_STEPS:
        raise CelError(
            f"would take too long: loops within loops ({shape.power} deep; `in`, sum() and matches() count) "
            f"over a list of {size}; select fewer objects, or use sets.contains, sets.equivalent or distinct"
        )


def _is_known(name: str) -> bool:
    return name in STANDARD or name in FUNCTIONS or f"sets.{name}" in FUNCTIONS or bool(_OPERATORS.search(name))


def _position(message: str) -> str:
    """`line 1, column 4: ...` from the compiler's first complaint."""
    found = _ERROR.search(message)
    if found is None:
        return message.splitlines()[0][:300]
    line, column, text = found.groups()
    return f"line {line}, column {column}: {text.split(' expecting {')[0]}"


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, KeyError):
        return f"there is no key {text}; has(...) asks whether there is"
    if found := _NO_SUCH.search(text):
        name = found[1]
        if name in STANDARD or name in FUNCTIONS:
            return f"{name}() cannot be used on such a value"
        return f"there is no variable or function {name}"
    if isinstance(error, TypeError):
        return "an operation is given values of kinds that do not go together; int(), double() and string() convert"
    return text.split(" Check function arguments")[0].replace("Python function call failed: ", "").replace("\n", " ")


def _kind(result: Any) -> str:
    names = {int: "a number", float: "a number", str: "a string", list: "a list", dict: "a map", type(None): "null"}
    return names.get(type(result), type(result).__name__)
