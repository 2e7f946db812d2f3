"""What is compared of objects, and what differs: every change that is not masked is found, and none that is."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from bounceback.api.reference_run import ComparedObjects
from bounceback.engine.end_state import end_state, ends_differ, is_ours, stable_name, values_differ
from bounceback.engine.merging import same
from bounceback.types.pointers import value_at

Json = dict[str, Any]
VALUES = some.recursive(
    some.none() | some.booleans() | some.integers(-9, 9) | some.text("ab", max_size=2),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.sampled_from("abc/~"), inner, max_size=3),
    max_leaves=8,
)


def entry(kind: str = "ConfigMap", **more: Any) -> ComparedObjects:
    return ComparedObjects.model_validate({"apiVersion": "v1", "kind": kind, **more})


def body(name: str = "settings", generate: str = "", at: int = 0, **more: Any) -> Json:
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": f"uid-{name}-{at}",
        "resourceVersion": str(100 + at),
        "creationTimestamp": f"2026-11-22T15:00:{at:02}Z",
        "managedFields": [{"manager": "keeper", "time": f"2026-11-22T15:00:{at:02}Z"}],
        **({"generateName": generate} if generate else {}),
        **more.pop("metadata", {}),
    }
    return {"metadata": metadata, **more}


def differing(then: list[Json], now: list[Json], of: ComparedObjects) -> list[tuple[str, str]]:
    return [(d.name, d.path) for d in ends_differ(end_state(then, of, "salt"), end_state(now, of, "salt"))]


def test_the_same_object_made_anew_is_the_same() -> None:
    owner = {"kind": "Deployment", "name": "keeper", "uid": "1"}
    then = body(data={"a": "1"}, metadata={"ownerReferences": [owner]})
    now = body(data={"a": "1"}, at=7, metadata={"ownerReferences": [{**owner, "uid": "2"}]})
    assert differing([then], [now], entry()) == []
    other = body(data={"a": "1"}, metadata={"ownerReferences": [{**owner, "name": "somebody"}]})
    assert differing([then], [other], entry()) == [("settings", "/metadata/ownerReferences/0/name")]


@pytest.mark.parametrize(
    ("name", "generate", "stable"),
    [
        ("web-5d8f7c-x7k2q", "web-5d8f7c-", "web-5d8f7c-*"),
        ("web-0", "web-", "web-0"),  # a StatefulSet names its pods itself
        ("web-abcde", "web-", "web-abcde"),  # no vowel is ever made up
        ("settings", "", "settings"),
        ("a" * 58 + "x7k2q", "a" * 70, "a" * 58 + "*"),
    ],
)
def test_a_name_that_was_made_up_is_told_by_what_was_asked_for(name: str, generate: str, stable: str) -> None:
    assert stable_name(body(name, generate)) == stable


def test_objects_with_made_up_names_are_told_apart_by_what_they_are() -> None:
    """Which of them came first does not matter where the same are there."""
    one, two = body("job-x7k2q", "job-", 1, data={"n": "1"}), body("job-b4c5d", "job-", 2, data={"n": "2"})
    again = [body("job-zzzzz", "job-", 1, data={"n": "2"}), body("job-22222", "job-", 2, data={"n": "1"})]
    assert differing([one, two], again, entry()) == []
    assert differing([one, two], again[:1], entry()) == [("job-*", "")]
    third = body("job-99999", "job-", 2, data={"n": "3"})
    assert differing([one, two], [again[0], third], entry()) == [("job-*", "/data/n")]


def test_an_object_that_is_there_once_more_or_not_at_all() -> None:
    assert differing([body()], [], entry()) == [("settings", "")]
    assert differing([], [body()], entry()) == [("settings", "")]


def test_what_is_being_deleted_is_not_as_it_was() -> None:
    going = body(metadata={"deletionTimestamp": "2026-11-22T15:00:00Z", "deletionGracePeriodSeconds": 30})
    assert differing([body()], [going], entry()) == [("settings", "/metadata/deletionTimestamp")]


def test_of_the_status_only_what_is_named_is_compared() -> None:
    then = body("web", status={"readyReplicas": 2, "conditions": [{"type": "Available", "status": "True"}]})
    now = body("web", status={"readyReplicas": 1, "conditions": [{"type": "Available", "status": "False"}]})
    assert differing([then], [now], entry("Deployment")) == []
    fields = ["/status/readyReplicas", "/status/conditions/*/status"]
    assert differing([then], [now], entry("Deployment", statusFields=fields)) == [
        ("web", "/status/conditions/0/status"),
        ("web", "/status/readyReplicas"),
    ]
    empty = [body("web", status={})]
    assert differing([then], empty, entry("Deployment", statusFields=fields[:1])) == [("web", "/status/readyReplicas")]


def test_masks_hide_what_they_name_and_nothing_beside_it() -> None:
    then = body(data={"seen": "1", "colour": "red"}, metadata={"annotations": {"example.com/at": "1", "b": "1"}})
    now = body(data={"seen": "2", "colour": "red"}, metadata={"annotations": {"example.com/at": "2", "b": "1"}})
    assert differing([then], [now], entry(masks=["/data/seen", "/metadata/annotations/example.com~1at"])) == []
    assert differing([then], [now], entry(masks=["/data/*"])) == [("settings", "/metadata/annotations/example.com~1at")]
    only = body(metadata={"annotations": {"example.com/at": "1"}})
    assert differing([only], [body()], entry(masks=["/metadata/annotations/example.com~1at"])) == []


def test_a_pod_is_where_the_scheduler_wants_it_and_carries_our_agents() -> None:
    def pod(at: int, node: str, token: str, **spec: Any) -> Json:
        volumes = [{"name": f"kube-api-access-{token}", "projected": {}}]
        return body(f"web-{token}", "web-", at, spec={"nodeName": node, "volumes": volumes, "image": "a", **spec})

    then, now = pod(1, "n1", "x7k2q"), pod(2, "n2", "b4c5d", ephemeralContainers=[{"name": "bb-1"}])
    assert differing([then], [now], entry("Pod")) == []
    assert differing([then], [pod(2, "n2", "b4c5d", image="b")], entry("Pod")) == [("web-*", "/spec/image")]


def test_what_secrets_hold_is_compared_and_not_kept() -> None:
    then, now = body(data={"password": "Y29ycmVjdA=="}), body(data={"password": "d3Jvbmc="})
    assert differing([then], [now], entry("Secret")) == [("settings", "/data/password")]
    assert differing([then], [copy.deepcopy(then)], entry("Secret")) == []
    kept = json.dumps(end_state([then], entry("Secret"), "salt"))
    assert "Y29y" not in kept
    assert kept != json.dumps(end_state([then], entry("Secret"), "pepper"))


def test_what_is_ours_is_known() -> None:
    assert is_ours(body(metadata={"labels": {"bounceback.dev/experiment-uid": "1"}}))
    assert is_ours(body(metadata={"labels": {"app.kubernetes.io/managed-by": "bounceback"}}))
    assert not is_ours(body(metadata={"labels": {"app": "web"}}))


@given(VALUES, VALUES)
def test_there_is_a_difference_where_two_values_are_not_the_same_and_only_there(one: Any, other: Any) -> None:
    found = list(values_differ(one, other))
    assert bool(found) is not same(one, other)
    for way, then, now in found:
        assert (value_at(one, way), value_at(other, way)) == (then, now)


@given(some.dictionaries(some.sampled_from("abcd"), VALUES, min_size=1, max_size=3), VALUES, some.data())
def test_a_change_is_found_unless_its_own_key_is_masked(data: Json, value: Any, draw: some.DataObject) -> None:
    key = draw.draw(some.sampled_from(sorted(data)))
    assume(not same(data[key], value))
    then, now = body(data=data), body(data={**data, key: value})
    assert all(path.startswith(f"/data/{key}") for _, path in differing([then], [now], entry()))
    assert differing([then], [now], entry())
    assert differing([then], [now], entry(masks=[f"/data/{key}"])) == []
    others = [f"/data/{other}" for other in "abcd" if other != key]
    assert differing([then], [now], entry(masks=others))


@given(some.lists(some.tuples(some.integers(0, 2), some.integers(0, 50)), max_size=6), some.randoms())
def test_the_order_and_the_names_of_what_was_made_up_do_not_matter(numbers: list[tuple[int, int]], order: Any) -> None:
    letters = "bcdfghjk"
    objects = [
        body(f"job-{letters[n]}7k2q", "job-", at, data={"n": str(value)}) for n, (value, at) in enumerate(numbers)
    ]
    shuffled = list(numbers)
    order.shuffle(shuffled)
    again = [
        body(f"job-{letters[n]}9999", "job-", at, data={"n": str(value)}) for n, (value, at) in enumerate(shuffled)
    ]
    assert differing(objects, again, entry()) == []
