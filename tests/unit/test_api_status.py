"""What we answer in the API server's stead is what client libraries take for the API server's own words."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bounceback.proxy.api.status import Limiter, Reply, gone_event, reply, status, throttled
from bounceback.types.api_request import ApiRequest, read
from bounceback.types.api_rule import Answer, Body

NOW = datetime(2026, 11, 21, 18, 8, 47, tzinfo=UTC)
WEB = "system:serviceaccount:shop:web"
ONE = read("GET", "/apis/apps/v1/namespaces/shop/deployments/web")
SAVE = read("PUT", "/api/v1/namespaces/shop/configmaps/a")
MAKE = read("POST", "/api/v1/namespaces/shop/configmaps")
MANY = read("GET", "/api/v1/namespaces/shop/configmaps")
WATCH = read("GET", "/api/v1/namespaces/shop/configmaps?watch=true")


def told(answer: Answer, request: ApiRequest = ONE) -> dict[str, Any]:
    return status(answer, request, WEB)


def headers(made: Reply) -> dict[bytes, bytes]:
    assert len(dict(made.headers)) == len(made.headers), "a header twice"
    return dict(made.headers)


def sent(answer: Answer, request: ApiRequest = ONE) -> Reply:
    return reply(answer, request, WEB, NOW)


@pytest.mark.parametrize(
    ("code", "request_", "reason"),
    [
        (400, ONE, "BadRequest"),
        (401, ONE, "Unauthorized"),
        (403, ONE, "Forbidden"),
        (404, ONE, "NotFound"),
        (405, ONE, "MethodNotAllowed"),
        (409, SAVE, "Conflict"),
        (409, MAKE, "AlreadyExists"),
        (409, read("POST", "/api/v1/namespaces/shop/pods/a/binding"), "Conflict"),
        (410, MANY, "Expired"),
        (413, MAKE, "RequestEntityTooLarge"),
        (415, MAKE, "UnsupportedMediaType"),
        (422, MAKE, "Invalid"),
        (429, ONE, "TooManyRequests"),
        (500, ONE, "InternalError"),
        (502, ONE, "InternalError"),
        (503, ONE, "ServiceUnavailable"),
        (504, ONE, "Timeout"),
    ],
)
def test_client_libraries_classify_by_the_reason_that_goes_with_the_code(
    code: int, request_: ApiRequest, reason: str
) -> None:
    made = told(Answer(code), request_)
    assert (made["kind"], made["apiVersion"], made["status"]) == ("Status", "v1", "Failure")
    assert (made["code"], made["reason"]) == (code, reason)
    assert made["message"]


def test_a_status_names_the_object() -> None:
    assert told(Answer(404))["details"] == {"name": "web", "group": "apps", "kind": "deployments"}
    assert told(Answer(404))["message"] == 'deployments.apps "web" not found'


def test_what_cannot_be_created_lacks_its_namespace() -> None:
    made = told(Answer(404), MAKE)
    assert (made["message"], made["details"]) == ('namespaces "shop" not found', {"name": "shop", "kind": "namespaces"})


def test_a_list_that_is_not_found_is_of_an_unknown_resource() -> None:
    made = told(Answer(404), MANY)
    assert (made["message"], made["details"]) == ("the server could not find the requested resource", {})


def test_forbidden_says_who_and_what_and_where() -> None:
    scale = read("GET", "/apis/apps/v1/namespaces/shop/deployments/web/scale")
    assert told(Answer(403), scale)["message"] == (
        f'deployments.apps "web" is forbidden: User "{WEB}" cannot get resource "deployments/scale"'
        ' in API group "apps" in the namespace "shop"'
    )
    nodes = told(Answer(403), read("GET", "/api/v1/nodes"))
    assert nodes["message"].endswith('cannot list resource "nodes" in API group "" at the cluster scope')
    path = status(Answer(403), read("GET", "/metrics"), "a<b>&")
    assert path["message"] == 'forbidden: User "a&lt;b&gt;&amp;" cannot get path "/metrics"'
    assert path["details"] == {}


def test_an_old_version_is_of_a_list_or_of_a_watch() -> None:
    assert "list" in told(Answer(410), MANY)["message"]
    assert "watch" in told(Answer(410), WATCH)["message"]


@pytest.mark.parametrize(
    ("method", "kind", "reason"), [("POST", "Ingress", "FieldValueRequired"), ("PUT", "ingresses", "FieldValueInvalid")]
)
def test_an_invalid_object_has_causes(method: str, kind: str, reason: str) -> None:
    """A new one is named by its kind, and one that has no version by its resource."""
    made = told(Answer(422), read(method, "/apis/networking.k8s.io/v1/namespaces/shop/ingresses"))
    (cause,) = made["details"]["causes"]
    assert (made["details"]["kind"], cause["reason"]) == (kind, reason)
    assert made["message"] == f'{kind}.networking.k8s.io "" is invalid: {cause["field"]}: {cause["message"]}'


def test_of_resources_that_we_do_not_know_the_resource_is_the_kind() -> None:
    assert told(Answer(422), read("POST", "/apis/shop.example/v1/namespaces/shop/carts"))["details"]["kind"] == "carts"


def test_reason_and_message_of_the_answer_stand_in_place_of_the_servers() -> None:
    made = told(Answer(409, reason="Conflict", message="not now"), MAKE)
    assert (made["reason"], made["message"]) == ("Conflict", "not now")
    assert told(Answer(409, reason="Conflict"), MAKE)["message"].startswith("Operation cannot be fulfilled on")
    assert told(Answer(418, reason="Teapot"))["reason"] == "Teapot"
    assert told(Answer(500, message="disk full"))["details"] == {"causes": [{"message": "disk full"}]}


def test_a_server_timeout_names_the_operation() -> None:
    made = told(Answer(500, reason="ServerTimeout", retry_after=2))
    assert made["details"] == {"name": "get", "group": "apps", "kind": "deployments", "retryAfterSeconds": 2}


def test_no_retry_after_that_nobody_asked_for() -> None:
    for code in (429, 500, 503, 504):
        made = sent(Answer(code))
        assert b"Retry-After" not in headers(made)
        assert "retryAfterSeconds" not in json.loads(made.body).get("details", {})


def test_retry_after_in_seconds_stands_in_the_header_and_in_the_details() -> None:
    made = sent(Answer(429, retry_after=7))
    assert headers(made)[b"Retry-After"] == b"7"
    assert json.loads(made.body)["details"] == {"retryAfterSeconds": 7}


def test_retry_after_as_a_date_is_in_the_header_alone() -> None:
    made = sent(Answer(503, retry_after=90, retry_date=True))
    assert headers(made)[b"Retry-After"] == b"Sat, 21 Nov 2026 18:10:17 GMT"
    assert "details" not in json.loads(made.body)


def test_a_reply_is_a_line_of_json_that_must_not_be_cached() -> None:
    made = sent(Answer(404))
    assert (made.code, made.phrase) == (404, "Not Found")
    assert made.body.endswith(b"}\n")
    assert headers(made) == {
        b"Cache-Control": b"no-cache, private",
        b"Content-Type": b"application/json",
        b"Date": b"Sat, 21 Nov 2026 18:08:47 GMT",
        b"Content-Length": str(len(made.body)).encode(),
    }


def test_phrases_are_those_of_go() -> None:
    assert sent(Answer(413)).phrase == "Request Entity Too Large"
    assert sent(Answer(422)).phrase == "Unprocessable Entity"
    assert sent(Answer(799)).phrase == "Unknown"


def test_throttling_is_the_text_of_priority_and_fairness() -> None:
    made = sent(throttled(4))
    assert made.body == b"Too many requests, please try again later.\n"
    assert headers(made)[b"Content-Type"] == b"text/plain; charset=utf-8"
    assert headers(made)[b"Retry-After"] == b"4"


def test_text_of_a_gateway_is_a_page_of_nginx() -> None:
    made = sent(Answer(504, body=Body.TEXT))
    assert made.phrase == "Gateway Time-out"
    assert b"<center><h1>504 Gateway Time-out</h1></center>\r\n" in made.body
    assert headers(made)[b"Content-Type"] == b"text/html"
    assert headers(made)[b"Server"] == b"nginx"
    assert b"Cache-Control" not in headers(made)


def test_text_may_be_ones_own_and_an_empty_answer_is_empty() -> None:
    assert sent(Answer(502, message="no upstream", body=Body.TEXT)).body == b"no upstream\n"
    nothing = sent(Answer(500, body=Body.EMPTY))
    assert nothing.body == b"" and headers(nothing)[b"Content-Length"] == b"0"
    assert b"Content-Type" not in headers(nothing)


def test_headers_of_the_answer_stand_in_place_of_ours() -> None:
    made = sent(Answer(500, headers=(("content-type", "application/problem+json"), ("X-Why", "test"))))
    assert headers(made)[b"content-type"] == b"application/problem+json"
    assert headers(made)[b"X-Why"] == b"test"
    assert b"Content-Type" not in headers(made)


def test_no_header_of_the_answer_lies_about_its_length() -> None:
    made = sent(Answer(500, headers=(("Content-Length", "1"),)))
    assert headers(made)[b"Content-Length"] == str(len(made.body)).encode()


def test_an_error_event_is_expired_or_internal() -> None:
    assert gone_event(410, "")["reason"] == "Expired"
    assert gone_event(410, "too old resource version: 1 (1998)")["message"] == "too old resource version: 1 (1998)"
    broken = gone_event(500, "")
    assert (broken["code"], broken["reason"]) == (500, "InternalError")


def test_a_limiter_lets_a_burst_through_and_then_so_many_a_second() -> None:
    limiter = Limiter(per_second=2, burst=3)
    assert [limiter.ask(100.0) for _ in range(4)] == [None, None, None, 1]
    assert limiter.ask(100.4) == 1
    assert limiter.ask(100.5) is None
    assert [limiter.ask(200.0) is None for _ in range(4)] == [True, True, True, False]


def test_retry_after_grows_and_shrinks_as_in_the_servers_own_test() -> None:
    """The steps of TestDroppedRequestsTracker in k8s.io/apiserver/pkg/util/flowcontrol."""
    limiter = Limiter(per_second=0, burst=1)
    start = 1_795_284_527.25
    assert limiter.ask(start) is None
    steps = [(0, 5, 1), (1, 11, 2), (2, 1, 2), (3, 11, 4), (4, 1, 4), (7, 1, 8), (11, 1, 8)]
    steps += [(15, 1, 7), (17, 1, 6), (21, 14, 5), (22, 1, 10)]
    for second, dropped, expected in steps:
        asked = [limiter.ask(start + second) for _ in range(dropped)]
        assert asked[-1] == expected, f"after {second} s"


def test_retry_after_never_asks_for_more_than_the_server_does() -> None:
    limiter = Limiter(per_second=0, burst=1)
    asked = [limiter.ask(float(second)) for second in range(400) for _ in range(100)]
    assert max(wait for wait in asked if wait is not None) == 32


def test_a_limiter_forgets_what_the_server_would_not_look_back_to() -> None:
    limiter = Limiter(per_second=0, burst=1)
    for second in range(500):
        limiter.ask(float(second))
    assert len(limiter._dropped) <= Limiter.LONGEST + 1


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    limiter = Limiter(per_second=1, burst=1)
    assert limiter.ask(100.0) is None
    assert limiter.ask(50.0) is not None
    assert limiter.ask(51.0) is None
