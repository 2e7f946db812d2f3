"""What the operator is told by its surroundings; the chart sets these variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    namespace: str  # its own: NodePods, journal, lease and freeze live here
    identity: str  # this replica's name
    image: str  # of the agents: the operator's own
    pull_policy: str
    watch_namespaces: tuple[str, ...]  # empty: all
    own_addresses: tuple[str, ...]  # its probes come from here: never touched by a fault
    metrics_port: int
    runs_at_once: int

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises ValueError naming the variable that is wrong."""

        def number(name: str, default: int) -> int:
            text = environment.get(name, str(default))
            if not text.isdigit():
                raise ValueError(f"{name} must be a whole number, not {text!r}")
            return int(text)

        def several(name: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in environment.get(name, "").split(",") if part.strip())

        return cls(
            namespace=environment.get("BOUNCEBACK_NAMESPACE", "bounceback-system"),
            identity=environment.get("BOUNCEBACK_POD_NAME") or environment.get("HOSTNAME", "operator"),
            image=environment.get("BOUNCEBACK_IMAGE", "bounceback:dev"),
            pull_policy=environment.get("BOUNCEBACK_IMAGE_PULL_POLICY", "IfNotPresent"),
            watch_namespaces=several("BOUNCEBACK_WATCH_NAMESPACES"),
            own_addresses=several("POD_IPS") or several("POD_IP"),
            metrics_port=number("BOUNCEBACK_METRICS_PORT", 8080),
            runs_at_once=number("BOUNCEBACK_RUNS_AT_ONCE", 100),
        )
