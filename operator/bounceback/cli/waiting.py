"""Waiting for experiments to finish: progress, Ctrl-C, and a time limit."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bounceback.cli.cluster import EXPERIMENTS, Cluster
from bounceback.cli.exits import ERROR, INCONCLUSIVE, INTERRUPTED, CommandError, gravest, of_status
from bounceback.cli.follow import Changed, Follower, Gone, Key, Lost, is_finished
from bounceback.cli.progress import Output, Teller, teller

Json = dict[str, Any]


def cancel(cluster: Cluster, key: Key) -> None:
    """Ask for the end of the run; the operator clears, checks and reports."""
    body = {"metadata": {"uid": key.uid}, "spec": {"cancel": True}}
    cluster.patch(EXPERIMENTS, key.namespace, key.name, body)


class Waiting:
    """One wait for some experiments. `cancelled` says whether the user gave up on them."""

    def __init__(
        self, cluster: Cluster, keys: Sequence[Key], output: Output, *, timeout: float | None = None, keep: bool = False
    ) -> None:
        self._cluster = cluster
        self._tellers: Mapping[Key, Teller] = {key: teller(output, key, max(len(k.name) for k in keys)) for key in keys}
        self._codes: dict[Key, int] = {}
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._keep = keep
        self.cancelled = False

    def run(self) -> int:
        """The exit code."""
        follower = Follower(self._cluster, self._tellers)
        while self._open:
            try:
                self._step(follower)
            except KeyboardInterrupt:
                if not self._interrupted():
                    _say(f"left as it is: {', '.join(map(str, self._open))}")
                    return INTERRUPTED
        return gravest(self._codes.values())

    def _interrupted(self) -> bool:
        """Whether to go on: not the second time, which may come before the first is through."""
        if self.cancelled:
            return False
        try:
            self._cancel("cancelling; press Ctrl-C again to leave")
        except KeyboardInterrupt:
            return False
        return True

    @property
    def _open(self) -> list[Key]:
        return [key for key in self._tellers if key not in self._codes]

    def _step(self, follower: Follower) -> None:
        left = None if self._deadline is None else self._deadline - time.monotonic()
        match follower.next(left):
            case Changed(key, body):
                self._print(self._tellers[key].changed(body))
                if is_finished(body):
                    self._print(self._tellers[key].finished(body))
                    self._codes[key] = of_status(body["status"])
            case Gone(key):
                _say(f"{key} was deleted while it ran")
                self._codes[key] = ERROR
            case Lost(key, why, final):
                _say(f"{key} cannot be followed: {why}" if final else f"{key} is out of sight, trying again: {why}")
                if final:
                    self._codes[key] = ERROR
            case None:
                self._time_is_up()

    def _time_is_up(self) -> None:
        self._deadline = None
        if self._keep:
            _say(f"not finished within --timeout; left running: {', '.join(map(str, self._open))}")
            self._codes.update(dict.fromkeys(self._open, INCONCLUSIVE))
        else:
            self._cancel("not finished within --timeout: cancelling")

    def _cancel(self, why: str) -> None:
        self.cancelled = True
        _say(why)
        for key in self._open:
            try:
                cancel(self._cluster, key)
            except CommandError as error:
                _say(f"{key} could not be cancelled: {error}")

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            print(line, flush=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
