"""What must be the same before the fault and after the recovery: what is a difference, and what is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from bounceback.engine.judge import judge
from bounceback.engine.merging import same
from bounceback.engine.state import Snapshot
from bounceback.engine.unchanged import unchanged
from bounceback.report.redact import redacted
from bounceback.types.instants import Interval
from bounceback.types.outcome import Judgement, Verdict
from tests.unit.engine_values import at, check, experiment, finished, health, injection
from tests.unit.test_end_state import body

MAPS = {"apiVersion": "v1", "kind": "ConfigMap", "selector": {"matchLabels": {"app": "web"}}}
SOURCES: dict[str, Any] = {
    "http": {"url": "http://web/orders"},
    "exec": {"pods": {"selector": {"matchLabels": {"app": "web"}}}, "command": ["cat", "/data"]},
    "sql": {"kind": "PostgreSQL", "host": "db", "database": "shop", "query": "select * from orders order by id"},
    "redis": {"host": "redis", "command": ["HGETALL", "stock"]},
    "nats": {"host": "nats", "stream": "orders"},
}
ORDERS = [{"id": 1, "n": 2, "seen": "09:00"}, {"id": 2, "n": 5, "seen": "09:01"}]
LATER = [{**order, "seen": "10:00"} for order in ORDERS]


def held(
    before: Any, after: Any, *, unreadable: str = "", gone: bool = False, **observation: Any
) -> tuple[Judgement, str]:
    """The result of the one observation, which is `data`, and what is said."""
    asked = check(observations=[{"name": "data", **observation}])
    status = finished([asked]).model_copy(update={"observed": {"before": {"healthy": {"data": before}}}})
    values, problems = ({}, {"data": unreadable}) if unreadable else ({"data": after}, {})
    missing = frozenset({("healthy", "data")} if gone else ())
    read = Snapshot(Interval.at(at(30)), {"healthy": values}, {"healthy": problems}, missing)
    (found,) = unchanged(status, read, "salt", redacted)
    assert (found.check, found.name) == ("healthy", "data unchanged")
    return found.result, found.message


@pytest.mark.parametrize("source", SOURCES)
def test_what_may_differ_is_masked_and_all_else_is_told_with_its_path_and_both_values(source: str) -> None:
    asked: dict[str, Any] = {source: SOURCES[source], "unchanged": {"masks": ["/*/seen"]}}
    assert held(ORDERS, LATER, **asked) == (Judgement.PASSED, "as before the fault")
    lost = [LATER[0], {**LATER[1], "n": 4}]
    assert held(ORDERS, lost, **asked) == (Judgement.FAILED, "/1/n is 4, and was 5 before the fault")
    assert held(ORDERS, LATER, **{**asked, "unchanged": {}})[0] is Judgement.FAILED, "nothing is masked by itself"


def test_objects_are_compared_by_name_without_what_the_cluster_gives_out() -> None:
    one, other = body("settings", data={"colour": "blue"}), body("pages", data={"home": "1"})
    made_anew = body("settings", data={"colour": "blue"})
    made_anew["metadata"] |= {"uid": "another", "resourceVersion": "999", "creationTimestamp": "2026-02-02T00:00:00Z"}
    asked: dict[str, Any] = {"kubernetes": MAPS, "unchanged": {}}
    assert held([one, other], [other, made_anew], **asked)[0] is Judgement.PASSED
    red = body("settings", data={"colour": "red"})
    assert held([one, other], [red, other], **asked) == (
        Judgement.FAILED,
        'settings: /data/colour is "red", and was "blue" before the fault',
    )
    assert held([one, other], [one], **asked) == (Judgement.FAILED, "pages: 1 before the fault, 0 now")
    assert held([one], [red], **{**asked, "unchanged": {"masks": ["/data/colour"]}})[0] is Judgement.PASSED


def test_of_the_status_only_what_is_asked_for_is_compared() -> None:
    deployments = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    ready, short = (
        body("web") | {"status": {"readyReplicas": number, "observedGeneration": number}} for number in (2, 1)
    )
    assert held(ready, short, kubernetes=deployments, unchanged={})[0] is Judgement.PASSED
    assert held(ready, short, kubernetes=deployments, unchanged={"statusFields": ["/status/readyReplicas"]}) == (
        Judgement.FAILED,
        "web: /status/readyReplicas is 1, and was 2 before the fault",
    )


def test_secrets_are_compared_and_not_shown() -> None:
    secrets = {"apiVersion": "v1", "kind": "Secret", "name": "login"}
    was, now = (body("login", data={"password": value}) for value in ("aHVudGVyMg==", "b3RoZXI="))
    result, told = held(was, now, kubernetes=secrets, unchanged={})
    assert (result, told) == (Judgement.FAILED, "login: /data/password is another (hidden)")
    answer = {"users": [{"name": "ann", "password": "hunter2"}]}
    changed = {"users": [{"name": "ann", "password": "other"}]}
    result, told = held(answer, changed, http=SOURCES["http"], unchanged={})
    assert result is Judgement.FAILED and told.startswith("/users/0/password is")
    assert "hunter2" not in told and "other" not in told


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_nothing_compared_with_nothing_is_no_sameness(nothing: Any) -> None:
    asked: dict[str, Any] = {"http": SOURCES["http"], "unchanged": {}}
    assert held(nothing, nothing, **asked)[0] is Judgement.INCONCLUSIVE
    assert held(nothing, [1], **asked)[0] is Judgement.FAILED
    assert held([], [], kubernetes=MAPS, unchanged={})[0] is Judgement.INCONCLUSIVE
    assert held({"a": 1}, {"a": 2}, **{**asked, "unchanged": {"masks": ["/*"]}})[0] is Judgement.INCONCLUSIVE


def test_what_cannot_be_read_is_undecided() -> None:
    refused = held(ORDERS, None, unreadable="connection refused", http=SOURCES["http"], unchanged={})
    assert refused == (Judgement.INCONCLUSIVE, "connection refused")


def test_an_object_that_is_gone_is_a_difference() -> None:
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "name": "settings"}
    told = '404 NotFound: configmaps "settings" not found'
    asked: dict[str, Any] = {"kubernetes": settings, "unchanged": {}}
    assert held(body("settings"), None, unreadable=told, gone=True, **asked) == (Judgement.FAILED, told)
    assert held(body("settings"), None, unreadable="503: no answer", **asked)[0] is Judgement.INCONCLUSIVE


@pytest.mark.parametrize(
    ("stored", "verdict", "reason"),
    [
        ([("data unchanged", "Passed")], Verdict.PASSED, None),
        ([("data unchanged", "Failed")], Verdict.FAILED, "DiffersFromBefore"),
        ([("data unchanged", "Inconclusive")], Verdict.INCONCLUSIVE, "InvariantUndecided"),
        ([("other unchanged", "Passed")], Verdict.INCONCLUSIVE, "InvariantUndecided"),
        ([], Verdict.INCONCLUSIVE, "InvariantUndecided"),
    ],
)
def test_it_is_on_the_consistency_axis_and_never_passes_without_a_comparison(
    stored: list[tuple[str, str]], verdict: Verdict, reason: str | None
) -> None:
    asked = check(observations=[{"name": "data", "http": SOURCES["http"], "unchanged": {}}])
    results = [{"check": "healthy", "name": name, "result": result} for name, result in stored]
    status = finished([asked])
    status = status.model_copy(update={"observed": {**status.observed, "unchanged": results}})
    judged = judge(experiment(), status, [injection()], health())
    assert judged.verdict is verdict
    assert [finding.reason for finding in judged.findings] == ([reason] if reason else [])


values = some.recursive(
    some.none() | some.booleans() | some.integers(0, 3) | some.text("ab", max_size=2),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text("ab/~", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(values, values)
def test_without_masks_it_passes_only_what_is_the_same(before: Any, after: Any) -> None:
    result, told = held(before, after, http=SOURCES["http"], unchanged={})
    assert (result is Judgement.FAILED) is not same(before, after), told
    assert (result is Judgement.INCONCLUSIVE) is (same(before, after) and before in (None, "", [], {}))
