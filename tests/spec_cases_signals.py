"""Good and bad faults on processes and on pods that have to go, for the table of spec_cases: name, the fault's entry,
message, field, and what the API server says where its words are not ours."""

from __future__ import annotations

from typing import Any, Final

from bounceback.api.experiment import ROUNDS_CHOOSE
from bounceback.faults.base import NO_PATTERN
from bounceback.faults.process_signal import FREEZE_IS_LONG, NOT_FROZEN
from bounceback.faults.repeated import RANGE

Row = tuple[Any, ...]
_TURNS: Final = {"pattern": {"onOff": {"onMilliseconds": 500, "offMilliseconds": 500}}}


def _signal(name: str, **fields: Any) -> dict[str, Any]:
    return {"processSignal": {"signal": name, **fields}}


SIGNALS: Final[tuple[Row, ...]] = (
    ("a container that stands still in turns", _signal("Freeze", container="web") | _TURNS, "", ""),
    ("a signal by name and port", _signal("TERM", process="nginx", port=80), "", ""),
    ("a signal at random", _signal("KILL", port=80, everySeconds=2, upToSeconds=10) | {"seed": 3}, "", ""),
    ("a kill that follows", {"containerKill": {}, "followReplacements": True}, "", ""),
    ("an eviction whatever budgets say", {"podEvict": {"respectBudgets": False, "everySeconds": 5}}, "", ""),
    ("a deletion that follows", {"podDelete": {}, "followReplacements": True}, "", ""),
    ("a signal of no kind", {"processSignal": {}}, "must be given", ".processSignal.signal", "Required value"),
    ("a signal that is not offered", _signal("SEGV"), "must be one of", ".processSignal.signal", "Unsupported value"),
    ("a freeze that is repeated", _signal("Freeze", everySeconds=5), FREEZE_IS_LONG, ".processSignal.everySeconds"),
    ("a range without a beginning", _signal("HUP", upToSeconds=5), RANGE, ".processSignal.upToSeconds"),
    ("a range upside down", {"podDelete": {"everySeconds": 9, "upToSeconds": 5}}, RANGE, ".podDelete.upToSeconds"),
    ("a signal in a pattern", _signal("USR1") | _TURNS, NO_PATTERN.format(NOT_FROZEN), ".pattern"),
    ("a kill in a pattern", {"containerKill": {}} | _TURNS, NO_PATTERN.format("containerKill"), ".pattern"),
    ("an eviction in a pattern", {"podEvict": {}} | _TURNS, NO_PATTERN.format("podEvict"), ".pattern"),
    ("rounds that follow", {"podEvict": {"everySeconds": 5}, "followReplacements": True}, ROUNDS_CHOOSE,
     ".followReplacements"),
    ("a signal by sidecar", _signal("INT") | {"vehicle": "Sidecar"}, "vehicle must be Auto or NodePod", ".vehicle"),
    ("a process' name with a slash", _signal("USR2", process="bin/sh"), "must be text of 1 to 15 characters",
     ".processSignal.process", "should match"),
)  # fmt: skip
