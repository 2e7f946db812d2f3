"""Kinds of faults for which there is one way alone, asked for by another; and maps whose keys are too long."""

from __future__ import annotations

from typing import Final

from tests.spec_case import Case, probe, with_fault

_ON_NODE: Final = {
    "cpuPressure": {"workers": 1},
    "memoryPressure": {"percentOfLimit": 1},
    "processPressure": {"processes": 1},
    "diskPressure": {"path": "/data", "freeBytes": 1},
    "socketPressure": {"ephemeralPorts": {}},
    "fileFault": {"path": "/data/orders", "damage": "Stale"},
    "ioDelay": {"path": "/data", "delayMilliseconds": 1},
    "ioError": {"path": "/data", "error": "EIO"},
    "fileDescriptorPressure": {"leave": 1},
    "processSignal": {"signal": "TERM"},
    "containerKill": {},
    "clockSkew": {"offsetSeconds": -3600},
}
ONE_WAY: Final = (
    *(
        Case(
            f"{kind} by nft",
            "FaultExperiment",
            with_fault(**{kind: fields, "mechanism": "Nft"}),
            f"mechanism must be {way}, or unset, for {kind}",
            "spec.faults[0].mechanism",
        )
        for kind, fields, way in (
            *((kind, fields, "Node") for kind, fields in _ON_NODE.items()),
            ("podEvict", {}, "Api"),
        )
    ),
    Case(
        "an eviction by a sidecar",
        "FaultExperiment",
        with_fault(podEvict={}, vehicle="Sidecar"),
        "vehicle must be Auto or PodDelete for podEvict",
        "spec.faults[0].vehicle",
    ),
)

KEYS: Final = (
    Case(
        "a header with an endless name",
        "RecoveryCheck",
        probe(http={"url": "http://web/", "expectHeaders": {"x" * 65: "x"}}),
        "must have 1 to 64 characters",
        "spec.probes[0].http.expectHeaders",
    ),
)
