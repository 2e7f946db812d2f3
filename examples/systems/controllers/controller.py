"""A small controller: a ConfigMap that is a series gets children 1 to `steps`, each once the one before it is done.

It ends by itself: with 0 once all is as it should be, with 1 where it is not, or not within --seconds. --flaw takes one
of its promises away, as docs/examples.md says.
"""

import argparse
import random
import signal
import sys
import time
from typing import NoReturn

from api import LOST, ApiError, ConfigMaps, Json
from series import Series

FLAWS = ("by-event", "duplicates", "fragile", "half-done", "hot", "impatient", "old-token", "streaming", "trusting")
GENERATED = ("by-event", "duplicates")
"""Flaws that show only where children have no names of their own."""
SERIES = "greetings"
SELECTED = {"labelSelector": f"series={SERIES}"}
WATCH = {"timeoutSeconds": "4", "allowWatchBookmarks": "true", **SELECTED}
SILENT_SECONDS = 6.0
"""A watch ends by itself before that: nothing within it means that nobody is there."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0


class Controller:
    def __init__(self, options: argparse.Namespace) -> None:
        self._api = ConfigMaps(options.namespace)
        self._flaw, self._pace = options.flaw, options.pace
        self._series = Series(options.flaw)
        self._failures = 0

    def run(self) -> None:
        """Until all is there, as a fresh list says."""
        while True:
            try:
                if not self._series.version or self._flaw != "trusting":
                    self._list()
                self._work()
                if not self._series.is_done:
                    self._follow()
                if self._series.is_done:
                    self._list()
                    return self._series.audit()
                self._pause(None)
            except (ApiError, *LOST) as error:
                if self._flaw == "fragile":
                    raise
                print(f"{type(error).__name__}: {error}"[:200], file=sys.stderr)
                if getattr(error, "code", 0) == 401 and self._flaw != "old-token":
                    self._api.login()
                self._pause(getattr(error, "retry_after", None))

    def _pause(self, told: float | None) -> None:
        """As long as it was told, or else longer each time until a watch works, and not in step with others."""
        self._failures += 1
        if told is None or self._flaw == "impatient":
            told = min(FIRST_PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE)
        if self._flaw != "hot":
            time.sleep(told * random.uniform(1, 1.1))

    def _list(self) -> None:
        if self._flaw == "streaming":
            self._series.listed(*self._streamed())
        else:
            answer = self._api.call("GET", **SELECTED)
            self._series.listed(answer["items"], answer["metadata"]["resourceVersion"])

    def _streamed(self) -> tuple[list[Json], str]:
        """By a watch; the bookmark after the first events says that this is all."""
        found: list[Json] = []
        initial = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        for event in self._api.watch(SILENT_SECONDS, **WATCH, **initial):
            if event["type"] == "BOOKMARK":
                return found, event["object"]["metadata"]["resourceVersion"]
            found.append(event["object"])
        raise ConnectionError("it ended before all was there")

    def _follow(self) -> None:
        """One watch."""
        silent = None if self._flaw == "trusting" else SILENT_SECONDS
        for event in self._api.watch(silent, **WATCH, resourceVersion=self._series.version):
            self._failures = 0
            self._series.told(event["type"], event["object"])
            self._work()
            if self._series.is_done:
                return

    def _work(self) -> None:
        """Make the next step, in two writes; who was killed between them has a step that is only begun."""
        known, step = self._series, self._series.last + 1
        if step > known.steps:
            return
        there = dict(known.there)
        if step not in there and step not in known.begun:
            time.sleep(self._pace)
            known.begun[step] = self._create(step)
        if there.get(step) != "Done" and step not in known.finished:
            self._api.call("PATCH", known.begun.get(step, f"{SERIES}-{step}"), {"data": {"state": "Done"}})
            known.finished.add(step)

    def _create(self, step: int) -> str:
        """Its name says which one it is: what is there already is refused, however often it is asked for."""
        name = {"generateName": f"{SERIES}-{step}-"} if self._flaw in GENERATED else {"name": f"{SERIES}-{step}"}
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": SERIES, "uid": self._series.uid}
        metadata = {**name, "labels": {"series": SERIES}, "ownerReferences": [owner]}
        body = {"metadata": metadata, "data": {"step": str(step), "state": "Begun"}}
        try:
            return str(self._api.call("POST", "", body)["metadata"]["name"])
        except LOST:
            if self._flaw != "duplicates":
                raise  # it may have been done: the next list tells
            return self._create(step)
        except ApiError as error:
            if error.code != 409 or self._flaw != "trusting":
                raise  # nor is it taken for granted that it is there: the next list tells
            return f"{SERIES}-{step}"


def late(*_: object) -> NoReturn:
    sys.exit("it is not done in time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--flaw", choices=FLAWS, default="")
    parser.add_argument("--pace", type=float, default=0.1, help="seconds that a step takes")
    parser.add_argument("--seconds", type=int, default=20, help="time that it has")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, late)
    signal.alarm(options.seconds)
    Controller(options).run()
