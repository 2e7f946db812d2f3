"""Workloads before they run: what a file must say, when operations are due, which they are, and what values mean."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bounceback.accounting.ledger import FOREIGN, NOTHING, Function, Model
from bounceback.api.problems import parse
from bounceback.api.schema import structural
from bounceback.api.workload import LOADS, SYSTEMS, Load, Workload
from bounceback.cli.main import main
from bounceback.workload.choosing import Choosing
from bounceback.workload.numbering import Numbering
from bounceback.workload.schedule import due, workers

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "F1-workload").glob("*.yaml"))
URL = "http://store"
WRITE = {"path": "/{key}/{value}"}
READ = {"path": "/{key}"}
Json = dict[str, Any]


def a_set(**http: Any) -> Json:
    return {"model": "Set", "http": {"url": URL, "write": {"path": "/{value}"}, "list": {"path": "/"}} | http}


def a_register(**http: Any) -> Json:
    return {"model": "Register", "http": {"url": URL, "write": WRITE, "read": READ} | http}


def a_table(**sql: Any) -> Json:
    """Fields that are None are left out."""
    place = {"kind": "MySQL", "host": "db", "database": "shop"}
    statements = {"write": "insert into items values ({value})", "list": "select id from items"}
    return {"model": "Set", "sql": {name: value for name, value in (place | statements | sql).items() if value}}


def problems(data: object) -> list[str]:
    return [str(problem) for problem in parse(Workload, data, ())[1]]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid(path: Path) -> None:
    assert problems(yaml.safe_load(path.read_text())) == []


WRONG: Mapping[str, tuple[Json, str]] = {
    "a Secret without a cluster": (
        a_table(tls={"authorities": {"secretName": "ca"}}),
        "sql.tls.authorities: must be unset but in a check: without a cluster there is no Secret; give authoritiesFile",
    ),
    "no model": ({"http": {"url": URL}}, "model: must be given: one of Register, Set, Counter, Queue"),
    "another model": (a_set() | {"model": "List"}, 'model: must be one of Register, Set, Counter, Queue; found "List"'),
    "nothing to read with": (a_register(read=None), "http.read: must be given with model Register"),
    "another model's operation": (
        a_register(take={"path": "/"}),
        "http.take: must be unset with model Register, which has write and read",
    ),
    "nothing to read back with": (
        a_set(list=None),
        "http: must have list or read with model Set: what was added must be read back",
    ),
    "reads without a request": (a_set() | {"readPercent": 5}, "readPercent: must be 0, or unset, without http.read"),
    "values that are all alike": (
        a_set(write={"path": "/items"}),
        "http.write.body: must have {value}, here or in the path: values tell operations apart",
    ),
    "a read of nothing in particular": (
        a_set(read={"path": "/items"}),
        "http.read.path: must have {value}, here or in the body: it asks for that one",
    ),
    "keys that are all alike": (
        a_register(read={"path": "/"}),
        "http.read.path: must have {key}, here or in the body, or keys must be 1",
    ),
    "a flaw that is not seen": (
        a_register() | {"allow": ["Duplicated"]},
        "allow[0]: must be one of Lost, Reordered, Stale, Phantom: no other is seen of a Register",
    ),
    "two ways to come": (
        a_set() | {"load": {"closed": {}, "open": {"perSecond": 5}}},
        "load: exactly one of closed, open, ramp, burst, herd must be given; found closed and open",
    ),
    "no way to come": (a_set() | {"load": {}}, "load: exactly one of closed, open, ramp, burst, herd must be given"),
    "a status of two meanings": (
        a_set(write={"path": "/{value}", "acknowledgedStatuses": [200], "failedStatuses": [503, 200]}),
        "http.write.failedStatuses: must not be among acknowledgedStatuses, too: 200",
    ),
    "two systems": (
        a_set() | {"redis": {"host": "db"}},
        f"exactly one of {', '.join(SYSTEMS)} must be given; found http and redis",
    ),
    "a statement without its value": (
        a_table(write="insert into items values (1)"),
        "sql.write: must have {value}: values tell operations apart",
    ),
    "a parameter in quotes": (
        a_table(write="insert into items values ('{value}')"),
        "sql.write: must have {value} without quotes: it is a parameter, and no text",
    ),
    "a table that is not read back": (
        a_table(list=None),
        "sql: must have list or read with model Set: what was added must be read back",
    ),
    "another model's statement": (
        a_table(take="select 1"),
        "sql.take: must be unset with model Set, which has write, read and list",
    ),
    "a password for all to read": (
        a_table(passwordVariable="$ECRET"),
        "sql.passwordVariable: must be text of 1 to 128 characters",
    ),
    "a stream as a register": (
        {"model": "Register", "nats": {"host": "bus", "stream": "orders", "subject": "orders.new"}},
        "model: must be Set or Queue with nats: a stream is no other",
    ),
    "a queue that nobody takes from": (
        {"model": "Queue", "nats": {"host": "bus", "stream": "orders", "subject": "orders.new"}},
        "nats.consumer: must be given with model Queue: it takes",
    ),
    "two bodies": (
        a_set(write={"path": "/", "body": "{value}", "jsonRpc": {"method": "add", "params": "[{value}]"}}),
        "http.write.body: must be unset with jsonRpc, which is the body",
    ),
    "params that are no JSON": (
        a_set(write={"path": "/", "jsonRpc": {"method": "add", "params": "{value}]"}}),
        "http.write.jsonRpc.params: must be JSON once {key} and {value} are filled in: ",
    ),
    "a call that adds nothing in particular": (
        a_set(write={"path": "/", "jsonRpc": {"method": "add"}}),
        "http.write.body: must have {value}, here or in the path: values tell operations apart",
    ),
    "objects as a queue": (
        {"model": "Queue", "kubernetes": {"namespace": "shop"}},
        "model: must be Register or Set with kubernetes: objects are no other",
    ),
    "an object's kind, twice": (
        {"model": "Set", "kubernetes": {"namespace": "shop", "rest": {"kind": "Order"}}},
        "kubernetes.rest.kind: must be unset: kind is said already, or by us",
    ),
    "a value where a name is": (
        {"model": "Set", "kubernetes": {"namespace": "shop", "field": "metadata.name"}},
        "kubernetes.field: must not be within apiVersion, kind, metadata",
    ),
    "a prefix with a space": (
        {"model": "Set", "redis": {"host": "db", "prefix": "a b"}},
        'redis.prefix: must be text of 1 to 200 characters: printable ASCII without spaces; found "a b"',
    ),
    "a path without a slash": (
        a_set(list={"path": "items"}),
        "http.list.path: must be text of 1 to 2048 characters: printable ASCII with a slash first and no spaces; "
        'found "items"',
    ),
    "a field that there is not": (
        a_set() | {"second": 5},
        "second: there is no such field; did you mean seconds? allowed: ",
    ),
    "a rate beyond all bounds": (
        a_set() | {"load": {"open": {"perSecond": 0}}},
        "load.open.perSecond: must be a whole number from 1 to 100000; found 0",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_by_its_field(name: str) -> None:
    data, message = WRONG[name]
    if "http" in data:
        data = data | {"http": {key: value for key, value in data["http"].items() if value is not None}}
    found = problems(data)
    assert len(found) == 1 and found[0].startswith(message)


def test_a_register_of_one_key_needs_no_place_for_it() -> None:
    data = a_register(write={"path": "/", "body": "{value}"}, read={"path": "/"})
    assert problems(data | {"keys": 1}) == []
    assert len(problems(data)) == 2


@pytest.mark.parametrize(
    ("text", "words", "told"),
    [
        ("model: Set", [], f"wl.yaml:1:1: exactly one of {', '.join(SYSTEMS)} must be given"),
        ("model: Set\nhttp: {url: 'ftp://x', write: {path: '/{value}'}, list: {path: /}}", [], "wl.yaml:2:8: http.url"),
        ("- 1", [], "must be a mapping with model, and with http, redis"),
        ("", [], "must be one document"),
        (
            yaml.safe_dump(a_table(passwordVariable="NO_SUCH")),
            [],
            "passwordVariable: must be set in the environment",
        ),
        (yaml.safe_dump(a_set()), ["--seconds", "0"], "--seconds: must be a whole number from 1 to 86400; found 0"),
        (yaml.safe_dump(a_set()), ["--url", "store"], "--url: must be text"),
        (yaml.safe_dump(a_set()), ["--history", "x.txt"], "--history must end in .edn or .jsonl"),
        (yaml.safe_dump(a_set()), ["--history", "/nowhere/x.edn"], "--history /nowhere/x.edn: cannot be written"),
        (yaml.safe_dump(a_set()), ["--history-key", "1"], "--history-key must be with a --history that ends in .edn"),
    ],
)
def test_bad_input_is_exit_code_2_and_names_its_place(
    text: str, words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wl.yaml"
    file.write_text(text)
    assert main(["workload", str(file), *words]) == 2
    assert told in capsys.readouterr().err


def test_the_page_names_every_field() -> None:
    page = (EXAMPLES[0].parents[2] / "docs" / "workloads.md").read_text()
    schema = structural(Workload)
    fields = set(schema["properties"])
    for name in (*SYSTEMS, "load"):
        fields |= set(schema["properties"][name]["properties"])
    for name in ("write", "read", "take", "list"):
        fields |= set(schema["properties"]["http"]["properties"][name]["properties"])
    fields |= set(schema["properties"]["http"]["properties"]["write"]["properties"]["jsonRpc"]["properties"])
    for name in LOADS:
        fields |= set(schema["properties"]["load"]["properties"][name]["properties"])
    assert not {field for field in fields if not re.search(rf"\b{field}\b", page)}


# When operations are due


def load(**ways: Json) -> Load:
    return Load.model_validate(ways)


@given(
    st.sampled_from(
        [
            load(open={"perSecond": 100}),
            load(ramp={"fromPerSecond": 1, "toPerSecond": 300}),
            load(ramp={"fromPerSecond": 300, "toPerSecond": 1}),
            load(burst={"size": 7, "everySeconds": 2}),
            load(burst={"size": 7, "everySeconds": 3, "perSecond": 20}),
            load(herd={"clients": 5, "everySeconds": 1}),
        ]
    ),
    st.integers(1, 20),
)
def test_operations_are_due_in_order_and_before_the_end(way: Load, seconds: int) -> None:
    moments = list(due(way, seconds))
    assert moments == sorted(moments)
    assert moments[0] >= 0 and moments[-1] < seconds


def test_a_fixed_rate_is_so_many_each_second() -> None:
    moments = list(due(load(open={"perSecond": 250}), 4))
    assert [sum(second <= moment < second + 1 for moment in moments) for second in range(4)] == [250] * 4


@pytest.mark.parametrize(("first", "last"), [(10, 1000), (1000, 10), (200, 200)])
def test_a_ramp_has_its_rates_at_both_ends_and_grows_evenly(first: int, last: int) -> None:
    moments = list(due(load(ramp={"fromPerSecond": first, "toPerSecond": last}), 100))
    assert abs(len(moments) - 100 * (first + last) / 2) <= 1
    middle = sum(49.5 <= moment < 50.5 for moment in moments)
    assert abs(middle - (first + last) / 2) <= 6
    gaps = [after - before for before, after in pairwise(moments)]
    ordered = sorted(gaps, reverse=first < last)
    assert all(abs(gap - other) < 1e-6 for gap, other in zip(gaps, ordered, strict=True))


def test_a_herd_is_all_at_once_and_has_room_for_all() -> None:
    way = load(herd={"clients": 40, "everySeconds": 5})
    assert list(due(way, 11)) == [0.0] * 40 + [5.0] * 40 + [10.0] * 40
    assert workers(way) == 40


# Which operations, and what values mean


def workload(data: Json) -> Workload:
    found, wrong = parse(Workload, data, ())
    assert found is not None, wrong
    return found


@given(st.integers(0, 1000))
def test_the_same_seed_makes_the_same_operations(seed: int) -> None:
    asked = workload(a_register() | {"seed": seed, "readPercent": 50})
    one, other = Choosing(asked), Choosing(asked)
    chosen = [one.next(n) for n in range(50)]
    assert chosen == [other.next(n) for n in range(50)]
    assert {key for _, key in chosen} <= set(range(asked.keys))


def test_a_read_of_a_set_asks_for_what_a_write_before_it_has_added() -> None:
    choosing = Choosing(workload(a_set(read={"path": "/{value}"}) | {"readPercent": 60}))
    written = set()
    for number in range(300):
        function, key = choosing.next(number)
        if function is Function.WRITE:
            written.add(number)
        else:
            assert key in written
    assert 60 < len(written) < 180


def test_values_of_other_runs_are_foreign_and_those_of_this_one_are_its_operations() -> None:
    ours, theirs = Numbering(Model.SET, 7, 1), Numbering(Model.SET, 8, 1)
    values = [ours.value_of(0), ours.value_of(9), ours.value_of(10), theirs.value_of(0), 5, -2]
    assert list(ours.listed(values, 10)) == [0, 9, FOREIGN, FOREIGN, FOREIGN, FOREIGN]
    ours.listed_before([5, theirs.value_of(0)])
    assert list(ours.listed([5, theirs.value_of(0), ours.value_of(3)], 10)) == [3]
    assert ours.value_of((1 << 32) - 1) < 1 << 53


def test_what_a_key_had_before_is_nothing_to_us() -> None:
    register, counter = Numbering(Model.REGISTER, 1, 2), Numbering(Model.COUNTER, 1, 2)
    register.had(0, 77)
    counter.had(0, 77)
    assert [register.got(0, value, 5) for value in (77, None, register.value_of(4))] == [NOTHING, NOTHING, 4]
    assert register.got(1, 77, 5) == FOREIGN
    assert [counter.got(0, value, 5) for value in (77, 80)] == [0, 3]
    assert counter.got(1, None, 5) == 0


def test_keys_are_those_of_the_run() -> None:
    names = [Numbering(Model.REGISTER, run, 3).keys for run in (1, 2, 11)]
    assert len(set(itertools.chain(*names))) == 9
