"""Good and bad faults on connections, for the table of spec_cases: name, the fault's entry, message and field."""

from __future__ import annotations

from typing import Any, Final

from tests.spec_cases_packets import elsewhere

_SLICING: Final[dict[str, Any]] = {"sizeBytes": 64, "variationBytes": 16, "pauseMicroseconds": 500}

CONNECTIONS: Final[tuple[tuple[str, dict[str, Any], str, str], ...]] = (
    ("a timeout of new connections", {"connectionTimeout": {"connections": "New"}, "nth": 2}, "", ""),
    ("a reset after so much", {"connectionReset": {"afterBytes": 4096}, "mechanism": "Relay"}, "", ""),
    ("a refusal that keeps what is open", {"connectionRefusal": {"existingConnections": "Keep"}}, "", ""),
    ("an end that is told late", {"connectionSlowClose": {"delayMilliseconds": 500}}, "", ""),
    ("small pieces", {"connectionSlicing": _SLICING}, "", ""),
    ("a connection of so many bytes", {"connectionDataLimit": {"limitBytes": 10_000, "end": "Reset"}}, "", ""),
    ("a relay without patience", {"connectionDataLimit": {"limitBytes": 1}, "relay": {"drainSeconds": 0}}, "", ""),
    ("pieces of no size", {"connectionSlicing": {**_SLICING, "variationBytes": 64}},
     "variationBytes must be below sizeBytes", ".connectionSlicing.variationBytes"),
    *elsewhere("connectionTimeout", {}, "Nft or Relay"),
    *elsewhere("connectionReset", {}, "Sockets or Nft or Relay"),
    *elsewhere("connectionRefusal", {}, "Relay"),
    *elsewhere("connectionSlowClose", {"delayMilliseconds": 500}, "Relay"),
    *elsewhere("connectionSlicing", _SLICING, "Relay"),
    *elsewhere("connectionDataLimit", {"limitBytes": 1}, "Relay"),
)  # fmt: skip
