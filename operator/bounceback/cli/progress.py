"""What a waiting command prints: each thing that happens, once."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Final, Protocol

from bounceback.cli.follow import Key
from bounceback.report.subject import Subject
from bounceback.report.words import summary
from bounceback.types import run_names

Json = dict[str, Any]
REFERENCE: Final = "reference"
"""What is told in place of a run's number of the run without faults."""


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


def output_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", type=Output, choices=list(Output), default=Output.TEXT, help="for people, or for programs"
    )


class Teller(Protocol):
    """Turns the states of one experiment into lines."""

    def changed(self, body: Json) -> Iterator[str]: ...

    def finished(self, body: Json) -> Iterator[str]: ...


class TextTeller:
    """One line an event: the experiment's name, the time since its start, the event, its message."""

    def __init__(self, key: Key, width: int) -> None:
        self._key = key
        self._width = width
        self._told, self._number = 0, ""
        self._waiting_for = ""

    def changed(self, body: Json) -> Iterator[str]:
        status = body.get("status") or {}
        timeline = status.get("timeline") or []
        self._told, self._number = _known(status, self._told, self._number)
        for event in timeline[self._told :]:
            yield self._line(event["elapsedMilliseconds"] / 1000, event["event"], event.get("message", ""))
        self._told = len(timeline)
        waiting_for = status.get("message", "")
        if not timeline and waiting_for and waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            yield self._line(0.0, status.get("phase", "Pending"), waiting_for)

    def finished(self, body: Json) -> Iterator[str]:
        yield ""
        yield from summary(Subject.of(body))

    def _line(self, elapsed: float, event: str, message: str) -> str:
        run = f" {self._number}" if self._number else ""
        return f"{self._key.name:<{self._width}}{run} {elapsed:7.1f} s  {event:<12} {message}".rstrip()


class JsonTeller:
    """One JSON object a line: `type` is event or finished."""

    def __init__(self, key: Key) -> None:
        self._key = key
        self._told, self._number = 0, ""

    def changed(self, body: Json) -> Iterator[str]:
        status = body.get("status") or {}
        timeline = status.get("timeline") or []
        self._told, self._number = _known(status, self._told, self._number)
        for event in timeline[self._told :]:
            yield self._line("event", event)
        self._told = len(timeline)

    def finished(self, body: Json) -> Iterator[str]:
        status = body["status"]
        yield self._line("finished", {"verdict": status.get("verdict"), "status": status})

    def _line(self, type_: str, content: Json) -> str:
        number = self._number.partition("/")[0].replace(REFERENCE, str(run_names.REFERENCE))
        run = {"run": int(number)} if number else {}
        record = {"type": type_, "namespace": self._key.namespace, "experiment": self._key.name, "uid": self._key.uid}
        return json.dumps(record | run | content, ensure_ascii=False)


def _known(status: Json, told: int, number: str) -> tuple[int, str]:
    """How many lines of this run's timeline have been told, and which run it is: each of several begins a new one."""
    reference = status.get("reference")
    if reference is not None and not reference.get("over"):
        return told, REFERENCE
    now = str((status.get("runs") or {}).get("told") or number.replace(REFERENCE, ""))
    return told if number in ("", now) else 0, now


def teller(output: Output, key: Key, width: int) -> Teller:
    return JsonTeller(key) if output is Output.JSON else TextTeller(key, width)
