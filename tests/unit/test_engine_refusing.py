"""What counts as an agent's refusal is what its drivers refuse: neither list is ahead of the other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from bounceback import drivers
from bounceback.engine.refusing import OF_PATHS, REFUSALS

NOBODYS_MISTAKE = {"RulesRefused", "TargetGone"}


def test_every_refusal_of_a_driver_is_known() -> None:
    assert set(_refused_by_drivers()) - NOBODYS_MISTAKE == REFUSALS
    assert OF_PATHS < REFUSALS


def _refused_by_drivers() -> Iterator[str]:
    for path in Path(drivers.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="Refused"), args=[ast.Constant(value=str(reason)), *_]):
                    yield reason
                case (
                    ast.Call(func=ast.Name(id="Refused"), args=[ast.IfExp() as either, *_])
                    | ast.Assign(targets=[ast.Name(id="reason")], value=ast.IfExp() as either)
                ):
                    yield from (str(each.value) for each in ast.walk(either) if isinstance(each, ast.Constant))
