"""Specs of RecoveryCheck: how its probes and observations look, good and bad."""

from __future__ import annotations

from typing import Any, Final

from bounceback.api import check, looks, looks_inside, looks_stores, probes, reference_run
from bounceback.types.rules import exactly_one
from tests.spec_case import SELECTOR, Case, Change, having, probe

ONE_READING: Final = exactly_one(probes.READINGS)

METRIC: Final = {"metric": "up", "expression": "value == 1.0"}
QUERY: Final = {"query": "up", "expression": "value == 1.0"}
PAGES: Final = {"selector": SELECTOR, "port": 9090}
SQL: Final = {"kind": "PostgreSQL", "host": "db", "database": "shop", "query": "select 1"}
LOGIN: Final = {"secretName": "db"}
POD: Final = {"name": "web-0"}


def _signal(**fields: Any) -> dict[str, Any]:
    return {"name": "said", **fields}


MAPS: Final = {"apiVersion": "v1", "kind": "ConfigMap"}
OF_OBJECTS: Final = {"masks": ["/data/*"], "statusFields": ["/status/phase"]}


def _unchanged(asked: dict[str, Any], **source: Any) -> Change:
    return having(probes=[], observations=[{"name": "seen", "unchanged": asked, **(source or {"sql": SQL})}])


PROBES: Final = (
    *(
        Case(f"a probe by {kind}", "RecoveryCheck", probe(**{kind: look}))
        for kind, look in {
            "http": {"url": "http://web/", "expectHeaders": {"Server": "web"}, "expression": "json.depth < 10"},
            "dns": {"name": "web", "type": "A", "expectAnswers": ["10.0.0.1"]},
            "tls": {"host": "web", "validDays": 14, "tls": {"authorities": {"secretName": "ca"}}},
            "grpc": {"host": "web", "port": 9000, "service": "shop.Orders", "tls": {}},
            "prometheus": {"url": "http://prometheus:9090", **QUERY},
            "exec": {"pods": POD, "command": ["true"]},
            "job": {"template": {"containers": [{"name": "ask", "image": "ask"}]}},
            "sql": {**SQL, "login": LOGIN, "tls": {"verify": False}},
            "redis": {"host": "redis", "command": ["PING"]},
            "nats": {"host": "nats", "stream": "orders", "consumer": "worker"},
        }.items()
    ),
    Case("a metric of pods", "RecoveryCheck", probe(prometheus={"pods": PAGES, **METRIC})),
    Case(
        "neither query nor metric",
        "RecoveryCheck",
        probe(prometheus={"url": "http://web/", "expression": "true"}),
        looks.SERIES_OF.message,
        "prometheus",
    ),
    Case("a metric from nowhere", "RecoveryCheck", probe(prometheus=METRIC), looks.PAGE_OF.message, "prometheus"),
    Case(
        "a query to pods",
        "RecoveryCheck",
        probe(prometheus={"pods": PAGES, **QUERY}),
        looks.QUERY_AT.message,
        "prometheus.url",
    ),
    Case(
        "an exec in a pod by name and label",
        "RecoveryCheck",
        probe(exec={"pods": {**POD, "selector": SELECTOR}, "command": ["true"]}),
        looks_inside.ONE_WAY.message,
        "exec.pods",
    ),
    Case(
        "no line in particular",
        "RecoveryCheck",
        probe(log={"pods": POD, "absentSeconds": 10}),
        looks_inside.SOME_LINE.message,
        "log.contains",
    ),
    Case(
        "a consumer of no stream",
        "RecoveryCheck",
        probe(nats={"host": "nats", "consumer": "worker"}),
        looks_stores.CONSUMER_OF.message,
        "nats.stream",
    ),
    Case("no panic", "RecoveryCheck", probe(log={"pods": POD, "contains": "panic", "absentSeconds": 10})),
    Case(
        "an event as a signal", "RecoveryCheck", having(detection=[_signal(event={}, category="event.reason == 'X'")])
    ),
    Case("an event as health", "RecoveryCheck", probe(event={"reason": "Killing"}), check.MOMENT, "spec.probes"),
    Case(
        "a line as an error state",
        "RecoveryCheck",
        having(errorState=[_signal(log={"pods": POD, "contains": "read-only"})]),
        check.MOMENT,
        "spec.errorState",
    ),
    Case(
        "what an open connection says",
        "RecoveryCheck",
        having(detection=[_signal(tcp={"host": "web", "port": 80}, category="true")]),
        probes.NO_CATEGORY.message,
        "spec.detection[0].category",
    ),
    *(
        Case(
            f"an observation by {kind}",
            "RecoveryCheck",
            having(observations=[{"name": "seen", kind: source}], invariants=[{"name": "same", "expression": "true"}]),
        )
        for kind, source in {
            "exec": {"pods": POD, "command": ["cat", "/data"], "format": "Text"},
            "sql": SQL,
            "redis": {"host": "redis", "command": ["KEYS", "*"]},
            "nats": {"host": "nats", "stream": "orders"},
        }.items()
    ),
    Case(
        "nothing but an observation that must stay", "RecoveryCheck", _unchanged({"masks": ["/*/seen_at", "/status"]})
    ),
    Case("objects that must stay", "RecoveryCheck", _unchanged(OF_OBJECTS, kubernetes=MAPS)),
    Case(
        "a status field of rows",
        "RecoveryCheck",
        _unchanged(OF_OBJECTS),
        probes.NO_STATUS,
        "spec.observations[0].unchanged.statusFields",
    ),
    Case(
        "a mask of an object's status",
        "RecoveryCheck",
        _unchanged({"masks": ["/status/phase"]}, kubernetes=MAPS),
        reference_run.NEVER_COMPARED,
        "spec.observations[0].unchanged.masks",
    ),
    Case(
        "a field outside of an object's status",
        "RecoveryCheck",
        _unchanged({"statusFields": ["/spec/replicas"]}, kubernetes=MAPS),
        reference_run.OF_STATUS,
        "spec.observations[0].unchanged.statusFields",
    ),
    Case(
        "observations that are only looked at",
        "RecoveryCheck",
        having(probes=[], observations=[{"name": "seen", "sql": SQL}]),
        check.NOTHING,
        "spec.probes",
    ),
)
