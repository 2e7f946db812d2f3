"""Prometheus metrics; docs/metrics.md says what each means."""

from __future__ import annotations

import math
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram, Summary

from bounceback.api.check_status import ContinuousStatus, Watched
from bounceback.api.workload_status import WorkloadStatus

RUNS = Counter("bounceback_runs_total", "Finished runs by verdict.", ["verdict"])
REPEATED = Counter("bounceback_repeated_total", "Experiments with repeated runs, by the verdict over all.", ["verdict"])
RUNNING = Gauge("bounceback_runs_running", "Runs that this replica is taking through their steps.")
WAITING = Gauge("bounceback_runs_waiting", "Runs that wait for a place.")
INJECTIONS = Counter("bounceback_injections_total", "Injections by the state that they reached.", ["state"])
REPAIRS = Counter("bounceback_repairs_total", "Repairs of expect: Manual by how they ended.", ["state"])
WORKLOADS = Counter("bounceback_workloads_total", "Workloads of runs that are over, by result.", ["result"])
OPERATIONS = Counter("bounceback_workload_operations_total", "Writes of these, by what is known of them.", ["outcome"])
FLAWS = Counter("bounceback_workload_flaws_total", "What was found of them that must not be.", ["flaw"])
RECOVERY_SECONDS = Histogram(
    "bounceback_recovery_seconds",
    "From cleared to recovered (with expect: Manual from when the repair began), for runs that recovered.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600),
)
STEP_SECONDS = Histogram(
    "bounceback_step_seconds",
    "One step of a run: decide, write down, hand out duties.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
EVIDENCE = Counter("bounceback_evidence_total", "Evidence of runs by what became of it.", ["state"])
EVIDENCE_BYTES = Counter("bounceback_evidence_bytes_total", "What was written of it, compressed.")
EVIDENCE_GIVEN_UP = Counter("bounceback_evidence_given_up_total", "Evidence of older runs that was deleted for newer.")
WATCH_RESTARTS = Counter(
    "bounceback_watch_restarts_total", "Times that watching was started again, by cause.", ["cause"]
)
LEADING = Gauge("bounceback_leading", "1 while this replica leads.")
API_REQUESTS = Counter("bounceback_api_requests_total", "Requests to the Kubernetes API.", ["method", "code"])

CHECK = ("namespace", "check")
CHECKS_WATCHED = Gauge("bounceback_checks_watched", "Checks that watch by themselves now.")
CHECK_UP = Gauge("bounceback_check_up", "1 while the system is up, 0 while it is down, NaN while unknown.", CHECK)
CHECK_AVAILABILITY = Gauge(
    "bounceback_check_availability_ratio", "Up of the known time of the window; the middle of the interval.", CHECK
)
CHECK_SECONDS = Counter("bounceback_check_seconds_total", "Time by what is known of it.", [*CHECK, "state"])
OUTAGES = Counter("bounceback_outages_total", "Outages that are over.", [*CHECK, "cause"])
OUTAGE_SECONDS = Summary("bounceback_outage_seconds", "First symptom to recovered, of outages that are over.", CHECK)
OUTAGE_DETECTION_SECONDS = Summary(
    "bounceback_outage_detection_seconds", "First symptom to detected by a signal of the system's own.", CHECK
)
STATES = {
    "Up": "up_milliseconds",
    "Down": "down_milliseconds",
    "Uncertain": "uncertain_milliseconds",
    "Unknown": "unknown_milliseconds",
}


def count_check(namespace: str, check: str, before: ContinuousStatus | None, after: ContinuousStatus) -> None:
    """What has been seen between the two."""
    labels = (namespace, check)
    CHECK_UP.labels(*labels).set({Watched.UP: 1.0, Watched.DOWN: 0.0}.get(after.state, math.nan))
    if after.window is not None and after.window.known:
        window = after.window
        CHECK_AVAILABILITY.labels(*labels).set(
            (window.up_milliseconds + window.uncertain_milliseconds / 2) / window.known
        )
    for state, field in STATES.items():
        grown = getattr(after.totals, field) - (getattr(before.totals, field) if before else 0)
        CHECK_SECONDS.labels(*labels, state).inc(max(0, grown) / 1000)
    for outage in after.outages[: after.totals.ended - (before.totals.ended if before else 0)]:
        OUTAGES.labels(*labels, "Experiment" if outage.experiments else "Unknown").inc()
        if outage.lasted is not None:
            OUTAGE_SECONDS.labels(*labels).observe(outage.lasted.milliseconds / 1000)
        if outage.detection is not None:
            OUTAGE_DETECTION_SECONDS.labels(*labels).observe(outage.detection.milliseconds / 1000)


def forget_check(namespace: str, check: str) -> None:
    """Nobody looks by it any more."""
    for metric in (CHECK_UP, CHECK_AVAILABILITY, CHECK_SECONDS, OUTAGES, OUTAGE_SECONDS, OUTAGE_DETECTION_SECONDS):
        metric.remove_by_labels({"namespace": namespace, "check": check})


def count_workloads(before: Iterable[WorkloadStatus], after: Iterable[WorkloadStatus]) -> None:
    """Those that were not over before, and are now."""
    known = {each.check for each in before if each.result is not None}
    for each in after:
        if each.result is None or each.check in known:
            continue
        WORKLOADS.labels(each.result).inc()
        for outcome in ("acknowledged", "failed", "unknown"):
            OPERATIONS.labels(outcome.capitalize()).inc(getattr(each, outcome))
        for flaw in each.flaws:
            FLAWS.labels(flaw.flaw).inc(flaw.count)


def count_request(method: str, _path: str, status: int) -> None:
    API_REQUESTS.labels(method, str(status)).inc()
