"""apiFault and authFault: what a user may write, and what is refused and how."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bounceback.api.problems import parse
from bounceback.api.schema import structural
from bounceback.engine import cel
from bounceback.faults import API_KINDS
from bounceback.faults.client_fault import ClientFault

Json = dict[str, Any]
BY_NAME: dict[str, type[ClientFault]] = {kind.kind: kind for kind in API_KINDS}
CUT: Json = {"cut": {}}

GOOD: list[tuple[str, Json]] = [
    *(("apiFault", {"answer": {"code": code}}) for code in (400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 429)),
    *(("apiFault", {"answer": {"code": code}}) for code in (500, 502, 503, 504)),
    ("apiFault", {"answer": {"code": 409, "reason": "AlreadyExists", "message": "it is there"}}),
    ("apiFault", {"answer": {"code": 429, "retryAfterSeconds": 0}}),
    ("apiFault", {"answer": {"code": 503, "retryAfterSeconds": 5, "retryAfterDate": True, "body": "Text"}}),
    ("apiFault", {"answer": {"code": 500, "body": "Empty", "headers": [{"name": "Warning", "value": '299 - "old"'}]}}),
    ("apiFault", {"answer": {"code": 500, "headers": [{"name": "X-Empty", "value": ""}]}}),
    ("apiFault", {"rateLimit": {"requestsPerSecond": 5, "burst": 10}}),
    ("apiFault", {"delay": {"beforeMilliseconds": 200, "jitterMilliseconds": 200}}),
    ("apiFault", {"delay": {"afterMilliseconds": 1}}),
    ("apiFault", {"loseReply": {}}),
    ("apiFault", {"loseReply": {"ending": "Silence"}}),
    ("apiFault", {"cut": {"ending": "Close"}}),
    ("apiFault", {"genuine": "Conflict", "requests": [{"verbs": ["update"], "resources": ["leases"]}]}),
    ("apiFault", {"genuine": "Expired", "requests": [{"verbs": ["*"]}, {"verbs": ["list", "watch"]}]}),
    ("apiFault", {"watch": {"stall": {"drop": True}}, "requests": [{"verbs": ["watch"], "resources": ["pods"]}]}),
    ("apiFault", {"watch": {"cut": {"where": "MidLine", "ending": "Reset", "afterEvents": 3, "afterSeconds": 2}}}),
    ("apiFault", {"watch": {"error": {}}}),
    ("apiFault", {"watch": {"error": {"code": 500, "message": "etcdserver: no leader"}}}),
    ("apiFault", {"watch": {"events": {"do": "Drop", "types": ["BOOKMARK"]}}}),
    ("apiFault", {"watch": {"events": {"do": "Reorder", "delayMilliseconds": 500, "names": ["a.b"]}}}),
    ("apiFault", {**CUT, "users": ["system:serviceaccount:shop:web", "jane@example.com"], "afterRequests": 5}),
    (
        "apiFault",
        {**CUT, "requests": [{"apiGroups": ["", "apps", "*"], "resources": ["pods/log", "*/scale", "pods/*"]}]},
    ),
    (
        "apiFault",
        {**CUT, "requests": [{"nonResourcePaths": ["/version", "/openapi/*", "*"], "verbs": ["get", "head"]}]},
    ),
    (
        "apiFault",
        {**CUT, "requests": [{"namespaces": ["shop"], "names": ["a", "system.x"], "verbs": ["deletecollection"]}]},
    ),
    ("authFault", {"tokenExpired": {}}),
    ("authFault", {"tokenInvalid": {}, "requests": [{"nonResourcePaths": ["/version"]}]}),
    ("authFault", {"tokenRevoked": {}, "users": ["system:serviceaccount:shop:web"]}),
    ("authFault", {"permissionDenied": {}, "requests": [{"verbs": ["create"], "resources": ["jobs"]}]}),
    ("authFault", {"wrongNamespace": {"namespace": "no-such-namespace"}}),
]

API_ACTS = "exactly one of answer, rateLimit, delay, loseReply, cut, crash, genuine, watch must be given"
AUTH_ACTS = "exactly one of tokenExpired, tokenInvalid, tokenRevoked, permissionDenied, wrongNamespace must be given"
BETWEEN: list[tuple[str, Json, str, str]] = [
    ("apiFault", {}, "", API_ACTS),
    ("apiFault", {"cut": {}, "loseReply": {}}, "", API_ACTS),
    ("apiFault", {"watch": {}}, ".watch", "exactly one of stall, cut, error, events must be given"),
    ("apiFault", {"watch": {"stall": {}, "cut": {}}}, ".watch", "exactly one of stall, cut, error, events"),
    ("authFault", {}, "", AUTH_ACTS),
    ("authFault", {"tokenExpired": {}, "tokenInvalid": {}}, "", AUTH_ACTS),
    ("apiFault", {"answer": {"code": 429, "retryAfterDate": True}}, ".answer.retryAfterDate", "must be false or unset"),
    ("apiFault", {"answer": {"code": 429, "body": "Text", "reason": "Gone"}}, ".answer.body", "parts of a Status"),
    ("apiFault", {"answer": {"code": 429, "body": "Empty", "message": "x"}}, ".answer.body", "parts of a Status"),
    *(
        (
            "apiFault",
            {"answer": {"code": 429, "headers": [{"name": "X-Fine", "value": "a"}, {"name": name, "value": "5"}]}},
            ".answer.headers[1]",
            "headers must not be",
        )
        for name in ("Retry-After", "content-length", "CONTENT-TYPE", "Connection", "Transfer-Encoding", "Upgrade")
    ),
    ("apiFault", {"delay": {}}, ".delay.beforeMilliseconds", "must be above 0"),
    ("apiFault", {"delay": {"jitterMilliseconds": 5}}, ".delay.beforeMilliseconds", "must be above 0"),
    (
        "apiFault",
        {"delay": {"beforeMilliseconds": 5, "jitterMilliseconds": 6}},
        ".delay.jitterMilliseconds",
        "must not be above",
    ),
    (
        "apiFault",
        {"delay": {"beforeMilliseconds": 9, "afterMilliseconds": 5, "jitterMilliseconds": 6}},
        ".delay.jitterMilliseconds",
        "must not be above",
    ),
    *(
        (
            "apiFault",
            {"genuine": "Conflict", "requests": [{"verbs": ["patch", verb]}]},
            ".requests[0].verbs[1]",
            "among",
        )
        for verb in ("get", "list", "watch", "create", "deletecollection")
    ),
    *(
        ("apiFault", {"genuine": "Expired", "requests": [{}, {"verbs": [verb]}]}, ".requests[1].verbs[0]", "among")
        for verb in ("get", "update", "create")
    ),
    ("apiFault", {"watch": {"stall": {}}, "requests": [{"verbs": ["list"]}]}, ".requests[0].verbs[0]", "must be watch"),
    *(
        (
            kind,
            {**fault, "requests": [{"nonResourcePaths": ["/version"]}]},
            ".requests[0].nonResourcePaths",
            "must be unset",
        )
        for kind, fault in (
            ("apiFault", {"genuine": "Conflict"}),
            ("apiFault", {"watch": {"stall": {}}}),
            ("authFault", {"wrongNamespace": {"namespace": "other"}}),
        )
    ),
    *(
        (
            "apiFault",
            {**CUT, "requests": [{"nonResourcePaths": ["/version"], **beside}]},
            ".requests[0].nonResourcePaths",
            "must stand alone",
        )
        for beside in ({"apiGroups": [""]}, {"resources": ["pods"]}, {"namespaces": ["shop"]}, {"names": ["a"]})
    ),
    *(
        (
            "apiFault",
            {**CUT, "requests": [{"verbs": [verb]}]},
            ".requests[0].verbs[0]",
            "where nonResourcePaths is unset",
        )
        for verb in ("head", "options", "post", "put")
    ),
    *(
        (
            "authFault",
            {"tokenInvalid": {}, "requests": [{"verbs": ["get", verb], "nonResourcePaths": ["/version"]}]},
            ".requests[0].verbs[1]",
            "with nonResourcePaths",
        )
        for verb in ("list", "watch", "create", "update", "deletecollection")
    ),
    *(
        ("apiFault", {"watch": {"events": {"do": do}}}, ".watch.events.delayMilliseconds", "must be above 0")
        for do in ("Delay", "Reorder")
    ),
    *(
        (
            "apiFault",
            {"watch": {"events": {"do": do, "delayMilliseconds": 5}}},
            ".watch.events.delayMilliseconds",
            "0 or unset with any other",
        )
        for do in ("Drop", "Repeat", "Replay")
    ),
]
"""What no field is wrong in by itself: the API server is told the same as a rule."""

WITHIN: list[tuple[str, Json, str, str]] = [
    ("apiFault", {"answer": {}}, ".answer.code", "must be given: one of 400, 401"),
    *(
        ("apiFault", {"answer": {"code": code}}, ".answer.code", "must be one of 400")
        for code in (200, 418, 501, "429")
    ),
    ("apiFault", {"answer": {"code": 409, "reason": "already exists"}}, ".answer.reason", "such as AlreadyExists"),
    ("apiFault", {"answer": {"code": 409, "message": "x" * 1025}}, ".answer.message", "at most 1024 characters"),
    *(
        ("apiFault", {"answer": {"code": 429, "retryAfterSeconds": s}}, ".answer.retryAfterSeconds", "from 0 to 86400")
        for s in (-1, 86_401, 0.5)
    ),
    ("apiFault", {"answer": {"code": 429, "body": "Html"}}, ".answer.body", "must be one of Status, Text, Empty"),
    *(
        (
            "apiFault",
            {"answer": {"code": 429, "headers": [{"name": n, "value": "a"}]}},
            ".answer.headers[0].name",
            "must",
        )
        for n in ("", "a b", "a:", "ä")
    ),
    *(
        (
            "apiFault",
            {"answer": {"code": 429, "headers": [{"name": "A", "value": v}]}},
            ".answer.headers[0].value",
            "must",
        )
        for v in ("a\r\nB: c", " a", "a ", "ä", "a\t")
    ),
    ("apiFault", {"rateLimit": {}}, ".rateLimit.requestsPerSecond", "must be given"),
    ("apiFault", {"rateLimit": {"requestsPerSecond": 0}}, ".rateLimit.requestsPerSecond", "from 1 to 100000"),
    ("apiFault", {"rateLimit": {"requestsPerSecond": 1, "burst": 0}}, ".rateLimit.burst", "from 1 to 100000"),
    ("apiFault", {"delay": {"afterMilliseconds": 600_001}}, ".delay.afterMilliseconds", "from 0 to 600000"),
    ("apiFault", {"cut": {"ending": "Fire"}}, ".cut.ending", "must be one of Reset, Close, Silence"),
    ("apiFault", {"loseReply": {"verbs": []}}, ".loseReply.verbs", "there is no such field; allowed: ending"),
    ("apiFault", {"genuine": "Gone"}, ".genuine", "must be one of Conflict, Expired"),
    ("apiFault", {"watch": {"error": {"code": 404}}}, ".watch.error.code", "must be one of 410, 500"),
    ("apiFault", {"watch": {"cut": {"where": "End"}}}, ".watch.cut.where", "must be one of BetweenEvents, MidLine"),
    ("apiFault", {"watch": {"cut": {"afterEvents": -1}}}, ".watch.cut.afterEvents", "from 0 to 1000000"),
    ("apiFault", {"watch": {"events": {}}}, ".watch.events.do", "must be given: one of Drop, Repeat"),
    ("apiFault", {"watch": {"events": {"do": "Drop", "types": ["CHANGED"]}}}, ".watch.events.types[0]", "one of ADDED"),
    ("apiFault", {**CUT, "requests": [{"verbs": ["read"]}]}, ".requests[0].verbs[0]", "must be one of get, list"),
    *(
        ("apiFault", {**CUT, "requests": [{"resources": [r]}]}, ".requests[0].resources[0]", "pods, pods/log")
        for r in ("Pods", "/log", "pods/", "pods/log/x", "p*", "pods/l*")
    ),
    *(
        (
            "apiFault",
            {**CUT, "requests": [{"apiGroups": [g]}]},
            ".requests[0].apiGroups[0]",
            "an API group such as apps",
        )
        for g in ("apps/v1", "Apps", "*.k8s.io")
    ),
    ("apiFault", {**CUT, "requests": [{"namespaces": ["a.b"]}]}, ".requests[0].namespaces[0]", "lower-case letters"),
    ("apiFault", {**CUT, "requests": [{"names": ["A"]}]}, ".requests[0].names[0]", "lower-case letters"),
    *(
        (
            "apiFault",
            {**CUT, "requests": [{"nonResourcePaths": [p]}]},
            ".requests[0].nonResourcePaths[0]",
            "a path such as",
        )
        for p in ("version", "/a*b", "/version?x=1", "/a b")
    ),
    ("apiFault", {**CUT, "requests": [{}] * 21}, ".requests", "of at most 20 entries"),
    ("apiFault", {**CUT, "users": [""]}, ".users[0]", "of 1 to 512 characters"),
    ("apiFault", {**CUT, "afterRequests": -1}, ".afterRequests", "from 0 to 1000000"),
    ("apiFault", {**CUT, "peers": []}, ".peers", "there is no such field"),
    ("authFault", {"tokenExpired": {"after": 1}}, ".tokenExpired.after", "there is no such field; allowed: none"),
    ("authFault", {"tokenInvalid": True}, ".tokenInvalid", "must be an empty mapping: {}"),
    ("authFault", {"wrongNamespace": {}}, ".wrongNamespace.namespace", "must be given"),
    ("authFault", {"wrongNamespace": {"namespace": "No"}}, ".wrongNamespace.namespace", "lower-case letters"),
]


@pytest.mark.parametrize(("kind", "fields"), GOOD)
def test_what_is_good(kind: str, fields: Json) -> None:
    fault, problems = parse(BY_NAME[kind], fields)
    assert problems == ()
    assert fault is not None
    assert BY_NAME[kind].model_validate(fault.to_json()) == fault
    assert not list(broken(structural(BY_NAME[kind]), fault.to_json()))


@pytest.mark.parametrize(("kind", "fields", "field", "message"), [*BETWEEN, *WITHIN])
def test_what_is_bad_is_refused_at_its_field(kind: str, fields: Json, field: str, message: str) -> None:
    fault, problems = parse(BY_NAME[kind], fields, root=("spec", "faults", 0, kind))
    assert fault is None
    (problem,) = problems
    assert str(problem).startswith(f"spec.faults[0].{kind}{field}: ")
    assert message in problem.message


@pytest.mark.parametrize(("kind", "fields", "field", "message"), BETWEEN)
def test_the_rules_say_the_same_in_cel(kind: str, fields: Json, field: str, message: str) -> None:
    assert any(message in said for said in broken(structural(BY_NAME[kind]), fields))


def test_every_rule_has_a_case() -> None:
    said = {text for kind, fields, *_ in BETWEEN for text in broken(structural(BY_NAME[kind]), fields)}
    for kind in API_KINDS:
        assert {rule["message"] for rule in all_rules(structural(kind))} <= said


def broken(schema: Json, value: Any) -> Iterator[str]:
    """The messages of the rules that a value breaks, as the API server would find them: with defaults filled in."""
    if schema["type"] == "array":
        for each in value:
            yield from broken(schema["items"], each)
    if schema["type"] != "object":
        return
    properties = schema["properties"]
    value = {name: field["default"] for name, field in properties.items() if "default" in field} | value
    for rule in schema.get("x-kubernetes-validations", ()):
        # `lowerAscii` is of the API server's own library: here the names are brought to lower case beforehand
        if not cel.evaluate(rule["rule"].replace(".lowerAscii()", ""), {"self": lowered(value)}):
            yield rule["message"]
    for name, field in properties.items():
        if name in value:
            yield from broken(field, value[name])


def lowered(value: Json) -> Json:
    headers = [{**header, "name": header["name"].lower()} for header in value.get("headers", ())]
    return {**value, "headers": headers} if headers else value


def all_rules(schema: Json) -> Iterator[Json]:
    yield from schema.get("x-kubernetes-validations", ())
    for below in (*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])):
        yield from all_rules(below)
