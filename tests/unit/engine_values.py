"""Values that the engine's tests are built from."""

from __future__ import annotations

from typing import Any

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import CheckCopy, FaultExperimentStatus, InjectionStatus, MarkStatus, Moment
from bounceback.engine.health import Health
from bounceback.engine.model import PodInfo
from bounceback.engine.planning import Chosen, Preparation
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import Cleanup, InjectionState, Mark, VehicleKind
from bounceback.types.plan import Flow, Rung

BOOT = "boot-1"
START = Instant(BOOT, 1_000_000_000_000, 1_700_000_000.0)


def at(seconds: float) -> Instant:
    return START.plus(seconds)


def experiment(**changes: Any) -> FaultExperimentSpec:
    spec: dict[str, Any] = {
        "targets": [{"name": "web", "pods": {"selector": {"matchLabels": {"app": "web"}}}}],
        "faults": [{"name": "cut", "target": "web", "networkPartition": {}, "durationSeconds": 10}],
        "checks": [{"name": "healthy"}],
    }
    return FaultExperimentSpec.model_validate(spec | changes)


def check(**changes: Any) -> CheckCopy:
    spec: dict[str, Any] = {"probes": [{"name": "home", "tcp": {"host": "web", "port": 80}}]}
    return CheckCopy(name="healthy", uid="c", generation=1, spec=RecoveryCheckSpec.model_validate(spec | changes))


def pod(name: str = "web-1", node: str = "n1", **changes: Any) -> PodInfo:
    values: dict[str, Any] = {
        "namespace": "shop",
        "name": name,
        "uid": f"uid-{name}",
        "node": node,
        "labels": {"app": "web"},
        "ips": ("10.0.0.1",),
        "host_network": False,
        "running": True,
        "finished_agents": 0,
        "memory_limit": None,
    }
    return PodInfo(**(values | changes))


def preparation(spec: FaultExperimentSpec, *pods: PodInfo, now: Instant = START) -> Preparation:
    chosen = tuple(
        Chosen(fault, p, VehicleKind.SIDECAR, "", Rung.NFT, (Flow("10.1.0.1/32"),))
        for fault in spec.faults
        for p in pods or (pod(),)
    )
    return Preparation(chosen, (check(),), at=now.utc)


def injection(name: str = "cut-1", **changes: Any) -> InjectionStatus:
    """Proven and clean, unless changed: in force from second 1 to 11, first hit at 1.2."""
    values: dict[str, Any] = {
        "name": name,
        "fault": "cut",
        "pod": "web-1",
        "pod_uid": "uid-web-1",
        "vehicle": VehicleKind.SIDECAR,
        "rung": Rung.NFT,
        "state": InjectionState.CLEARED,
        "hits": 100,
        "in_force_at": Moment.of(at(1)),
        "first_hit_at": Moment.of(at(1.2)),
        "cleared_at": Moment.of(at(11)),
        "clock_offset_milliseconds": 0,
        "cleanup": Cleanup.CLEAN,
    }
    return InjectionStatus.model_validate(values | changes)


def finished(checks: list[CheckCopy] | None = None, **changes: Any) -> FaultExperimentStatus:
    """A run that recovered 1.5 s after it was cleared, unless changed."""
    marks = {
        Mark.PLANNED: Interval.at(at(0)),
        Mark.ACTIVE: Interval.at(at(1.2)),
        Mark.FIRST_SYMPTOM: Interval(at(1.1), at(1.5)),
        Mark.CLEARED: Interval.at(at(11)),
        Mark.RECOVERED: Interval(at(12.4), at(12.6)),
    }
    marks |= changes.pop("marks", {})
    listed = [MarkStatus.of(mark, interval, "home") for mark, interval in marks.items() if interval is not None]
    return FaultExperimentStatus(
        checks=checks if checks is not None else [check()],
        marks=listed,
        observed={"before": {}, "after": {}},
        **changes,
    )


def health(**changes: Any) -> Health:
    from bounceback.api.status import CheckView

    values: dict[str, Any] = {
        "watching": True,
        "healthy_for": 60.0,
        "stable_seconds": 3.0,
        "views": (CheckView(name="healthy", samples=100, healthy_samples=90),),
    }
    return Health(**(values | changes))
