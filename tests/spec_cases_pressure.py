"""Good and bad faults that take what a container has little of: name, the fault's entry, message, field, and what the
schema says where its words are not ours."""

from __future__ import annotations

from typing import Any, Final

_RAMP: Final = {"ramp": {"fromPercent": 10, "toPercent": 100, "steps": 5}}
_AMOUNTS: Final = {"cpuPressure": "workers", "memoryPressure": "amountBytes", "processPressure": "processes"}

PRESSURE: Final[tuple[tuple[Any, ...], ...]] = (
    *((f"{kind} of a share", {kind: {"percentOfLimit": 80}, "pattern": _RAMP}, "", "") for kind in _AMOUNTS),
    ("two workers", {"cpuPressure": {"workers": 2, "container": "app"}, "vehicle": "NodePod"}, "", ""),
    ("memory that grows", {"memoryPressure": {"amountBytes": 10_000_000, "growthBytesPerSecond": 100_000,
      "victim": "Target"}}, "", ""),
    ("some processes", {"processPressure": {"processes": 20}}, "", ""),
    *((f"{kind} of nothing", {kind: {}}, f"exactly one of {amount}, percentOfLimit must be given", f".{kind}")
      for kind, amount in _AMOUNTS.items()),
    ("workers and a share", {"cpuPressure": {"workers": 1, "percentOfLimit": 1}},
     "exactly one of workers, percentOfLimit must be given", ".cpuPressure"),
    *((f"{kind} of more than all", {kind: {"percentOfLimit": 101}}, "must be a whole number from 1 to 100; found 101",
       f".{kind}.percentOfLimit", "less than or equal to 100") for kind in _AMOUNTS),
    ("less memory than it takes to hold it", {"memoryPressure": {"amountBytes": 1}},
     "must be", ".memoryPressure.amountBytes", "greater than or equal to 1048576"),
    ("a victim that is nobody", {"memoryPressure": {"percentOfLimit": 1, "victim": "Kernel"}},
     "must be one of", ".memoryPressure.victim", "Unsupported value"),
    *((f"{kind} by chance", {kind: {"percentOfLimit": 50}, "probability": 50},
       f"probability, nth and firstN must be unset for {kind}", ".probability") for kind in _AMOUNTS),
    ("processors by a sidecar", {"cpuPressure": {"workers": 1}, "vehicle": "Sidecar"},
     "vehicle must be Auto or NodePod for cpuPressure", ".vehicle"),
)  # fmt: skip
