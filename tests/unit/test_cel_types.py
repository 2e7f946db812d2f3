"""Expressions that cannot be right whatever is seen are found before anything is asked, with their place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bounceback.api.check import RecoveryCheckSpec
from bounceback.engine.cel import check_syntax, taken_of
from bounceback.engine.invariants import expression_problems

HTTP = ("status", "headers", "json", "milliseconds")
PAIR = ("before", "after")
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*/check.yaml"))


@pytest.mark.parametrize(
    ("expression", "variables", "told"),
    [
        ("1 + 1", HTTP, "must be true or false, and is a number"),
        ("status", HTTP, "must be true or false, and is a number"),
        ("json.a == 1 ? 'yes' : 'no'", HTTP, "must be true or false, and is a string"),
        ("size(json.items)", HTTP, "must be true or false, and is a number"),
        ("status == '200'", HTTP, "line 1, column 8: a number is never equal to a string; int(), double() and"),
        (
            "status == 200 &&\n  milliseconds < '5'",
            HTTP,
            "line 2, column 16: < cannot be used on a number and a string",
        ),
        ("headers['x'] + 1 + 'a' == 'b'", HTTP, "line 1, column 18: + cannot be used on a number and a string"),
        ("milliseconds + 'ms' == json.took", HTTP, "line 1, column 14: + cannot be used on a number and a string"),
        ("!status", HTTP, "line 1, column 1: what stands behind ! must be true or false, and is a number"),
        ("status && true", HTTP, "line 1, column 8: what stands before && must be true or false, and is a number"),
        (
            "status ? true : false",
            HTTP,
            "line 1, column 1: what stands before ? must be true or false, and is a number",
        ),
        ("status.code == 200", HTTP, "line 1, column 8: a number has no field code"),
        ("rows.n == 1", ("rows", "milliseconds"), "line 1, column 6: a list has no field n"),
        ("200 in status", HTTP, "line 1, column 5: in looks through a list or the keys of a map, and this is a number"),
        ("objects.all(o, size(o.spec))", ("objects",), "line 1, column 16: what all() asks of each must be true or"),
        ("status == 1", ("status", "milliseconds"), "line 1, column 8: a string is never equal to a number"),
        ("size(after.orders) == 'a'", PAIR, "line 1, column 20: a number is never equal to a string"),
        ("sets.contains(after.a, before.a) == 1", PAIR, "line 1, column 34: true or false is never equal to a number"),
    ],
)
def test_what_can_be_no_answer_is_told_with_its_place(expression: str, variables: tuple[str, ...], told: str) -> None:
    assert (check_syntax(expression, variables) or "").startswith(told)


@pytest.mark.parametrize(
    "expression",
    [
        "json",
        "json.healthy",
        "json.depth + 'x' == json.name",
        "json.depth * 2 < 100 || json.name + 'x' in ['ax', 'bx']",
        "headers['x-leader'] == 'web-1' && headers.server != null",
        "status >= 200 && status < 300 ? json.up : milliseconds < 5",
        "-status < 0 && !json.down && 1.5 < double(status)",
        "json.items.filter(i, i.size > 3).map(i, i.name).exists(n, n.startsWith('a'))",
        "json.all(status, status == 'up')",
        "'up' in json && 'x' in {'x': 1} && 3 in [1, 2, 3]",
        "duration(json.age) < duration('5m') && timestamp(json.at).getHours() == 3",
        "string(status) + 'x' == '200x' && b'a' != json.raw",
        "size(json.a + [1, 2]) == 3 // a comment with 1 + 'a'",
        '"a\\"b" == json.a && r"\\d" != json.b',
    ],
)
def test_what_may_be_right_is_left_alone(expression: str) -> None:
    assert check_syntax(expression, HTTP) is None


@pytest.mark.parametrize(
    ("invariant", "told"),
    [
        ("after.orders.count >= before.order.count", "line 1, column 23: there is no before.order; there are orders"),
        ("after.p.count == 1", "line 1, column 1: there is no after.p; there are orders"),
        ("before.orders.count == 1", "must speak of after.NAME or clear.NAME: it says nothing of what"),
        ("size(after.orders) == 'a'", "line 1, column 20: a number is never equal to a string"),
        ("after.orders.before.x == 1 && after['orders'] != 'after.q'", None),
        ("clear.orders == before.orders", None),
    ],
)
def test_an_invariant_speaks_of_what_is_observed_after_the_fault(invariant: str, told: str | None) -> None:
    observed = [{"name": "orders", "http": {"url": "http://web/"}}]
    spec = {"observations": observed, "invariants": [{"name": "i", "expression": invariant}]}
    problems = [problem for _, problem in expression_problems(RecoveryCheckSpec.model_validate(spec))]
    assert [each.startswith(told or "") for each in problems] == ([True] if told else [])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_nothing_is_said_of_the_examples(path: Path) -> None:
    assert list(expression_problems(RecoveryCheckSpec.model_validate(yaml.safe_load(path.read_text())["spec"]))) == []


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 400 + "json.up" + ")" * 400,
        "!" * 2000 + "json.up",
        "[" * 400 + "1" + "]" * 400 + " == json",
        "json.a ? true : " * 250 + "false",
        "size(" * 300 + "json" + ")" * 300 + " == 1",
    ],
    ids=["brackets", "signs", "lists", "choices", "calls"],
)
def test_what_stands_very_deep_is_refused_by_the_compiler_or_left_to_the_evaluation(expression: str) -> None:
    told = check_syntax(expression, HTTP)
    assert told is None or "line 1" in told or "nest" in told


def test_in_a_raw_string_nothing_is_escaped_and_what_follows_it_is_read() -> None:
    raw = 'r"\\" != after.orders || after.stock == "x"'
    assert taken_of(raw, "after") == frozenset({"orders", "stock"})
    told = check_syntax('r"\\" != after.ordrs || "a" == "b"', {"after": {"orders"}})
    assert told == "line 1, column 9: there is no after.ordrs; there are orders"
    nested = "json.all(a, a.all(b, b.all(c, c.all(d, d == 'x'))))"
    assert check_syntax(f"{nested} || 'a' == 'b'", HTTP) == check_syntax(f"r'\\' != '' || {nested}", HTTP) is not None
