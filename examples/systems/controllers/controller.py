"""A small controller: a ConfigMap labelled `series` gets children 1 to `steps`, each once the one before it is seen.

It ends by itself: with 0 once all is as it should be, with 1 where it is not, or not within --seconds. --flaw takes one
of its promises away, as the table in docs/examples.md says.
"""

import argparse
import random
import signal
import sys
import time
from typing import NoReturn

from api import LOST, ApiError, ConfigMaps, Json

FLAWS = ("counting", "duplicates", "fragile", "half-done", "hot", "impatient", "old-token", "streaming", "trusting")
SELECTED = {"labelSelector": "series"}
WATCH_SECONDS = 4
SILENT_SECONDS = 6.0
"""A watch must end by itself before that: nothing within it means that nobody is there."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
PACE = 0.1
"""Seconds that a step takes."""


class Controller:
    def __init__(self, namespace: str, flaw: str) -> None:
        self._api = ConfigMaps(namespace)
        self._flaw = flaw
        self._cache: dict[str, Json] = {}
        self._version = ""
        self._created = self._marked = 0  # since it listed: its cache need not know yet
        self._added = 0
        self._failures = 0

    def run(self) -> None:
        """Until all is there, as a fresh list says."""
        while True:
            try:
                if not self._version or self._flaw != "trusting":
                    self._list()
                self._work()
                began = time.monotonic()
                if not self._is_done():
                    self._follow()
                if self._is_done():
                    self._list()
                    return self._audit()
                if time.monotonic() - began < 1:
                    self._pause(None)  # an orderly end, but too soon
            except (ApiError, *LOST) as error:
                if self._flaw == "fragile":
                    raise
                print(f"{type(error).__name__}: {error}"[:200], file=sys.stderr)
                code = getattr(error, "code", 0)
                if code == 401 and self._flaw != "old-token":
                    self._api.login()
                self._pause(getattr(error, "retry_after", None))

    def _pause(self, told: float | None) -> None:
        """As long as it was told, or else longer each time, and not in step with others."""
        self._failures += 1
        if self._flaw == "hot":
            return
        if told is None or self._flaw == "impatient":
            told = min(FIRST_PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE)
        time.sleep(told * random.uniform(1, 1.1))

    def _list(self) -> None:
        if self._flaw == "streaming":
            found, version = self._streamed()
        else:
            answer = self._api.call("GET", **SELECTED)
            found, version = answer["items"], answer["metadata"]["resourceVersion"]
        self._cache = {each["metadata"]["name"]: each for each in found}
        self._version = version
        self._created = self._marked = 0
        self._added = len(self._cache) - 1

    def _streamed(self) -> tuple[list[Json], str]:
        """The initial state by a watch; the bookmark after it says that it is complete."""
        query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
        found = []
        for event in self._api.watch(SILENT_SECONDS, timeoutSeconds=str(WATCH_SECONDS), **SELECTED, **query):
            if event["type"] == "BOOKMARK":
                return found, event["object"]["metadata"]["resourceVersion"]
            found.append(event["object"])
        raise ConnectionError("it ended before all was there")

    def _follow(self) -> None:
        """One watch."""
        silence = None if self._flaw == "trusting" else SILENT_SECONDS
        query = {"resourceVersion": self._version, "allowWatchBookmarks": "true"}
        for event in self._api.watch(silence, timeoutSeconds=str(WATCH_SECONDS), **SELECTED, **query):
            self._take(event["type"], event["object"])
            self._work()
            if self._is_done():
                return

    def _take(self, kind: str, found: Json) -> None:
        name, version = found["metadata"].get("name", ""), found["metadata"]["resourceVersion"]
        self._added += kind == "ADDED"
        self._version = version if self._flaw == "trusting" else max(self._version, version, key=int)
        known = self._cache.get(name)
        old = known is not None and int(version) < int(known["metadata"]["resourceVersion"])
        if kind == "DELETED":
            self._cache.pop(name, None)
        elif kind != "BOOKMARK" and (self._flaw == "trusting" or not old):
            self._cache[name] = found

    # What it is for

    def _state(self) -> tuple[Json | None, int, int, list[int]]:
        """The parent, how many steps it wants and has on record, and those that are there."""
        parent = next((each for each in self._cache.values() if "steps" in each["data"]), None)
        there = sorted(int(each["data"]["step"]) for each in self._cache.values() if "step" in each["data"])
        data = parent["data"] if parent is not None else {"steps": 0}
        return parent, int(data["steps"]), int(data.get("made", 0)), there

    def _work(self) -> None:
        parent, steps, made, there = self._state()
        if parent is None:
            return
        last = next(n for n in range(steps + 1) if n + 1 not in there)
        if self._flaw == "counting":
            last = self._added
        if self._flaw == "half-done":
            last = made
        step = last + 1
        if step <= steps and step > self._created:
            time.sleep(PACE)
            if self._flaw == "half-done":
                self._mark(parent, step)
            self._create(parent, step)
            self._created = step
        if made < last and self._marked < last:
            self._mark(parent, last)
        self._failures = 0

    def _create(self, parent: Json, step: int) -> None:
        """Its name says which one it is: what was done already is refused, however often it is asked for."""
        series, metadata = parent["metadata"]["name"], parent["metadata"]
        name = {"generateName": f"{series}-{step}-"} if self._flaw == "duplicates" else {"name": f"{series}-{step}"}
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": series, "uid": metadata["uid"]}
        body = {"metadata": {**name, "labels": {"series": series}, "ownerReferences": [owner]}}
        try:
            self._api.call("POST", body={**body, "data": {"step": str(step)}})
        except LOST:
            if self._flaw != "duplicates":
                raise  # was it done? The next list tells
            self._create(parent, step)
        except ApiError as error:
            if error.code != 409 or self._flaw != "trusting":
                raise  # nor is anybody believed who says that it exists
            metadata = {**body["metadata"], "resourceVersion": self._version}
            self._cache[f"{series}-{step}"] = {"metadata": metadata, "data": {"step": str(step)}}

    def _mark(self, parent: Json, step: int) -> None:
        self._api.call("PATCH", parent["metadata"]["name"], {"data": {"made": str(step)}})
        self._marked = step

    def _is_done(self) -> bool:
        parent, steps, made, there = self._state()
        return parent is not None and made >= steps and (len(there) >= steps or self._flaw == "half-done")

    def _audit(self) -> None:
        _, steps, _, there = self._state()
        if there != list(range(1, steps + 1)):
            sys.exit(f"{steps} steps were to be there once each; there are: {there}")


def late(*_: object) -> NoReturn:
    sys.exit("it is not done in time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="default")
    parser.add_argument("--flaw", choices=FLAWS, default="")
    parser.add_argument("--seconds", type=int, default=20, help="time that it has")
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, late)
    signal.alarm(options.seconds)
    Controller(options.namespace, options.flaw).run()
