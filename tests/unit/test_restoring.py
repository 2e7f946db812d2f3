"""The undo of a changed object: exact, blind to what others did elsewhere, and never done twice."""

from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bounceback.engine import restoring
from bounceback.engine.restoring import Create, Delete, Later, Nothing, Patch
from bounceback.types.objects import ANEW, RUN_LABEL, Change, Dependents, Json, Kept, ObjectKey
from bounceback.types.pointers import MISSING, Parts, parts, pointer, value_at, with_value

UNHURRIED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "a", "b/c~d", "1"]))
KEYS = st.sampled_from(["a", "b", "c", "d/e", "f~g", "name", "kind"])
VALUES = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(KEYS, below, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(KEYS, VALUES, max_size=4)
NAMED = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("pqrst"), "image": SCALARS}),
    max_size=4,
    unique_by=lambda e: e["name"],
)


def body(spec: Json, *, version: str = "1", **metadata: Any) -> Json:
    owned = {"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": version, "generation": int(version)}
    managed = [{"manager": "somebody", "time": version}]
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {**owned, "managedFields": managed, **metadata},
        "spec": spec,
        "status": {"seen": version},
    }


BODIES = st.builds(lambda spec, labels: body(spec, **labels), FIELDS, st.sampled_from([{}, {"labels": {"app": "web"}}]))


def change(before: Json, after: Json, **more: Any) -> Change:
    return Change(ObjectKey.of(before), before, after, **more)


def written(now: Json, version: str = "7") -> Json:
    """Somebody wrote it: what the server owns is another."""
    return {**now, "metadata": {**now["metadata"], "resourceVersion": version, "generation": 7}, "status": {"seen": 7}}


def done(what: object, now: Json) -> Json:
    """What becomes of the object, by an implementation of RFC 6902 that is not ours."""
    if isinstance(what, Nothing):
        return now
    assert isinstance(what, Patch), what
    assert what.ops[0] == {
        "op": "replace", "path": "/metadata/resourceVersion", "value": now["metadata"]["resourceVersion"]
    }  # fmt: skip
    result: Json = jsonpatch.apply_patch(now, list(what.ops))
    return result


def ours(whole: Json) -> Json:
    kept = {key: value for key, value in whole["metadata"].items() if key not in restoring.OWNED_METADATA}
    return {"metadata": kept, **{key: value for key, value in whole.items() if key not in ("status", "metadata")}}


def leaves(document: Any, way: Parts = ()) -> dict[Parts, Any]:
    """Mappings are gone into, all else is a value; an empty mapping is one, too."""
    if isinstance(document, dict) and document:
        return {path: value for key in document for path, value in leaves(document[key], (*way, key)).items()}
    return {way: document}


@UNHURRIED
@given(BODIES, FIELDS, st.booleans())
def test_what_nobody_else_touched_is_as_before(before: Json, spec: Json, labelled: bool) -> None:
    after = {**before, "spec": spec, "metadata": {**before["metadata"], **({"labels": {"x": "y"}} if labelled else {})}}
    made = change(before, after)
    now = written(done(restoring.patch(made), before))
    assert ours(now) == ours(after)
    assert ours(done(restoring.undo(made, now), now)) == ours(before)


@pytest.mark.parametrize("field", ["name", "uid", "kind"])
def test_a_list_whose_entries_have_no_names_is_one_value(field: str) -> None:
    before, theirs = body({"list": [{"name": "a", field: ["x"]}]}), {"list": [{"name": "b", field: ["x"]}]}
    made = change(before, {**before, "spec": {"list": [{"name": "a", field: ["y"]}]}})
    now = written({**before, "spec": {"list": [{"name": "a", field: ["y"]}]}})
    assert ours(done(restoring.undo(made, now), now)) == ours(before)
    assert isinstance(restoring.undo(made, written({**before, "spec": theirs})), Nothing)


@UNHURRIED
@given(BODIES, FIELDS, FIELDS)
def test_undone_twice_is_undone_once(before: Json, spec: Json, theirs: Json) -> None:
    made = change(before, {**before, "spec": spec})
    now = written({**before, "spec": theirs})
    first = done(restoring.undo(made, now), now)
    assert isinstance(restoring.undo(made, first), Nothing)
    assert not restoring.in_force(made, first)
    assert restoring.healed(made, first)


@UNHURRIED
@given(BODIES, FIELDS, FIELDS)
def test_what_the_server_owns_is_never_written(before: Json, spec: Json, theirs: Json) -> None:
    before["metadata"]["generation"] = 99
    made = change(before, {**before, "spec": spec, "status": {"seen": "ours"}})
    now = written({**before, "spec": theirs})
    result = done(restoring.undo(made, now), now)
    assert result["status"] == now["status"]
    for key in restoring.OWNED_METADATA:
        assert result["metadata"].get(key) == now["metadata"].get(key)


@UNHURRIED
@given(BODIES, FIELDS, FIELDS)
def test_only_what_is_still_as_we_made_it_changes_and_only_to_what_it_was(before: Json, spec: Json, new: Json) -> None:
    made = change(before, {**before, "spec": spec})
    now = written({**before, "spec": new})
    result = done(restoring.undo(made, now), now)
    assert made.after is not None
    for way in {*leaves(now), *leaves(result)}:
        was, is_now = value_at(now, way), value_at(result, way)
        if was != is_now or type(was) is not type(is_now):
            made_ = value_at(made.after, way)  # where it was empty the server leaves it out
            assert made_ in (was, MISSING) or made_ in ([], {}) or isinstance(was, dict | list), way
            assert is_now == value_at(before, way) or isinstance(is_now, dict | list), way


@st.composite
def apart(draw: st.DrawFn) -> tuple[Json, dict[Parts, Any], dict[Parts, Any]]:
    """An object, what we set in it and what others set, never in each other's way."""
    spec = draw(FIELDS)
    known = [way for way in leaves(spec) if way]
    mine = draw(st.sets(st.sampled_from(known))) if known else set()
    rest = [way for way in known if way not in mine]
    theirs = draw(st.sets(st.sampled_from(rest))) if rest else set()
    value = st.one_of(SCALARS, st.just(MISSING))
    edits = [{way: draw(value) for way in ways} for ways in (mine, theirs)]
    for who, each in zip(("mine", "theirs"), edits, strict=True):
        if draw(st.booleans()):
            holder = draw(st.sampled_from([(), *(way[:-1] for way in known)]))
            each[(*holder, who)] = draw(SCALARS)
    return body(spec), edits[0], edits[1]


def edited(whole: Json, edits: dict[Parts, Any]) -> Json:
    for way, value in edits.items():
        whole = with_value(whole, ("spec", *way), value)
    return whole


@UNHURRIED
@given(apart())
def test_others_keep_all_that_they_changed_elsewhere(drawn: tuple[Json, dict[Parts, Any], dict[Parts, Any]]) -> None:
    before, mine, theirs = drawn
    made = change(before, edited(before, mine))
    assert made.after is not None
    now = written(edited(made.after, theirs))
    assert ours(done(restoring.undo(made, now), now)) == ours(edited(before, theirs))


@UNHURRIED
@given(NAMED, NAMED, NAMED)
def test_entries_with_names_are_told_apart(old: list[Json], new: list[Json], theirs: list[Json]) -> None:
    made = change(body({"containers": old}), body({"containers": new}))
    now = body({"containers": theirs}, version="7")
    result = done(restoring.undo(made, now), now)["spec"]["containers"]
    before, after, there, found = ({e["name"]: e["image"] for e in each} for each in (old, new, theirs, result))
    common = [name for name in before if name in after]
    if common != [name for name in after if name in before]:
        return  # the order was changed, too: then the list is one value
    for name in {*before, *after, *there, *found}:
        was, made_, is_now = (each.get(name, MISSING) for each in (before, after, there))
        if was == made_ and type(was) is type(made_):
            assert found.get(name, MISSING) == is_now
        elif is_now is made_ or (is_now == made_ and type(is_now) is type(made_)):
            assert found.get(name, MISSING) == was
    assert len(found) == len(result)


def test_an_entry_comes_back_to_its_place() -> None:
    old = [{"name": name, "kind": "User"} for name in "abcd"]
    made = change(body({"subjects": old}), body({"subjects": old[::3]}))
    now = body({"subjects": [*old[::3], {"name": "e", "kind": "User"}]}, version="2")
    result = done(restoring.undo(made, now), now)
    assert [entry["name"] for entry in result["spec"]["subjects"]] == ["a", "b", "c", "d", "e"]


def test_what_others_did_to_the_same_field_is_theirs_and_is_told() -> None:
    made = change(body({"replicas": 3, "paused": False}), body({"replicas": 0, "paused": True}))
    now = body({"replicas": 5, "paused": True}, version="2")
    undo = restoring.undo(made, now)
    assert isinstance(undo, Patch)
    assert undo.left_alone == ("/spec/replicas",)
    assert done(undo, now)["spec"] == {"replicas": 5, "paused": False}
    assert not restoring.healed(made, now)
    now = body({"replicas": 5, "paused": False}, version="3")
    assert restoring.undo(made, now) == Nothing(healed=True, left_alone=("/spec/replicas",))


def test_null_is_a_value_and_true_is_not_one() -> None:
    made = change(body({"a": True, "b": None}), body({"a": 1}))
    now = body({"a": 1}, version="2")
    assert done(restoring.undo(made, now), now)["spec"] == {"a": True, "b": None}
    assert restoring.undo(made, body({"a": True, "b": None})) == Nothing(healed=True)


def test_a_mapping_that_we_began_goes_with_our_last_key_in_it() -> None:
    made = change(body({}), body({}, labels={"x": "y"}))
    for others, expected in (({}, None), ({"team": "a"}, {"team": "a"})):
        now = body({}, version="2", labels={"x": "y", **others})
        assert done(restoring.undo(made, now), now)["metadata"].get("labels") == expected


def test_a_mapping_that_was_taken_away_and_made_anew_by_others_is_theirs() -> None:
    before = body({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}})
    made = change(before, body({}))
    now = body({"strategy": {"type": "Recreate"}}, version="2")
    assert restoring.undo(made, now) == Nothing(healed=True, left_alone=("/spec/strategy",))


def test_the_last_key_comes_back_though_the_server_leaves_out_what_is_empty() -> None:
    before = {**body({}), "data": {"a": "1"}}
    made = restoring.settled(change(before, {**before, "data": {}}), body({}))
    assert made.after is not None and made.after["data"] == {}
    now = body({}, version="2")
    assert restoring.in_force(made, now)
    assert done(restoring.undo(made, now), now)["data"] == {"a": "1"}
    now = {**now, "data": {"b": "2"}}
    assert done(restoring.undo(made, now), now)["data"] == {"b": "2", "a": "1"}


def test_what_the_server_writes_in_its_own_way_is_still_ours() -> None:
    asked = change(body({"cpu": "2"}), body({"cpu": "1000m"}))
    made = restoring.settled(asked, body({"cpu": "1", "filled": "in"}, version="2"))
    now = body({"cpu": "1", "filled": "in"}, version="2")
    assert done(restoring.undo(made, now), now)["spec"] == {"cpu": "2"}


def test_what_the_server_drops_is_refused() -> None:
    with pytest.raises(ValueError, match="would not have /spec/colour of Thing web changed"):
        restoring.settled(change(body({}), body({"colour": "red"})), body({}, version="2"))


def test_an_object_made_anew_is_not_ours_to_patch() -> None:
    made = change(body({"replicas": 3}), body({"replicas": 0}))
    another = body({"replicas": 0}, version="2", uid="u-2")
    assert restoring.undo(made, another) == Nothing(healed=True)
    assert restoring.undo(made, None) == Nothing(), "nobody has put anything right"


def test_a_deleted_object_is_made_as_it_was() -> None:
    before = body({"a": 1}, labels={"app": "web"}, creationTimestamp="2026-01-01T00:00:00Z")
    made = Change(ObjectKey.of(before), before, None, dependents=Dependents.KEEP)
    assert restoring.patch(made) == Delete("u-1", Dependents.KEEP)
    anew = {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"a": 1},
    }
    assert restoring.undo(made, None) == Create(anew, again=True)
    assert not restoring.healed(made, None)
    another = body({"a": 2}, uid="u-2")
    assert restoring.healed(made, another) and restoring.undo(made, another) == Nothing(healed=True)
    ours = body({"a": 2}, uid="u-2", managedFields=[{"manager": "kubectl"}, {"manager": ANEW}])
    assert not restoring.healed(made, ours) and restoring.undo(made, ours) == Nothing(), (
        "another operator did, before us"
    )
    going = body({"a": 1}, deletionTimestamp="2026-01-01T00:00:00Z", finalizers=["example.com/slow"])
    assert restoring.undo(made, going) == Later("Thing web is still being deleted (example.com/slow)")
    assert restoring.undo(made, before) == Nothing(), "the deletion never happened"


def test_what_was_deleted_by_others_is_not_healed_but_what_they_had_to_free_for_that_is() -> None:
    before = body({"a": 1})
    made = change(before, {**before, "spec": {"a": 2}})
    assert not restoring.healed(made, None) and restoring.undo(made, None) == Nothing()
    assert restoring.healed(made, body({"a": 1}, uid="u-2")), "another one took its place"
    held = change(before, body({"a": 1}, finalizers=["bounceback.dev/stuck"]))
    assert restoring.healed(held, None) and restoring.undo(held, None) == Nothing(healed=True)


def test_a_namespace_that_does_not_go_says_why() -> None:
    before: Json = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant", "uid": "u-1"}}
    made = Change(ObjectKey.of(before), before, None)
    going: Json = {**before, "metadata": {**before["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    assert restoring.undo(made, going) == Later("Namespace tenant is still being deleted (its grace period)")
    conditions = [{"status": "False", "message": "all read"}, {"status": "True", "message": "pods. has 1 instances"}]
    told = {**going, "status": {"conditions": conditions}}
    assert restoring.undo(made, told) == Later("Namespace tenant is still being deleted (pods. has 1 instances)")


def test_what_we_made_is_deleted_and_what_only_has_its_name_is_not() -> None:
    new = body({}, labels={RUN_LABEL: "run-1"})
    made = Change(ObjectKey.of(new), None, new)
    assert restoring.patch(made) == Create(new)
    assert restoring.undo(made, None) == Nothing(healed=True)
    assert restoring.undo(made, body({"changed": 1}, uid="u-9", labels={RUN_LABEL: "run-1"})) == Delete("u-9")
    for labels in ({}, {RUN_LABEL: "run-2"}):
        assert restoring.undo(made, body({}, labels=labels)) == Nothing(healed=True)
    going = body({}, labels={RUN_LABEL: "run-1"}, deletionTimestamp="2026-01-01T00:00:00Z")
    assert restoring.undo(made, going) == Nothing()


def test_nothing_shows_what_a_secret_holds() -> None:
    before = body({"password": "hunter2"})
    made = change(before, body({"password": "hunter3"}))
    removed = Change(made.key, before, None)
    for shown in (made, restoring.patch(made), restoring.undo(removed, None), restoring.undo(made, made.after)):
        assert "hunter" not in repr(shown)


def test_a_change_survives_the_journal() -> None:
    made = change(body({"a": None}), body({}), whole=("/spec",), kept=Kept(("/spec",), 5.0, ("/spec/t",)))
    assert Change.from_json(copy.deepcopy(made.to_json())) == made


@UNHURRIED
@given(st.lists(st.sampled_from(["a", "", "~", "/", "~1", "0", "a/b~c"]), max_size=4))
def test_a_pointer_is_read_as_it_is_written(way: list[str]) -> None:
    assert parts(pointer(way)) == tuple(way)
