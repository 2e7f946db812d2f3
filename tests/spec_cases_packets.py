"""Good and bad faults on packets, for the table of spec_cases: name, the fault's entry, message and field."""

from __future__ import annotations

from typing import Any, Final

_BURSTS: Final = {"calmPackets": 200, "burstPackets": 8}
_SPIKE: Final = {"probabilityPercent": 5, "multiplier": 10}


def _forced(kind: str, fields: dict[str, Any], rung: str, others: str, **choice: int) -> tuple[Any, ...]:
    """A qdisc cannot count, and a rate is one of all packets."""
    return (
        f"{kind} by {rung} though it is to count",
        {kind: fields, "mechanism": rung, **choice},
        f"mechanism must be {others}, or unset, for {kind}",
        ".mechanism",
    )


def elsewhere(kind: str, fields: dict[str, Any], rungs: str) -> tuple[tuple[Any, ...], ...]:
    """Not by a request to the API."""
    return (
        (f"{kind} by a request", {kind: fields, "mechanism": "Api"},
         f"mechanism must be {rungs}, or unset, for {kind}", ".mechanism"),
        (f"{kind} by a deletion", {kind: fields, "vehicle": "PodDelete"},
         f"vehicle must be Auto or Sidecar or NodePod for {kind}", ".vehicle"),
    )  # fmt: skip


PACKETS: Final[tuple[tuple[str, dict[str, Any], str, str], ...]] = (
    ("delay with all its fields", {"networkDelay": {"delayMilliseconds": 100, "jitterMilliseconds": 10,
      "distribution": "ParetoNormal", "spike": _SPIKE, "direction": "Both"}, "probability": 50}, "", ""),
    ("a wide normal jitter", {"networkDelay": {"delayMilliseconds": 3000, "jitterMilliseconds": 2001,
      "distribution": "Normal"}}, "jitterMilliseconds must be at most 2000", ".networkDelay.jitterMilliseconds"),
    ("correlation of no jitter", {"networkDelay": {"delayMilliseconds": 100, "correlationPercent": 10}},
     "correlationPercent must be 0 without a jitter", ".networkDelay.correlationPercent"),
    ("a spike of minutes", {"networkDelay": {"delayMilliseconds": 1701, "spike": _SPIKE}},
     "multiplier must be such that the longest delay", ".networkDelay.spike"),
    ("a spike of just seventeen seconds", {"networkDelay": {"delayMilliseconds": 1700, "spike": _SPIKE}}, "", ""),
    ("a correlated delay by netem", {"networkDelay": {"delayMilliseconds": 100, "jitterMilliseconds": 10,
      "correlationPercent": 10}, "mechanism": "Netem"},
     "mechanism must be Relay, or unset, for networkDelay", ".mechanism"),
    _forced("networkDelay", {"delayMilliseconds": 100}, "Netem", "Relay", nth=3),
    ("loss in bursts", {"networkLoss": {"gilbertElliott": _BURSTS}}, "", ""),
    ("no model of loss", {"networkLoss": {}}, "exactly one of lossPercent, gilbertElliott must be given",
     ".networkLoss"),
    ("two models of loss", {"networkLoss": {"lossPercent": 1, "gilbertElliott": _BURSTS}},
     "exactly one of lossPercent, gilbertElliott must be given", ".networkLoss"),
    ("correlated bursts", {"networkLoss": {"gilbertElliott": _BURSTS, "correlationPercent": 1}},
     "correlationPercent must be 0 with gilbertElliott", ".networkLoss.correlationPercent"),
    ("bursts that are calm", {"networkLoss": {"gilbertElliott": {**_BURSTS, "burstLossPercent": 5,
      "calmLossPercent": 5}}}, "calmLossPercent must be below burstLossPercent",
     ".networkLoss.gilbertElliott.calmLossPercent"),
    ("bursts by nft", {"networkLoss": {"gilbertElliott": _BURSTS}, "mechanism": "Nft"},
     "mechanism must be Netem or Relay, or unset, for networkLoss", ".mechanism"),
    ("the first packets lost", {"networkLoss": {"lossPercent": 100}, "firstN": 3, "mechanism": "Nft"}, "", ""),
    _forced("networkLoss", {"lossPercent": 100}, "Netem", "Nft or Relay", firstN=3),
    ("duplicates", {"networkDuplicate": {"duplicatePercent": 5, "correlationPercent": 20}}, "", ""),
    ("every other packet twice", {"networkDuplicate": {"duplicatePercent": 5}, "nth": 2},
     "nth and firstN must be unset for networkDuplicate", ".nth"),
    ("corruption", {"networkCorrupt": {"corruptPercent": 5, "correlationPercent": 20}}, "", ""),
    _forced("networkCorrupt", {"corruptPercent": 5}, "Netem", "Relay", nth=2),
    ("reordering", {"networkReorder": {"reorderPercent": 100, "gap": 5, "delayMilliseconds": 20}}, "", ""),
    ("all packets at once", {"networkReorder": {"reorderPercent": 100}}, "reorderPercent must be below 100",
     ".networkReorder.reorderPercent"),
    ("the first packets out of order", {"networkReorder": {"reorderPercent": 5}, "firstN": 2},
     "nth and firstN must be unset for networkReorder", ".nth"),
    ("a bandwidth", {"networkBandwidth": {"kilobitsPerSecond": 1000, "burstKilobytes": 16}}, "", ""),
    _forced("networkBandwidth", {"kilobitsPerSecond": 1000}, "Tbf", "Relay", probability=50),
    *elsewhere("networkDuplicate", {"duplicatePercent": 5}, "Netem"),
    *elsewhere("networkCorrupt", {"corruptPercent": 5}, "Netem or Relay"),
    *elsewhere("networkReorder", {"reorderPercent": 5}, "Netem"),
    *elsewhere("networkBandwidth", {"kilobitsPerSecond": 5}, "Tbf or Relay"),
    ("a partition of every other packet", {"networkPartition": {}, "nth": 2}, "", ""),
)  # fmt: skip
