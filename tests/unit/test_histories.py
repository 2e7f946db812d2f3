"""Workloads' histories, in forms that independent checkers read."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.accounting.history import edn, events, json_lines
from bounceback.accounting.ledger import NOTHING, Model
from tests.ledgers import UNKNOWN, Told, ledgers


@pytest.fixture
def told() -> Told:
    return Told()


def parsed(line: str) -> dict[str, str]:
    """A map of EDN, its values as text."""
    return dict(re.findall(r":(\w+) (\[.*\]|\S+?)(?=, |\})", line))


@given(st.data(), st.sampled_from(list(Model)))
def test_a_process_of_a_history_does_one_thing_at_a_time_and_nothing_after_an_unknown_end(
    data: st.DataObject, model: Model
) -> None:
    ledger = data.draw(ledgers(model))
    busy, ended = {}, set()
    for event in events(ledger):
        assert event.process not in ended
        if event.type == "invoke":
            assert event.process not in busy
            busy[event.process] = event.number
        else:
            assert busy.pop(event.process) == event.number
            ended |= {event.process} if event.type == "info" else set()
    lines = [json.loads(line) for line in json_lines(model, ledger)]
    assert [line["index"] for line in lines] == list(range(len(lines)))
    maps = [parsed(line) for line in edn(model, ledger)]
    assert [each["index"] for each in maps] == [str(n) for n in range(len(maps))]


def history(model: Model, told: Told, key: int | None = None) -> list[tuple[str, str, str]]:
    maps = [parsed(line) for line in edn(model, told.ledger, key)]
    return [(each["type"], each["f"], each["value"]) for each in maps]


def test_registers_are_transactions_for_elle_and_writes_and_reads_of_one_key_for_knossos(told: Told) -> None:
    told.read(told.write(key=3), key=3)
    told.write(UNKNOWN, key=4)
    assert history(Model.REGISTER, told) == [
        (":invoke", ":txn", "[[:w 3 0]]"),
        (":ok", ":txn", "[[:w 3 0]]"),
        (":invoke", ":txn", "[[:r 3 nil]]"),
        (":ok", ":txn", "[[:r 3 0]]"),
        (":invoke", ":txn", "[[:w 4 2]]"),
        (":info", ":txn", "[[:w 4 2]]"),
    ]
    assert history(Model.REGISTER, told, 3) == [
        (":invoke", ":write", "0"),
        (":ok", ":write", "0"),
        (":invoke", ":read", "nil"),
        (":ok", ":read", "0"),
    ]


def test_sets_are_adds_and_one_read_at_the_end_with_all_that_was_found(told: Told) -> None:
    told.read(1, told.write())
    told.at_the_end([0, 0])
    assert history(Model.SET, told)[1:] == [
        (":ok", ":add", "0"),
        (":invoke", ":read", "nil"),
        (":ok", ":read", "[0 0]"),
    ]


def test_a_take_that_finds_nothing_fails_in_a_history(told: Told) -> None:
    told.take(told.write())
    told.take(NOTHING)
    assert history(Model.QUEUE, told)[3:] == [
        (":ok", ":dequeue", "0"),
        (":invoke", ":dequeue", "nil"),
        (":fail", ":dequeue", "nil"),
    ]
