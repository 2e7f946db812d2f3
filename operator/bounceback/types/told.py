"""What an agent tells: JSON, an object a line of its standard output. The operator reads it by the kubelet (pods/log).

The log can be read again from its start by an operator that knows nothing else. Standard library only: the agent
imports this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bounceback.types.instants import Instant

AT_ONCE: Final = "Done"
"""Why an order was cleared that had no more to do, whatever was left of its time: what it is about has no length."""


class Told(StrEnum):
    """The kinds of lines that an agent writes."""

    STARTED = "started"  # the agent runs; `detail.pid`
    REFUSED = "refused"  # nothing was touched: `detail.reason`, `detail.message`
    IN_FORCE = "inForce"  # applied; `detail` says with what
    HITS = "hits"  # `hits` so far (whole numbers only grow); the first one is told within 50 ms
    FAILED = "failed"  # could not be applied, and what was begun is undone: `detail.message`
    # reverted: `detail.why` is Duration, NotAfter, Stopped, Terminated, AgentLost, GuardLost, TargetGone or Done; `at`
    # is when it hit nothing any more, which is earlier where connections have ended in peace since
    CLEARED = "cleared"
    VERIFIED = "verified"  # looked for what could be left: `detail.leftovers` (empty: clean)
    CAPABLE = "capable"  # answer of `probe`: `detail.features`, `detail.kernel`
    AMENDED = "amended"  # new flows are in force
    NOTED = "noted"  # `detail`: what it takes to undo the order, where nothing that is left tells it
    STEP = "step"  # the next part of its pattern: `detail.percent` of its strength; 0: nothing is hit
    HEARTBEAT = "heartbeat"  # every second while an order is in force
    FINISHED = "finished"  # the last line


@dataclass(frozen=True, slots=True)
class Line:
    """One line of evidence."""

    told: Told
    at: Instant
    injection: str = ""
    hits: int = 0
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        record: dict[str, Any] = {"told": self.told, "at": self.at.to_json()}
        if self.injection:
            record["injection"] = self.injection
        if self.told is Told.HITS:
            record["hits"] = self.hits
        if self.detail:
            record["detail"] = self.detail
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Line | None:
        """None for a line that is not evidence (a library's warning on standard error, a cut line)."""
        try:
            data = json.loads(text)
            return cls(
                Told(data["told"]),
                Instant.from_json(data["at"]),
                data.get("injection", ""),
                int(data.get("hits", 0)),
                data.get("detail", {}),
            )
        except (ValueError, KeyError, TypeError):
            return None
