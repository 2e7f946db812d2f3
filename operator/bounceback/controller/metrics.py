"""Prometheus metrics; docs/metrics.md says what each means."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RUNS = Counter("bounceback_runs_total", "Finished runs by verdict.", ["verdict"])
RUNNING = Gauge("bounceback_runs_running", "Runs that this replica is taking through their steps.")
WAITING = Gauge("bounceback_runs_waiting", "Runs that wait for a place.")
INJECTIONS = Counter("bounceback_injections_total", "Injections by the state that they reached.", ["state"])
REPAIRS = Counter("bounceback_repairs_total", "Repairs of expect: Manual by how they ended.", ["state"])
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
WATCH_RESTARTS = Counter(
    "bounceback_watch_restarts_total", "Times that watching was started again, by cause.", ["cause"]
)
LEADING = Gauge("bounceback_leading", "1 while this replica leads.")
API_REQUESTS = Counter("bounceback_api_requests_total", "Requests to the Kubernetes API.", ["method", "code"])


def count_request(method: str, _path: str, status: int) -> None:
    API_REQUESTS.labels(method, str(status)).inc()
