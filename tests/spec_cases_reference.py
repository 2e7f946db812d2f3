"""The reference run: what is compared, and what may differ."""

from __future__ import annotations

from typing import Any, Final

from bounceback.api.reference_run import NEVER_COMPARED, OF_STATUS
from tests.spec_case import Case, Change, having

AT: Final = "spec.reference.objects[0]"


def _compared(**more: Any) -> Change:
    labels = {"matchLabels": {"app": "web"}}
    return having(reference={"objects": [{"apiVersion": "v1", "kind": "ConfigMap", "selector": labels, **more}]})


REFERENCE: Final = (
    Case(
        "a reference run",
        "FaultExperiment",
        _compared(masks=["/data/*", "/metadata/annotations/a.io~1b"], statusFields=["/status/ready"], lives=False),
    ),
    Case(
        "a reference run that compares nothing",
        "FaultExperiment",
        having(reference={"objects": []}),
        "must be a list of 1 to 10 entries",
        "spec.reference.objects",
        "should have at least 1 items",
    ),
    Case(
        "too little time for a reference run",
        "FaultExperiment",
        having(reference={"objects": [{"apiVersion": "v1", "kind": "Pod"}]}, deadlineSeconds=70),
        "deadlineSeconds must be above the time that the faults",
        "spec.deadlineSeconds",
    ),
    Case("a mask of the status", "FaultExperiment", _compared(masks=["/status"]), NEVER_COMPARED, f"{AT}.masks"),
    Case(
        "a field outside of the status",
        "FaultExperiment",
        _compared(statusFields=["/spec/replicas"]),
        OF_STATUS,
        f"{AT}.statusFields",
    ),
    Case(
        "a mask that is no pointer",
        "FaultExperiment",
        _compared(masks=["metadata"]),
        "a JSON pointer such as /spec/replicas",
        f"{AT}.masks[0]",
        "should match",
    ),
)
