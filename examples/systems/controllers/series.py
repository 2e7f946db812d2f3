"""What a controller knows of its series: the ConfigMap that asks for `steps`, and those that are steps of it."""

import sys
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


class Series:
    """A cache, filled by lists and kept up to date by events, each of which may come late, twice or not at all."""

    def __init__(self, flaw: str) -> None:
        self._flaw = flaw
        self._cache: dict[str, Json] = {}
        self.version = ""
        self.begun: dict[int, str] = {}
        """Names by step, of what was made since the last list: the cache need not know it yet."""
        self.finished: set[int] = set()

    def listed(self, objects: Iterable[Json], version: str) -> None:
        """This is all there is."""
        self._cache = {each["metadata"]["name"]: each for each in objects}
        self.version = version
        self.begun, self.finished = {}, set()

    def told(self, kind: str, found: Json) -> None:
        """By an event; an older state than the one that is known changes nothing."""
        name, self.version = found["metadata"].get("name", ""), found["metadata"]["resourceVersion"]
        known = self._cache.get(name)
        is_old = known is not None and int(self.version) < int(known["metadata"]["resourceVersion"])
        if kind == "BOOKMARK":
            return
        if kind == "DELETED":
            self._cache.pop(name, None)
        elif not is_old or self._flaw == "trusting":
            self._cache[name] = found
        if self._flaw == "by-event":  # what it is told of now is where it goes on
            last = int(found["data"].get("step", 0))
            self._cache = {n: each for n, each in self._cache.items() if int(each["data"].get("step", 0)) <= last}
            self.begun = {step: n for step, n in self.begun.items() if step <= last}

    @property
    def uid(self) -> str:
        """Of the ConfigMap that asks for it; "" while there is none."""
        return str(next((each["metadata"]["uid"] for each in self._cache.values() if "steps" in each["data"]), ""))

    @property
    def steps(self) -> int:
        """How many there are to be."""
        return int(next((each["data"]["steps"] for each in self._cache.values() if "steps" in each["data"]), 0))

    @property
    def there(self) -> list[tuple[int, str]]:
        """Steps, each with its state: Begun or Done."""
        data = [each["data"] for each in self._cache.values() if "step" in each["data"]]
        return sorted((int(each["step"]), each["state"]) for each in data)

    @property
    def last(self) -> int:
        """Up to which step all is done."""
        if self._flaw == "half-done":
            return max((step for step, _ in self.there), default=0)
        return next(step for step in range(self.steps + 1) if (step + 1, "Done") not in self.there)

    @property
    def is_done(self) -> bool:
        return 0 < self.steps <= self.last

    def audit(self) -> None:
        """Ends the program where something is wrong."""
        if self.there != [(step, "Done") for step in range(1, self.steps + 1)]:
            sys.exit(f"each step must be there and done, once; there are: {self.there}")
