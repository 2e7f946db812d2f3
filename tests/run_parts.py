"""Parts of which finished runs are made: moments, marks, figures, injections, as the operator writes them."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

START: Final = 1_795_000_000.0  # UTC seconds
BOOT: Final = "5d2c1f0e-8d1b-4b55-9a53-0f4a3f2b7c11"
UPTIME: Final = 93_211.417


def moment(elapsed: float, boot: str = BOOT) -> Json:
    """A reading of the clocks, so many seconds after the run's start."""
    return {
        "boot": boot,
        "nanos": round((UPTIME + elapsed) * 1e9),
        "time": rfc3339(elapsed),
        "utc": START + elapsed,
    }


def rfc3339(elapsed: float) -> str:
    from datetime import UTC, datetime

    stamp = datetime.fromtimestamp(START + elapsed, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def mark(name: str, earliest: float, latest: float | None = None, source: str = "operator") -> Json:
    return {
        "mark": name,
        "earliest": moment(earliest),
        "latest": moment(earliest if latest is None else latest),
        "source": source,
    }


def figure(least: float, most: float) -> Json:
    return {
        "milliseconds": round((least + most) * 500),
        "plusMinusMilliseconds": round((most - least) * 500),
    }


def event(elapsed: float, name: str, message: str = "") -> Json:
    return {
        "time": rfc3339(elapsed),
        "elapsedMilliseconds": round(elapsed * 1000),
        "event": name,
        "message": message,
    }


def injection(number: int, fault: str, pod: str, **fields: Any) -> Json:
    """A proven and cleared one, unless `fields` say otherwise."""
    return {
        "name": f"bbi-{number:010x}",
        "fault": fault,
        "pod": pod,
        "podUid": f"7b0d5d54-58a8-4d45-b7a5-{number:012d}",
        "node": "node-1",
        "vehicle": "Sidecar",
        "vehicleReason": "needs the fewest rights",
        "agent": f"bb-{number:010x}",
        "rung": "Netem",
        "state": "Cleared",
        "reason": "Duration",
        "hits": 642,
        "percent": 100,
        "clockOffsetMilliseconds": 0,
        "cleanup": "Clean",
        "leftovers": [],
        "startBefore": START + 66,
        "notAfter": START + 90,
        **fields,
    }


def experiment(name: str, spec: Json, status: Json) -> Json:
    counts = {
        "total": len(status.get("injections", [])),
        "planned": 0,
        "active": 0,
        "cleared": 0,
        "failed": 0,
        "hits": 0,
    }
    for each in status.get("injections", []):
        counts[each["state"].lower()] += 1
        counts["hits"] += each["hits"]
    return {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": "FaultExperiment",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": "0f7a4c8e-5b7e-4e4e-8f2a-9c1d2e3f4a5b",
            "resourceVersion": "4711",
            "generation": 1,
            "creationTimestamp": rfc3339(-0.2).replace(".800Z", "Z"),
        },
        "spec": spec,
        "status": {
            "observedGeneration": 1,
            "phase": "Finished",
            "runUid": "0f7a4c8e-5b7e-4e4e-8f2a-9c1d2e3f4a5b",
            "startedAt": moment(0),
            "injectionCounts": counts,
            **status,
        },
    }
