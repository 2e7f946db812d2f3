"""Two experiments never hold the same pod at once."""

from __future__ import annotations

from collections.abc import Iterable


class Locks:
    """Pods by UID, and the experiment that holds each. Only the leader has any; it takes them anew from statuses."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}

    def take(self, holder: str, pods: Iterable[str]) -> dict[str, str]:
        """All or none: the pods that another holds, with that one's name; empty when taken."""
        wanted = set(pods)
        busy = {pod: other for pod in wanted if (other := self._holders.get(pod, holder)) != holder}
        if not busy:
            self.release(holder)
            self._holders |= dict.fromkeys(wanted, holder)
        return busy

    def take_more(self, holder: str, pods: Iterable[str]) -> dict[str, str]:
        """As `take`, beside what it holds already."""
        held = {pod for pod, other in self._holders.items() if other == holder}
        return self.take(holder, held | set(pods))

    def release(self, holder: str) -> None:
        self._holders = {pod: other for pod, other in self._holders.items() if other != holder}
