"""What is done to a node's kubelet. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from bounceback.types.inside import InsideAct


@dataclass(frozen=True, slots=True, kw_only=True)
class StopKubelet(InsideAct):
    """The kubelet stands still. A timer on the host lets it go on, so no guard is needed: `outlives` is False."""

    capabilities: ClassVar[tuple[str, ...]] = ("KILL", "SYS_CHROOT")  # SYS_CHROOT: to enter the host's mounts

    driver: str = field(default="kubelet", init=False)

    def scaled(self, share: float) -> StopKubelet:
        """A kubelet stands still or not: any share of it is all of it."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class StopKubeletService(InsideAct):
    """The kubelet is stopped by the node's systemd, whose own timer starts it again; a guard does so earlier."""

    capabilities: ClassVar[tuple[str, ...]] = ("SYS_CHROOT",)  # to enter the host's mounts
    outlives: ClassVar[bool] = True

    driver: str = field(default="kubelet_service", init=False)

    def scaled(self, share: float) -> StopKubeletService:
        """It is stopped or not: any share of it is all of it."""
        return self
