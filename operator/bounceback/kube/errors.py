"""What the API server answers when it does not do as asked."""

from __future__ import annotations

import json
from typing import Any


class KubeError(Exception):
    """An answer of 400 or above, with the parts of its Status body (meta/v1) that callers decide by."""

    def __init__(self, status: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}

    @classmethod
    def from_body(cls, status: int, body: bytes) -> KubeError:
        try:
            data = json.loads(body)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            return cls(status, "", body[:500].decode(errors="replace"))
        return cls(status, data.get("reason") or "", data.get("message") or "", data.get("details"))

    @property
    def gone(self) -> bool:
        """The object is not there, says a server that serves its kind."""
        return self.status == 404 and self.reason == "NotFound"

    @property
    def unserved(self) -> bool:
        """Nothing is served at that place: no such kind, or not yet, while the server starts. No word on the object."""
        return self.status == 404 and self.reason != "NotFound"

    @property
    def conflict(self) -> bool:
        """Somebody else wrote first."""
        return self.status == 409 and self.reason != "AlreadyExists"

    @property
    def exists(self) -> bool:
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def passing(self) -> bool:
        """It may well be otherwise the next time: too many requests, or the server's own trouble."""
        return self.status == 429 or self.status >= 500


class WatchGoneError(Exception):
    """The watch cannot go on from its resourceVersion: list again (410, as a status or as an event)."""
