"""Which Kubernetes Events are ours, and tell nothing of the system."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.engine.naming import REPORTER, agent_name, of_ours, repair_name
from bounceback.engine.working import prober_name

AGENT = agent_name("run", "place")


def event(name: str, path: str | None = None, reporter: str = "kubelet") -> dict[str, Any]:
    about = {"kind": "Pod", "name": name} | ({"fieldPath": path} if path else {})
    return {"reportingComponent": reporter, "involvedObject": about, "reason": "Started"}


@pytest.mark.parametrize(
    "ours",
    [
        event("web-slow", reporter=REPORTER),
        event(AGENT),
        event(prober_name("run", "web")),
        event(repair_name("run")),
        event(f"{repair_name('run')}-x7k2p"),
        event("bounceback-probe-8b7c680a56-lbffd"),
        event("bb-image-0123456789"),
        event("bounceback-0123456789"),
        event("web-1", "spec.initContainers{bounceback-api-proxy}"),
        event("web-1", "spec.initContainers{bounceback-clock}"),
        event("web-1", f"spec.ephemeralContainers{{{AGENT}}}"),
        event("web-1", f"spec.ephemeralContainers{{{AGENT}-guard}}"),
    ],
    ids=str,
)
def test_what_we_tell_and_what_is_told_of_our_pods_is_ours(ours: dict[str, Any]) -> None:
    assert of_ours(ours)


@pytest.mark.parametrize(
    "theirs",
    [
        event("web-1", "spec.containers{web}"),
        event("bounceback-shop-7d9f6c5b4-x7k2p"),
        event("bb-8"),
        event("web-1", "spec.ephemeralContainers{debugger}"),
        {"reason": "Scheduled"},
        {"involvedObject": None, "reportingComponent": ""},
    ],
    ids=str,
)
def test_all_else_is_the_systems(theirs: dict[str, Any]) -> None:
    assert not of_ours(theirs)
