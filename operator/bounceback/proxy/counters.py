"""What was done to whom, in whole numbers that only grow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final


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


@dataclass(frozen=True, slots=True)
class Named:
    """What is counted of names: by rule and by listener."""

    dns_rules: Mapping[str, Mapping[str, int]]  # seen, hits
    tls_rules: Mapping[str, Mapping[str, Any]]  # seen, hits, accepted, and alerts and ends by name
    dns_listeners: Mapping[str, Mapping[str, int]]  # queries, forwarded, answered, swallowed, lost, open


NO_NAMES: Final = Named({}, {}, {})


def document(
    rules: Mapping[str, Counter],
    listeners: Mapping[str, Traffic],
    named: Named = NO_NAMES,
    cluster: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """As JSON shows it; `cluster` is what a proxy before a Kubernetes API counted."""
    found = _of_the_relay(rules, listeners, named)
    return found | {"cluster": dict(cluster)} if cluster is not None else found


def _of_the_relay(rules: Mapping[str, Counter], listeners: Mapping[str, Traffic], named: Named) -> dict[str, Any]:
    return {
        "rules": [
            *({"name": name, **asdict(counter)} for name, counter in rules.items()),
            *({"name": name, **count} for name, count in (*named.dns_rules.items(), *named.tls_rules.items())),
        ],
        "listeners": [
            *({"name": name, **_camel(asdict(traffic))} for name, traffic in listeners.items()),
            *({"name": name, **traffic} for name, traffic in named.dns_listeners.items()),
        ],
    }


def table(
    rules: Mapping[str, Counter],
    listeners: Mapping[str, Traffic],
    named: Named = NO_NAMES,
    cluster: Mapping[str, Any] | None = None,
) -> str:
    """As a person reads it."""
    parts = (*_of_bytes(rules, listeners), *_of_names(named), *(_of_cluster(cluster) if cluster is not None else ()))
    return "\n\n".join(_columns([heads, *rows]) for heads, rows in parts if rows)


Rows = list[tuple[str, ...]]


def _of_bytes(rules: Mapping[str, Counter], listeners: Mapping[str, Traffic]) -> Iterator[tuple[tuple[str, ...], Rows]]:
    yield (
        ("LISTENER", "ACCEPTED", "OPEN", "REFUSED", "UNREACHABLE", "RESET", "EGRESS", "INGRESS"),
        [
            _row(name, t.accepted, t.open, t.refused, t.unreachable, t.reset, t.bytes_egress, t.bytes_ingress)
            for name, t in listeners.items()
        ],
    )
    yield (
        ("RULE", "HITS", "BYTES", "CONNECTIONS"),
        [_row(name, c.hits, c.bytes, c.connections) for name, c in rules.items()],
    )


def _of_names(named: Named) -> Iterator[tuple[tuple[str, ...], Rows]]:
    yield (
        ("DNS LISTENER", "QUERIES", "FORWARDED", "ANSWERED", "SWALLOWED", "LOST", "OPEN"),
        [
            _row(name, t["queries"], t["forwarded"], t["answered"], t["swallowed"], t["lost"], t["open"])
            for name, t in named.dns_listeners.items()
        ],
    )
    yield (
        ("DNS RULE", "HITS", "OF QUERIES"),
        [_row(name, c["hits"], c["seen"]) for name, c in named.dns_rules.items()],
    )
    yield (
        ("TLS RULE", "HITS", "OF CONNECTIONS", "ACCEPTED", "ENDS", "ALERTS"),
        [
            (*_row(name, c["hits"], c["seen"], c["accepted"]), _listed(c["ends"]), _listed(c["alerts"]))
            for name, c in named.tls_rules.items()
        ],
    )


def _of_cluster(found: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Rows]]:
    yield (
        ("KUBERNETES API", "CONNECTIONS", "OPEN", "REQUESTS", "ANSWERED BY US"),
        [_row("api", found["connections"], found["open"], found["requests"], found["answeredByUs"])],
    )
    yield (
        ("API RULE", "HITS", "OF REQUESTS"),
        [_row(name, count["hits"], count["seen"]) for name, count in found["rules"].items()],
    )


def _row(name: str, *figures: int) -> tuple[str, ...]:
    return (name, *(f"{figure:,}" for figure in figures))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "-"


def _camel(fields: Mapping[str, int]) -> dict[str, int]:
    return {key.split("_")[0] + "".join(part.title() for part in key.split("_")[1:]): v for key, v in fields.items()}


def _columns(rows: Iterable[tuple[str, ...]]) -> str:
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in lines)
    )
