"""Expressions over objects: what holds, what is an error, and what it may cost."""

import time
from typing import Any

import pytest

from bounceback.engine.cel import CelError, check_syntax, evaluate

DEPLOYMENT: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "web"}, "generation": 3},
    "spec": {"replicas": 2, "paused": None, "share": 0.5},
    "status": {
        "readyReplicas": 2,
        "conditions": [{"type": "Available", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "memory": "500Mi",
        "cpu": "250m",
    },
}
PODS = [{"metadata": {"name": f"web-{n}"}, "status": {"phase": "Running", "restarts": n}} for n in range(3)]


@pytest.mark.parametrize(
    "expression",
    [
        "object.status.readyReplicas == object.spec.replicas",
        "object.spec.replicas == 2.0",
        "object.spec.share > 0",
        "has(object.status.readyReplicas) && !has(object.status.unavailableReplicas)",
        "object.metadata.labels['app.kubernetes.io/name'] == 'web'",
        "'name' in object.metadata",
        "object.spec.paused == null",
        "object.status.conditions.exists(c, c.type == 'Available' && c.status == 'True')",
        "timestamp(object.status.conditions[0].lastTransitionTime) < timestamp('2027-01-01T00:00:00Z')",
        "quantity(object.status.memory) > quantity('499Mi')",
        "quantity(object.status.cpu) == 0.25",
        "size(objects) == 3 && objects.all(o, o.status.phase == 'Running')",
        "objects.filter(o, o.status.restarts > 0).size() == 2",
        "objects.map(o, o.status.restarts).sum() == 3",
        "objects.map(o, o.status.restarts).max() == 2 && objects.map(o, o.status.restarts).min() == 0",
        "sets.contains(objects.map(o, o.metadata.name), ['web-1', 'web-0'])",
        "sets.equivalent(objects.map(o, o.status.phase), ['Running'])",
        "size(distinct(objects.map(o, o.metadata.name))) == size(objects)",
        "objects.map(o, o.status.phase).distinct() == ['Running']",
        "objects.exists_one(o, o.metadata.name.endsWith('-1'))",
        "duration('1m') > duration('59s')",
    ],
)
def test_expressions_over_kubernetes_objects_hold(expression: str) -> None:
    variables = {"object": DEPLOYMENT, "objects": PODS}
    assert check_syntax(expression, variables) is None
    assert evaluate(expression, variables) is True


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 +", "line 1, column 4: mismatched input '<EOF>'"),
        ("object.status.\n  == 1", "line 2, column 3: no viable alternative"),
        ("object.?status == 1", "line 1, column 7: unsupported syntax '.?'"),
        ("objekt.status == 1", "there is no variable objekt; there are object"),
        ("object.status.all(c, d.type == 'x')", "there is no variable d"),
        ("object.metadata.name.lowerAscii() == 'web'", "there is no function lowerAscii; there are all"),
        ("(" * 300 + "1" + ")" * 300, "line 1, column"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(expression: str, message: str) -> None:
    assert (check_syntax(expression, ["object"]) or "").startswith(message)


def test_names_that_macros_bring_in_are_known() -> None:
    assert check_syntax("object.list.all(c, c.parts.exists(p, p == c.name))", ["object"]) is None


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("object.status.nothing == 1", "there is no key 'nothing'; has(...) asks whether there is"),
        ("object.status.readyReplicas", "must be true or false, and is a number"),
        ("object.metadata.name", "must be true or false, and is a string"),
        ("nothing == 1", "there is no variable or function nothing"),
        ("object.status.conditions[4] == 1", "index out of bounds: 4"),
        ("object.spec.replicas / 0 == 1", "division by zero"),
        ("size(object.spec.replicas) == 1", "size() cannot be used on such a value"),
        ("object.spec.replicas + 'a' == 'b'", "an operation is given values of kinds that do not go together"),
        ("9223372036854775807 + object.spec.replicas > 0", "Arithmetic overflow"),
        ("quantity(object.metadata.name) > 1", "'web' is not a quantity such as 500Mi, 250m or 2"),
        ("[object.metadata.name].sum() == 1", "'web' is not a number"),
        ("1 +", "line 1, column 4"),
    ],
)
def test_what_has_no_answer_is_an_error_that_says_why(expression: str, message: str) -> None:
    with pytest.raises(CelError) as error:
        evaluate(expression, {"object": DEPLOYMENT})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("2", 2), ("1.5", 1.5), ("250m", 0.25), ("1Ki", 1024), ("1k", 1000), ("2Gi", 2 * 1024**3), ("1e3", 1000), (3, 3)],
)
def test_quantities_are_numbers_in_their_base_unit(text: object, number: float) -> None:
    assert evaluate("quantity(text) == number", {"text": text, "number": number})


@pytest.mark.parametrize(
    "expression",
    [
        "l.all(a, l.all(b, l.all(c, l.all(d, a == d))))",
        "l.all(a, l.all(b, a != b))",
        "l.all(a, a in l && a in l && l.exists(b, b in l))",
        "l.all(a, sets.contains(l, [a]))",
        "l.all(a, string(a).matches('(x{500}){10}') || true)",
        "['aaaa'].map(x, x + x).map(x, x + x) == []",
        "['aaaa'].map(x, [x, x]).map(x, [x, x]) == []",
        "s + " * 40 + "s == ''",
    ],
)
def test_an_expression_that_could_stall_the_operator_is_refused_at_once(expression: str) -> None:
    started = time.process_time()
    with pytest.raises(CelError):
        evaluate(expression, {"l": list(range(20_000)), "s": "a" * 1_000_000})
    assert time.process_time() - started < 1


def test_loops_over_what_is_small_are_allowed() -> None:
    variables = {"pods": [{"containers": [{"ready": True}] * 3}] * 100}
    assert evaluate("pods.all(p, p.containers.all(c, c.ready))", variables)


def test_text_within_strings_is_no_code() -> None:
    assert evaluate("['+'].map(x, x == ') [ + { map(') == [false]", {})
    assert evaluate('["a"].map(x, x == "b \\" + ") == [false]', {})
