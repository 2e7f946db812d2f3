"""A ledger as a history that others can check: EDN for Jepsen, Elle and Knossos, or lines of JSON.

The form is Jepsen's: a map an event, with :index, :type (:invoke, :ok, :fail, :info), :process, :f, :value and :time in
nanoseconds. A process does one thing at a time, and one whose operation became :info does nothing more: so numbers of
processes are given out here, and not by who did the work.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from bounceback.accounting.ledger import NOTHING, Function, Ledger, Model, Outcome

INVOKE, OK, FAIL, INFO = "invoke", "ok", "fail", "info"
TYPES: Final = {Outcome.ACKNOWLEDGED: OK, Outcome.FAILED: FAIL, Outcome.UNKNOWN: INFO}
NAMES: Final = {
    Model.REGISTER: {Function.WRITE: "write", Function.READ: "read"},
    Model.SET: {Function.WRITE: "add", Function.READ: "contains"},
    Model.COUNTER: {Function.WRITE: "add", Function.READ: "read"},
    Model.QUEUE: {Function.WRITE: "enqueue", Function.TAKE: "dequeue"},
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """A beginning or an end."""

    number: int  # of the operation
    type: str
    process: int
    function: Function
    key: int
    value: int | None  # of a read what it got, in its end; else what it writes or asks for
    nanoseconds: int  # since the first event
    read_back: bool


def events(ledger: Ledger) -> Iterator[Event]:
    """All of them, in order. What has no end by then stays begun, which says the same as :info."""
    free: list[int] = []
    processes: dict[int, int] = {}
    started = 0
    first = ledger.times[0] if ledger.times else 0
    for event, time in zip(ledger.events, ledger.times, strict=True):
        number = event >> 1
        function = Function(ledger.functions[number])
        key = ledger.keys[number]
        if event & 1:
            kind = TYPES[Outcome(ledger.outcomes[number])]
            process = processes.pop(number)
            if kind != INFO:
                heapq.heappush(free, process)
            value = number if function is Function.WRITE else ledger.values[number] if kind == OK else None
        else:
            kind = INVOKE
            if free:
                process = heapq.heappop(free)
            else:
                process, started = started, started + 1
            processes[number] = process
            value = number if function is Function.WRITE else None
        yield Event(number, kind, process, function, key, value, time - first, number >= ledger.last_of_load)


def json_lines(model: Model, ledger: Ledger) -> Iterator[str]:
    """An object an event: `index`, `type`, `process`, `f`, `key`, `value` (null: nothing), `time`, `readBack`.

    `add` of a Counter adds 1; `contains` of a Set asks for `key` and gets 1 or 0. A Set that was listed at the end has
    a last pair of events, `read`, with all values.
    """
    names = NAMES[model]
    index = 0
    last = 0
    for index, event in enumerate(events(ledger), 1):
        last = event.nanoseconds
        value = 1 if model is Model.COUNTER and event.function is Function.WRITE else event.value
        body: Json = {"index": index - 1, "type": event.type, "process": event.process, "f": names[event.function]}
        if model in (Model.REGISTER, Model.COUNTER) or (model, event.function) == (Model.SET, Function.READ):
            body["key"] = event.key
        body |= {"value": None if value == NOTHING else value, "time": event.nanoseconds}
        if event.read_back:
            body["readBack"] = True
        yield json.dumps(body)
    if ledger.listed is not None:
        for kind, values in ((INVOKE, None), (OK, list(ledger.listed))):
            body = {"index": index, "type": kind, "process": 0, "f": "read", "value": values}
            yield json.dumps(body | {"time": last, "readBack": True})
            index += 1


def edn(model: Model, ledger: Ledger, key: int | None = None) -> Iterator[str]:
    """A map an event, as the checkers of each model expect them.

    Register: transactions of Elle's rw-register, [[:w key value]] and [[:r key value]]; with a `key` only that
    register, for Knossos: :write and :read. Counter: :add 1 and :read, of one `key`. Queue: :enqueue, and :dequeue,
    which has :fail where there was nothing. Set: :add, and at the end one :read of all that was found, in a vector;
    who asked for single values (:contains) is left out, because the checkers of sets know no such thing.
    """
    index = 0
    last = Event(0, INVOKE, 0, Function.READ, 0, None, 0, True)
    for event in events(ledger):
        last = event
        if (key is not None and event.key != key) or (model is Model.SET and event.function is not Function.WRITE):
            continue
        kind, name, value = _said(model, event, by_key=key is not None)
        yield _map(index, kind, event.process, name, value, event.nanoseconds)
        index += 1
    if model is Model.SET and (found := _found(ledger)) is not None:
        process = 1 + max((event.process for event in events(ledger)), default=0)
        values = f"[{' '.join(map(str, found))}]"
        yield _map(index, INVOKE, process, "read", "nil", last.nanoseconds)
        yield _map(index + 1, OK, process, "read", values, last.nanoseconds)


def _said(model: Model, event: Event, by_key: bool) -> tuple[str, str, str]:
    """Type, function and value as the model's checkers have them."""
    kind, name = event.type, NAMES[model][event.function]
    value = "nil" if event.value in (None, NOTHING) else str(event.value)
    if model is Model.COUNTER and event.function is Function.WRITE:
        value = "1"
    if model is Model.QUEUE and event.value == NOTHING:
        kind = FAIL
    if model is Model.REGISTER and not by_key:
        return kind, "txn", f"[[:{name[0]} {event.key} {value}]]"
    return kind, name, value


def _map(index: int, kind: str, process: int, name: str, value: str, nanoseconds: int) -> str:
    return f"{{:index {index}, :type :{kind}, :process {process}, :f :{name}, :value {value}, :time {nanoseconds}}}"


def _found(ledger: Ledger) -> list[int] | None:
    """Of a Set: what the read-back found."""
    if ledger.listed is not None:
        return list(ledger.listed)
    looked = [
        number
        for number in range(ledger.last_of_load, len(ledger))
        if ledger.outcomes[number] == Outcome.ACKNOWLEDGED and ledger.functions[number] == Function.READ
    ]
    return [ledger.keys[number] for number in looked if ledger.values[number]] if looked else None
