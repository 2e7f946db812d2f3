"""What the probes and observations of a check need of the account, as `bounceback access` grants it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bounceback.api.check import RecoveryCheckSpec

EVENT_NEEDS: Final = frozenset({"list events", "watch events"})
LOG_NEEDS: Final = frozenset({"list pods", "get pods/log"})
EXEC_NEEDS: Final = frozenset({"list pods", "create pods/exec", "get pods/exec"})
PAGE_NEEDS: Final = frozenset({"list pods"})
JOB_NEEDS: Final = frozenset({"create jobs.batch", "get jobs.batch", "delete jobs.batch"})
PROBER_NEEDS: Final = frozenset(
    {"create pods", "get pods", "delete pods", "get pods/log", "create pods/exec", "get pods/exec"}
)
REPAIR_NEEDS: Final = JOB_NEEDS | LOG_NEEDS | {"patch jobs.batch"}


def needs_of(spec: RecoveryCheckSpec) -> frozenset[str]:
    """Written as vehicles/access.py does. Objects of other kinds are asked for when they are read."""
    return frozenset(need for needs in _needs(spec) for need in needs)


def _needs(spec: RecoveryCheckSpec) -> Iterator[frozenset[str]]:
    for _, _, probe in spec.sections():
        if probe.vantage == "Pod":
            yield PROBER_NEEDS
        if probe.event:
            yield EVENT_NEEDS
        if probe.log:
            yield LOG_NEEDS
        if probe.exec:
            yield EXEC_NEEDS
        if probe.job:
            yield JOB_NEEDS
        if probe.prometheus and probe.prometheus.pods:
            yield PAGE_NEEDS
    if spec.workload is not None:
        yield PROBER_NEEDS
    if any(observation.exec for observation in spec.observations):
        yield EXEC_NEEDS
