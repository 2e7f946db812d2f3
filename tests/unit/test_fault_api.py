"""apiFault and authFault: what the proxy is told, and which requests that is about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
import yaml

from bounceback.api.problems import parse
from bounceback.api.schema import structural
from bounceback.faults import API_KINDS, KINDS
from bounceback.faults.api_fault import FIELDS as API_FIELDS
from bounceback.faults.auth_fault import FIELDS as AUTH_FIELDS
from bounceback.faults.client_fault import ClientFault
from bounceback.faults.watch_fault import FIELDS as WATCH_FIELDS
from bounceback.types import api_rule
from bounceback.types.api_request import read
from bounceback.types.api_rule import ApiRule, Body, Ending, Event, Requests, Token, Where, rule_from
from bounceback.types.choice import Choice
from bounceback.types.plan import Rung
from tests.commands import PROJECT

Json = dict[str, Any]
BY_NAME: dict[str, type[ClientFault]] = {kind.kind: kind for kind in API_KINDS}
CUT: Json = {"cut": {}}
RESOURCES = (Requests(groups=("*",)),)

ACTS: list[tuple[str, Json, api_rule.Act]] = [
    ("apiFault", {"answer": {"code": 409}}, api_rule.Answer(409)),
    (
        "apiFault",
        {
            "answer": {
                "code": 429,
                "reason": "TooManyRequests",
                "message": "m",
                "retryAfterSeconds": 3,
                "retryAfterDate": True,
                "headers": [{"name": "A", "value": "b"}],
            }
        },
        api_rule.Answer(429, "TooManyRequests", "m", 3, True, Body.STATUS, (("A", "b"),)),
    ),
    ("apiFault", {"rateLimit": {"requestsPerSecond": 5, "burst": 10}}, api_rule.RateLimit(5, 10)),
    (
        "apiFault",
        {"delay": {"beforeMilliseconds": 20, "afterMilliseconds": 30, "jitterMilliseconds": 4}},
        api_rule.Delay(20_000, 30_000, 4_000),
    ),
    ("apiFault", {"loseReply": {"ending": "Close"}}, api_rule.LoseReply(Ending.CLOSE)),
    ("apiFault", {"cut": {"ending": "Silence"}}, api_rule.Cut(Ending.SILENCE)),
    ("apiFault", {"genuine": "Conflict"}, api_rule.OldVersion()),
    ("apiFault", {"genuine": "Expired"}, api_rule.OldVersion()),
    ("apiFault", {"watch": {"stall": {"drop": True}}}, api_rule.Stall(True)),
    (
        "apiFault",
        {"watch": {"cut": {"where": "MidLine", "ending": "Reset", "afterEvents": 2, "afterSeconds": 3}}},
        api_rule.CutWatch(Where.MID_LINE, Ending.RESET, 2, 3_000_000),
    ),
    (
        "apiFault",
        {"watch": {"error": {"code": 500, "message": "m", "afterEvents": 2}}},
        api_rule.ErrorEvent(500, "m", 2),
    ),
    (
        "apiFault",
        {"watch": {"events": {"do": "Delay", "types": ["ADDED"], "names": ["a"], "delayMilliseconds": 7}}},
        api_rule.Events(Event.DELAY, ("ADDED",), ("a",), 7_000),
    ),
    ("authFault", {"tokenExpired": {}}, api_rule.SpoilToken(Token.CURRENT)),
    ("authFault", {"tokenInvalid": {}}, api_rule.SpoilToken(Token.ALL)),
    ("authFault", {"tokenRevoked": {}}, api_rule.SpoilToken(Token.ALL)),
    ("authFault", {"permissionDenied": {}}, api_rule.Answer(403)),
    ("authFault", {"wrongNamespace": {"namespace": "other"}}, api_rule.OtherNamespace("other")),
]


@pytest.mark.parametrize(("kind", "fields", "act"), ACTS)
def test_what_the_proxy_is_told(kind: str, fields: Json, act: api_rule.Act) -> None:
    rule = made(kind, fields).rule("f", Choice(0.5, 2, 3, 4))
    assert rule.act == act
    assert (rule.name, rule.choice) == ("f", Choice(0.5, 2, 3, 4))
    assert rule_from(json.loads(json.dumps(asdict(rule)))) == rule


def test_whom_and_which_the_proxy_is_told() -> None:
    requests = [
        {"verbs": ["create"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["shop"], "names": ["a"]},
        {"verbs": ["get"]},
        {"nonResourcePaths": ["/version"]},
    ]
    fault = made("apiFault", {**CUT, "requests": requests, "users": ["jane"], "afterRequests": 5})
    expected = (
        Requests(("create",), ("",), ("pods",), ("shop",), ("a",)),
        Requests(("get",), ("*",)),
        Requests(paths=("/version",)),
    )
    assert fault.rule("f") == ApiRule("f", api_rule.Cut(), expected, ("jane",), after=5)


@pytest.mark.parametrize(
    ("kind", "fields", "about"),
    [
        ("apiFault", CUT, RESOURCES),
        ("authFault", {"permissionDenied": {}}, RESOURCES),
        ("authFault", {"wrongNamespace": {"namespace": "other"}}, RESOURCES),
        ("authFault", {"tokenInvalid": {}}, ()),
        ("authFault", {"tokenInvalid": {}, "requests": [{"verbs": ["get"]}]}, (Requests(("get",), ("*",)),)),
        ("apiFault", {"genuine": "Conflict"}, (Requests(("update", "patch", "delete"), ("*",)),)),
        ("apiFault", {"genuine": "Expired"}, (Requests(("list", "watch"), ("*",)),)),
        ("apiFault", {"genuine": "Expired", "requests": [{"verbs": ["watch"]}]}, (Requests(("watch",), ("*",)),)),
        (
            "apiFault",
            {"genuine": "Conflict", "requests": [{"verbs": ["*", "patch"], "names": ["a"]}]},
            (Requests(("update", "patch", "delete"), ("*",), names=("a",)),),
        ),
        (
            "apiFault",
            {"watch": {"stall": {}}, "requests": [{"resources": ["pods"]}]},
            (Requests(("watch",), ("*",), ("pods",)),),
        ),
    ],
)
def test_what_is_unset_is_filled_in_with_what_the_fault_can_be_about(
    kind: str, fields: Json, about: tuple[Requests, ...]
) -> None:
    assert made(kind, fields).rule("f").requests == about


@pytest.mark.parametrize(
    ("fields", "hit", "spared"),
    [
        (CUT, ["GET /api/v1/pods", "POST /apis/apps/v1/namespaces/a/deployments"], ["GET /version", "GET /api/v1"]),
        (
            {**CUT, "requests": [{"verbs": ["get"]}]},
            ["GET /api/v1/namespaces/a/pods/b", "GET /api/v1/namespaces/a/pods/b/log"],
            ["GET /healthz", "GET /api/v1/pods"],
        ),
        (
            {**CUT, "requests": [{"nonResourcePaths": ["/openapi/*"]}, {"apiGroups": [""], "resources": ["pods"]}]},
            ["GET /openapi/v3", "GET /api/v1/pods"],
            ["GET /api/v1/namespaces/a/pods/b/log", "GET /apis/metrics.k8s.io/v1/pods", "GET /version"],
        ),
        (
            {"genuine": "Conflict"},
            ["PUT /api/v1/namespaces/a/pods/b", "DELETE /api/v1/namespaces/a/pods/b"],
            ["GET /api/v1/pods", "DELETE /api/v1/namespaces/a/pods", "POST /api/v1/namespaces/a/pods"],
        ),
        ({"watch": {"stall": {}}}, ["GET /api/v1/pods?watch=1"], ["GET /api/v1/pods"]),
    ],
)
def test_requests_are_hit_or_spared(fields: Json, hit: list[str], spared: list[str]) -> None:
    rule = made("apiFault", fields).rule("f")
    lines = [*hit, *spared]
    assert [line for line in lines if rule.match(read(*line.split(" ")))] == hit


@pytest.mark.parametrize("kind", API_KINDS)
def test_a_structural_schema_can_say_it_and_explains_every_field(kind: type[ClientFault]) -> None:
    def silent(schema: Json, path: str) -> Iterator[str]:
        for name, field in schema.get("properties", {}).items():
            if not field.get("description"):
                yield f"{path}.{name}"
            yield from silent(field.get("items", field), f"{path}.{name}")

    assert not list(silent(structural(kind), kind.kind))


def test_experiments_have_them_by_the_proxy_and_errors_by_admission_too() -> None:
    assert set(API_KINDS) < set(KINDS)
    assert [kind.all_rungs() for kind in API_KINDS] == [(Rung.PROXY, Rung.ADMISSION), (Rung.PROXY,)]


def test_what_the_page_shows_is_good() -> None:
    page = (PROJECT / "docs" / "api-faults.md").read_text(encoding="utf-8")
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    entries = [entry for block in shown for entry in block.get("spec", block).get("faults", ())]
    assert len(entries) > 2
    for entry in entries:
        (kind,) = BY_NAME.keys() & entry.keys()
        assert made(kind, entry[kind]).rule(entry["name"]).name == entry["name"]
    for field in (*API_FIELDS, *AUTH_FIELDS, *WATCH_FIELDS):
        assert re.search(rf"`{field}\b", page), field


def made(kind: str, fields: Json) -> ClientFault:
    fault, problems = parse(BY_NAME[kind], fields)
    assert fault is not None, problems
    return fault
