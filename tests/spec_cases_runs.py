"""Repeated runs: how many, and how many of them must pass."""

from __future__ import annotations

from typing import Final

from tests.spec_case import Case, having

RUNS: Final = (
    Case(
        "repeated runs",
        "FaultExperiment",
        having(runs={"count": 35, "seed": 7, "requiredSuccessPercent": 90, "confidencePercent": 95}),
    ),
    Case(
        "too little time for all runs",
        "FaultExperiment",
        having(runs={"count": 3}, deadlineSeconds=105),
        "deadlineSeconds must be above the time that the faults",
        "spec.deadlineSeconds",
    ),
    Case(
        "no run at all",
        "FaultExperiment",
        having(runs={"count": 0}),
        "must be a whole number from 1 to 400; found 0",
        "spec.runs.count",
        "should be greater than or equal to 1",
    ),
    Case(
        "every run there ever will be",
        "FaultExperiment",
        having(runs={"count": 400, "requiredSuccessPercent": 100}, deadlineSeconds=100_000),
        "must be a whole number from 1 to 99; found 100",
        "spec.runs.requiredSuccessPercent",
        "should be less than or equal to 99",
    ),
)
