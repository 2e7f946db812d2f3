"""An operator that follows a script: it writes to experiments what a run would have brought, step by step."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Final

from bounceback.cli.cluster import EXPERIMENTS, Cluster
from tests.run_parts import Json

STEP: Final = 0.15
"""Seconds between two steps."""
LONGEST: Final = 60.0


class ScriptedOperator:
    """Plays one status out, a timeline entry at a time; with `hold` it waits for the cancel before the last one."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, status: Json, *, hold: bool = False) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._status = copy.deepcopy(status)
        self._hold = hold
        self._thread = threading.Thread(target=self._play, daemon=True)
        self.at_step: Callable[[int], None] = lambda step: None

    def __enter__(self) -> ScriptedOperator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(LONGEST)
        assert not self._thread.is_alive(), "the script was not played to its end"

    def _play(self) -> None:
        self._wait(lambda body: body is not None)
        timeline = self._status["timeline"]
        for step in range(1, len(timeline)):
            part = {"startedAt": self._status["startedAt"], "timeline": timeline[:step]}
            self._write({**part, "phase": timeline[step - 1]["event"], "message": timeline[step - 1]["message"]})
            self.at_step(step)
            time.sleep(STEP)
        if self._hold:
            self._wait(lambda body: body is None or body["spec"]["cancel"])
        self._write(self._status)

    def _write(self, status: Json) -> None:
        self._cluster.patch(EXPERIMENTS, self._namespace, self._name, {"status": status}, subresource="status")

    def _wait(self, condition: Callable[[Json | None], bool]) -> None:
        deadline = time.monotonic() + LONGEST
        while not condition(self._cluster.get(EXPERIMENTS, self._namespace, self._name)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
