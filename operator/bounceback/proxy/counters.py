"""What was done to whom, in whole numbers that only grow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(slots=True)
class Counter:
    """Of one rule. What a hit is depends on what the rule does: a segment held, a datagram lost, a connection reset."""

    hits: int = 0
    bytes: int = 0  # of the segments that were hit
    connections: int = 0  # on which it was in force


@dataclass(slots=True)
class Traffic:
    """Of one listener."""

    accepted: int = 0
    open: int = 0
    refused: int = 0  # by a rule
    unreachable: int = 0  # the upstream could not be reached
    reset: int = 0  # by a rule, or at the end of draining
    bytes_egress: int = 0  # that came from clients; of connections that are over
    bytes_ingress: int = 0  # and from upstreams


def document(rules: Mapping[str, Counter], listeners: Mapping[str, Traffic]) -> dict[str, Any]:
    """As JSON shows it."""
    return {
        "rules": [{"name": name, **asdict(counter)} for name, counter in rules.items()],
        "listeners": [{"name": name, **_camel(asdict(traffic))} for name, traffic in listeners.items()],
    }


def table(rules: Mapping[str, Counter], listeners: Mapping[str, Traffic]) -> str:
    """As a person reads it."""
    lines: list[tuple[str, ...]] = [
        ("LISTENER", "ACCEPTED", "OPEN", "REFUSED", "UNREACHABLE", "RESET", "EGRESS", "INGRESS")
    ]
    for name, t in listeners.items():
        figures = (t.accepted, t.open, t.refused, t.unreachable, t.reset, t.bytes_egress, t.bytes_ingress)
        lines.append((name, *(f"{figure:,}" for figure in figures)))
    found = _columns(lines)
    if rules:
        rows: list[tuple[str, ...]] = [("RULE", "HITS", "BYTES", "CONNECTIONS")]
        rows += [(name, f"{c.hits:,}", f"{c.bytes:,}", f"{c.connections:,}") for name, c in rules.items()]
        found += "\n\n" + _columns(rows)
    return found


def _camel(fields: Mapping[str, int]) -> dict[str, int]:
    return {key.split("_")[0] + "".join(part.title() for part in key.split("_")[1:]): v for key, v in fields.items()}


def _columns(rows: Iterable[tuple[str, ...]]) -> str:
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in lines)
    )
