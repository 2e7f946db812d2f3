"""Good and bad faults that use up space, descriptors and sockets, or damage files, for the table of spec_cases: name,
the fault's entry, message, field, and what the API server says where its words are not ours."""

from __future__ import annotations

from typing import Any, Final

from bounceback.faults.clock_skew import NO_SKEW
from bounceback.faults.disk_pressure import KEEP_WITH, LEVELS
from bounceback.faults.file_descriptor_pressure import LIMITS
from bounceback.faults.file_fault import KEEP_WITH as KEEP_BYTES_WITH
from bounceback.faults.file_fault import PERCENT_WITH
from bounceback.faults.inside import NOT_BY_CHANCE
from bounceback.faults.io_fault import JITTER_FITS
from bounceback.faults.socket_pressure import SORTS

Row = tuple[Any, ...]
_PATH: Final = "must be text of {} to 1024 characters: a"


def _once(fields: tuple[str, ...]) -> str:
    return f"exactly one of {', '.join(fields)} must be given"


def _disk(**fields: Any) -> dict[str, Any]:
    return {"diskPressure": {"path": "/data", **fields}}


def _file(**fields: Any) -> dict[str, Any]:
    return {"fileFault": {"path": "/data/orders", **fields}}


def _slow(**fields: Any) -> dict[str, Any]:
    return {"ioDelay": {"path": "/data", "delayMilliseconds": 200, **fields}}


def _descriptors(**fields: Any) -> dict[str, Any]:
    return {"fileDescriptorPressure": fields}


def _sockets(**fields: Any) -> dict[str, Any]:
    return {"socketPressure": fields}


SCARCE: Final[tuple[Row, ...]] = (
    ("a disk that is full", _disk(freeBytes=0, keep=True, leaveBytes=1024, container="store"), "", ""),
    (
        "a disk that is filled to a share",
        {**_disk(freePercent=5), "pattern": {"ramp": {"fromPercent": 10, "toPercent": 100, "steps": 4}}},
        "",
        "",
    ),
    ("a disk that is filled by an amount", _disk(amountBytes=1), "", ""),
    ("a disk without a level", _disk(), _once(LEVELS), ".diskPressure"),
    ("a disk with two levels", _disk(freeBytes=1, freePercent=1), _once(LEVELS), ".diskPressure"),
    ("an amount that is kept", _disk(amountBytes=1, keep=True), KEEP_WITH, ".diskPressure.keep"),
    (
        "a path that is not one",
        {"diskPressure": {"path": "data", "amountBytes": 1}},
        _PATH.format(1),
        ".diskPressure.path",
        "should match",
    ),
    ("a file that is corrupt", {**_file(damage="Corrupt", corruptPercent=1), "seed": 7}, "", ""),
    ("a file that is cut short", _file(damage="Truncate", keepBytes=0), "", ""),
    ("a file that is old", _file(damage="Stale"), "", ""),
    ("a file that is gone", _file(damage="Remove"), "", ""),
    ("a corrupt file without a share", _file(damage="Corrupt"), PERCENT_WITH, ".fileFault.corruptPercent"),
    (
        "a share of a file that is gone",
        _file(damage="Remove", corruptPercent=5),
        PERCENT_WITH,
        ".fileFault.corruptPercent",
    ),
    ("bytes kept of a file that is gone", _file(damage="Remove", keepBytes=5), KEEP_BYTES_WITH, ".fileFault.keepBytes"),
    (
        "a damage that is none",
        _file(damage="Burn"),
        "must be one of Corrupt, Truncate, Stale, Remove",
        ".fileFault.damage",
        "supported values",
    ),
    (
        "a folder for a file",
        {"fileFault": {"path": "/data/", "damage": "Remove"}},
        _PATH.format(2),
        ".fileFault.path",
        "should match",
    ),
    (
        "a slow disk",
        {
            **_slow(jitterMilliseconds=200, operations=["Read"], container="store"),
            "probability": 10,
            "pattern": {"ramp": {"fromPercent": 10, "toPercent": 100, "steps": 4}},
        },
        "",
        "",
    ),
    ("a bad disk", {"ioError": {"path": "/data/orders", "error": "ENOSPC"}, "nth": 2, "firstN": 10}, "", ""),
    ("a delay that could begin earlier", _slow(jitterMilliseconds=201), JITTER_FITS, ".ioDelay.jitterMilliseconds"),
    (
        "writes, about which nobody is asked",
        _slow(operations=["Open", "Write"]),
        "must be one of Open, Read",
        ".ioDelay.operations[1]",
        "supported values",
    ),
    (
        "an error that no kernel answers",
        {"ioError": {"path": "/data", "error": "EACCES"}},
        "must be one of EIO, EPERM, ENOSPC, EDQUOT, EBUSY, EAGAIN",
        ".ioError.error",
        "supported values",
    ),
    (
        "a slow disk at a path that is not one",
        {"ioDelay": {"path": "data", "delayMilliseconds": 1}},
        _PATH.format(1),
        ".ioDelay.path",
        "should match",
    ),
    ("few open files", _descriptors(limit=64, process="nginx", port=80, container="web"), "", ""),
    ("no open file more", _descriptors(leave=0), "", ""),
    ("no limit of open files", _descriptors(), _once(LIMITS), ".fileDescriptorPressure"),
    ("two limits of open files", _descriptors(limit=1, leave=1), _once(LIMITS), ".fileDescriptorPressure"),
    ("a clock that is behind", {"clockSkew": {"offsetSeconds": -60, "container": "web", "process": "java"}}, "", ""),
    (
        "a clock that drifts more and more",
        {
            "clockSkew": {"driftPartsPerMillion": 500},
            "pattern": {"ramp": {"fromPercent": 10, "toPercent": 100, "steps": 4}},
        },
        "",
        "",
    ),
    ("a clock that is right", {"clockSkew": {"container": "web"}}, NO_SKEW, ".clockSkew.offsetSeconds"),
    (
        "a clock that goes backwards",
        {"clockSkew": {"driftPartsPerMillion": -1_000_000}},
        "must be a whole number from -900000 to 10000000",
        ".clockSkew.driftPartsPerMillion",
        "should be greater than or equal to -900000",
    ),
    ("a storm of connections", _sockets(connections={"port": 80, "count": 10_000, "perSecond": 500}), "", ""),
    ("no ephemeral ports", _sockets(ephemeralPorts={}), "", ""),
    ("a backlog that is full", _sockets(backlog={"port": 80, "size": 4}), "", ""),
    ("no sort of sockets", _sockets(), _once(SORTS), ".socketPressure"),
    ("two sorts of sockets", _sockets(ephemeralPorts={}, backlog={"port": 80}), _once(SORTS), ".socketPressure"),
    (
        "a storm that is too great",
        _sockets(connections={"port": 80, "count": 10_001}),
        "must be a whole number from 1 to 10000",
        ".socketPressure.connections.count",
        "should be less than or equal to 10000",
    ),
    *(
        (f"{kind} by chance", {kind: fault[kind], field: value}, NOT_BY_CHANCE.format(kind), ".probability")
        for kind, fault in (
            ("diskPressure", _disk(freeBytes=0)),
            ("fileFault", _file(damage="Stale")),
            ("fileDescriptorPressure", _descriptors(leave=0)),
            ("socketPressure", _sockets(ephemeralPorts={})),
            ("clockSkew", {"clockSkew": {"offsetSeconds": 1}}),
        )
        for field, value in (("probability", 50), ("nth", 2), ("firstN", 1))
    ),
    (
        "a disk by a sidecar",
        {**_disk(freeBytes=0), "vehicle": "Sidecar"},
        "vehicle must be Auto or NodePod for diskPressure",
        ".vehicle",
    ),
)
