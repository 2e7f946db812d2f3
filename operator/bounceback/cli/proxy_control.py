"""What the control API of `bounceback proxy` speaks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, Final

from bounceback.api.problems import dotted
from bounceback.cli.proxy_course import Faults, Source
from bounceback.cli.proxy_file import NO_COMMAND, Protocol, ProxyListener, fault_of
from bounceback.proxy.control import Controlled, RefusedError

Json = dict[str, Any]
MOST: Final = 100
OF_THE_FILE: Final = "is a fault of the file: change it there"
NO_FILES: Final = "must be unset here, or the fault one of the file: no files are opened for who asks by HTTP"


class Control(Controlled):
    def __init__(
        self,
        faults: Faults,
        listeners: Iterable[ProxyListener],
        known: Mapping[str, Protocol],
        addresses: Mapping[str, tuple[str, int]],
        counters: Callable[[], Json],
        apply: Callable[[], None],
        may_kill: bool,
    ) -> None:
        """`known` are all listeners, that of a cluster too; `apply` brings into force what is due now."""
        self._faults = faults
        self._listeners = tuple(listeners)
        self._known = known
        self._addresses = addresses
        self._counters = counters
        self._apply = apply
        self._may_kill = may_kill

    def listing(self) -> Json:
        now = monotonic()
        return {
            "listeners": [
                {
                    **listener.to_json(),
                    "host": self._addresses[listener.name][0],
                    "port": self._addresses[listener.name][1],
                }
                for listener in self._listeners
            ],
            "faults": [
                {**taken.fault.to_json(), "source": taken.source, "inForce": bool(taken.now(now)[0])}
                for taken in self._faults.taken.values()
            ],
        }

    def counters(self) -> Json:
        return self._counters()

    def put(self, name: str, fault: Json) -> bool:
        self._is_ours(name)
        if fault.get("name", name) != name:
            raise RefusedError(400, {"name": f"must be {name}, as in the path, or unset"})
        found, problems = fault_of({**fault, "name": name}, self._known)
        if found is None:
            raise RefusedError(400, {dotted(problem.path): problem.message for problem in problems})
        if found.kills and not self._may_kill:
            raise RefusedError(400, {f"{found.fault.kind}.crash": NO_COMMAND})
        if found.authority is not None:
            raise RefusedError(400, {f"{found.fault.kind}.authority": NO_FILES})
        new = name not in self._faults.taken
        if new and len(self._faults.taken) >= MOST:
            raise RefusedError(409, {"": f"must be at most {MOST} faults"})
        self._faults.put(found, monotonic())
        self._apply()
        return new

    def remove(self, name: str) -> None:
        self._is_ours(name)
        if name not in self._faults.taken:
            raise RefusedError(404, {"name": f"must be one of: {', '.join(self._faults.taken) or '(there is none)'}"})
        self._faults.remove(name)
        self._apply()

    def _is_ours(self, name: str) -> None:
        taken = self._faults.taken.get(name)
        if taken is not None and taken.source is Source.FILE:
            raise RefusedError(409, {"name": OF_THE_FILE})
