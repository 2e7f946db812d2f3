"""Every fault between a client and the Kubernetes API, in armed pods: what the client sees of it, and its proof."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest

from bounceback.vehicles.arming import ARM_LABEL
from tests.commands import Commands, Json, until
from tests.e2e.arming import READY, arming, client_pod

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

LANES: Final = Path(__file__).with_name("lanes.py").read_text(encoding="utf-8")
SECONDS: Final = 10
RUN_SECONDS: Final = 180
A_POD: Final = 14
Seen = Callable[[list[Json]], bool]
CODES: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    502: "",
    503: "ServiceUnavailable",
    504: "Timeout",
}
"""With the reason of their Status; a gateway's has none."""


@dataclass(frozen=True)
class Case:
    lane: str  # what its lane does
    fault: Json  # apiFault or authFault, but for the requests that it is about
    seen: Seen  # in what the lane said
    verbs: tuple[str, ...] = ()
    more: Json = field(default_factory=dict)  # which of them

    def entry(self, name: str) -> Json:
        """Of spec.faults."""
        ((kind, fields),) = self.fault.items()
        about: Json = {"resources": ["configmaps"], "names": [name]}
        if self.lane == "create":
            about = {"resources": ["leases"]}
        if self.verbs:
            about["verbs"] = list(self.verbs)
        return {
            "name": name,
            "target": "client",
            "durationSeconds": SECONDS,
            kind: {"requests": [about], **fields},
            **self.more,
        }


def api(lane: str, fault: Json, seen: Seen, *verbs: str, **more: object) -> Case:
    return Case(lane, {"apiFault": fault}, seen, verbs, dict(more))


def auth(lane: str, fault: str, seen: Seen, *verbs: str, **fields: object) -> Case:
    return Case(lane, {"authFault": {fault: fields}}, seen, verbs)


def watch(fault: Json, seen: Seen, **more: object) -> Case:
    return Case("watch", {"apiFault": {"watch": fault}}, seen, (), dict(more))


def events(do: str, seen: Seen) -> Case:
    """Every third change."""
    delay = {"Delay": {"delayMilliseconds": 3000}, "Reorder": {"delayMilliseconds": 1500}}
    return watch({"events": {"do": do, "types": ["MODIFIED"], **delay.get(do, {})}}, seen, nth=3)


def some(holds: Callable[[Json], object]) -> Seen:
    return lambda lines: any(holds(each) for each in lines)


def coded(code: int, reason: str = "", verb: str = "") -> Seen:
    def is_it(line: Json) -> bool:
        if line.get("code") != code or (verb and line["verb"] != verb):
            return False
        return not reason or json.loads(line["text"])["reason"] == reason

    return some(is_it)


def headed(name: str, value: str) -> Seen:
    return some(lambda line: (line.get("headers") or {}).get(name) == value)


def dated(line: Json) -> bool:
    value = (line.get("headers") or {}).get("retry-after", "")
    return not value.isdigit() and bool(value) and bool(parsedate_to_datetime(value))


def failed(*errors: str) -> Seen:
    return some(lambda line: line.get("error") in errors)


def took(seconds: float, verb: str) -> Seen:
    """Most of these requests: on a busy machine one or the other takes as long by itself."""

    def most(lines: list[Json]) -> bool:
        long: list[bool] = [
            line["took"] >= seconds for line in lines if line.get("code") == 200 and line["verb"] == verb
        ]
        return sum(long) > len(long) / 2

    return most


def steps(holds: Callable[[int], bool]) -> Seen:
    """One event of a watch is followed by another that is so many later."""

    def step(before: Json, after: Json) -> bool:
        return before["verb"] == after["verb"] == "event" and holds(after["number"] - before["number"])

    return lambda lines: any(step(*pair) for pair in pairwise(without(lines, "BOOKMARK")))


def without(lines: list[Json], kind: str) -> list[Json]:
    return [line for line in lines if line.get("type") != kind]


def silent(seconds: float) -> Seen:
    """Nothing came for so long before something did; what came last may have come before the fault."""
    return some(lambda line: line["since"] >= seconds)


def without_bookmarks(lines: list[Json]) -> bool:
    """As long as it lasts: one may still be under way when it begins, and the next one come as soon as it is over."""
    meanwhile = [line for line in lines if not line["over"] and not line["early"]]
    return meanwhile != [] and without(meanwhile, "BOOKMARK") == meanwhile


def done_though_lost(lines: list[Json]) -> bool:
    """It got no answer, and then found what it had asked for."""
    return any(
        before["verb"] == "create" and before.get("error") and after["verb"] == "get" and after.get("code") == 200
        for before, after in pairwise(lines)
    )


def ended_at_once(lines: list[Json]) -> bool:
    """Twice, and nothing came between."""
    return any(before.get("error") == after.get("error") == "" for before, after in pairwise(lines))


CASES: Final[Mapping[str, Case]] = {
    **{f"answer-{code}": api("get", {"answer": {"code": code}}, coded(code, why)) for code, why in CODES.items()},
    "retry-after": api("get", {"answer": {"code": 429, "retryAfterSeconds": 1}}, headed("retry-after", "1")),
    "retry-date": api("get", {"answer": {"code": 503, "retryAfterSeconds": 9, "retryAfterDate": True}}, some(dated)),
    "text": api("get", {"answer": {"code": 503, "body": "Text"}}, some(lambda one: "{" not in one.get("text", "{"))),
    "empty": api("get", {"answer": {"code": 500, "body": "Empty"}}, some(lambda one: one.get("text") == "")),
    "header": api(
        "get", {"answer": {"code": 500, "headers": [{"name": "Why", "value": "chaos"}]}}, headed("why", "chaos")
    ),
    "rate": api("get", {"rateLimit": {"requestsPerSecond": 1}}, coded(429)),
    "before": api("get", {"delay": {"beforeMilliseconds": 1200}}, took(1.2, "get")),
    "after": api("update", {"delay": {"afterMilliseconds": 1200}}, took(1.2, "update"), "update"),
    "lost": api("create", {"loseReply": {}}, done_though_lost, "create", nth=3),
    "lost-close": api("update", {"loseReply": {"ending": "Close"}}, failed("RemoteDisconnected"), "update"),
    "lost-silence": api("update", {"loseReply": {"ending": "Silence"}}, failed("TimeoutError"), "update"),
    "cut": api("get", {"cut": {}}, failed("ConnectionResetError")),
    "cut-close": api("get", {"cut": {"ending": "Close"}}, failed("RemoteDisconnected")),
    "cut-silence": api("get", {"cut": {"ending": "Silence"}}, failed("TimeoutError")),
    "conflict": api("update", {"genuine": "Conflict"}, coded(409, "Conflict", "update")),
    "stall": watch({"stall": {}}, silent(4.0)),
    "stall-drop": watch({"stall": {"drop": True}}, failed("ConnectionResetError")),
    "end-at-once": watch({"cut": {}}, ended_at_once),
    "mid-line": watch({"cut": {"where": "MidLine"}}, failed("JSONDecodeError")),
    "cut-reset": watch({"cut": {"ending": "Reset", "afterEvents": 2}}, failed("ConnectionResetError")),
    "error-410": watch({"error": {}}, some(lambda one: (one.get("type"), one.get("code")) == ("ERROR", 410))),
    "error-500": watch(
        {"error": {"code": 500}}, some(lambda one: (one.get("type"), one.get("code")) == ("ERROR", 500))
    ),
    "watch-410": api("watch", {"answer": {"code": 410}}, coded(410), "watch"),
    "drop": events("Drop", steps(lambda step: step == 2)),
    "repeat": events("Repeat", steps(lambda step: step == 0)),
    "delay": events("Delay", some(lambda one: one["verb"] == "event" and one["late"] >= 2.9)),
    "reorder": events("Reorder", steps(lambda step: step == -1)),
    "replay": events("Replay", steps(lambda step: step < -1)),
    "bookmarks": watch({"events": {"do": "Drop", "types": ["BOOKMARK"]}}, without_bookmarks),
    "expired": auth("get", "tokenExpired", coded(401, "Unauthorized")),
    "invalid": auth("get", "tokenInvalid", coded(401, "Unauthorized")),
    "revoked": auth("get", "tokenRevoked", coded(401, "Unauthorized")),
    "denied": auth("update", "permissionDenied", coded(403, "Forbidden", "update"), "update"),
    "elsewhere": auth("get", "wrongNamespace", coded(403, "Forbidden"), namespace="nowhere"),
    "third": api("get", {"answer": {"code": 500}}, coded(500), nth=3),
    "first-two": api("get", {"answer": {"code": 500}, "afterRequests": 2}, coded(500), firstN=2),
    "by-chance": api("get", {"answer": {"code": 500}}, coded(500), probability=50, seed=7),
}


@dataclass(frozen=True)
class Story:
    """Of one case: what its lane said without the fault and with it, and what became of the run."""

    before: list[Json]
    during: list[Json]
    injection: Json
    status: Json


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest, commands: Commands) -> Iterator[dict[str, Story]]:
    """Of all cases that are asked for: their faults are in force at the same time, each on a lane of its own."""
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    asked = [str(item.callspec.params["name"]) for item in items]
    groups = [asked[first : first + A_POD] for first in range(0, len(asked), A_POD)]
    with arming(commands), commands.namespace("bb-lanes") as namespace:
        commands.kubectl("label", "namespace", namespace, f"{ARM_LABEL}=enabled")
        commands.kubectl("apply", "-f", "-", stdin=commands.bounceback("access", namespace).out)
        commands.apply(namespace, *rights(namespace))
        for number, names in enumerate(groups):
            commands.apply(namespace, *client(f"client-{number}", names))
        for number, names in enumerate(groups):
            ready = ["--for=condition=Ready", f"--timeout={READY}s"]
            commands.kubectl("wait", "-n", namespace, f"pod/client-{number}", *ready)
            commands.apply(namespace, *experiment(f"client-{number}", names))
        told: dict[str, Story] = {}
        for number in range(len(groups)):
            told |= ended(commands, namespace, f"client-{number}")
        yield told


@pytest.mark.parametrize("name", CASES)
def test_a_client_sees_what_the_fault_is_and_it_is_proven(stories: dict[str, Story], name: str) -> None:
    story, case = stories[name], CASES[name]
    print(*map(json.dumps, (*story.before, story.injection, *story.during)), sep="\n")
    assert story.injection["hits"] > 0, story.injection
    assert story.injection["rung"] == "Proxy"
    assert case.seen(story.during), story.during
    assert not case.seen(story.before), story.before
    assert (story.status["verdict"], story.status["axes"]["cleanup"]) == ("Passed", "Clean"), story.status["findings"]


def rights(namespace: str) -> tuple[Json, ...]:
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "update"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create"]},
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "client"}}
    whose = {"kind": "ServiceAccount", "name": "default", "namespace": namespace}
    to = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "client"}
    return {**role, "rules": rules}, {**role, "kind": "RoleBinding", "roleRef": to, "subjects": [whose]}


def client(name: str, lanes: list[str]) -> tuple[Json, ...]:
    maps = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": lane}} for lane in lanes]
    what = json.dumps({lane: CASES[lane].lane for lane in lanes})
    return *maps, client_pod(name, "python3", "-c", LANES, what)


def experiment(name: str, lanes: list[str]) -> tuple[Json, ...]:
    """With a check that its pod is Ready."""
    ready = "object.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')"
    probe = {"name": "ready", "kubernetes": {"apiVersion": "v1", "kind": "Pod", "name": name, "expression": ready}}
    head = {"apiVersion": "bounceback.dev/v1alpha1", "metadata": {"name": name}}
    spec = {
        "targets": [{"name": "client", "pods": {"selector": {"matchLabels": {"app": name}}}}],
        "faults": [CASES[lane].entry(lane) for lane in lanes],
        "checks": [{"name": name}],
        "steadyState": {"holdSeconds": 5},
    }
    check = {"probes": [probe], "recovered": {"stableSeconds": 1}}
    return {**head, "kind": "RecoveryCheck", "spec": check}, {**head, "kind": "FaultExperiment", "spec": spec}


def ended(commands: Commands, namespace: str, name: str) -> dict[str, Story]:
    def status() -> Json:
        return dict(commands.get("faultexperiment", name, "-n", namespace).get("status") or {})

    until(lambda: status().get("phase") == "Finished", f"{name} is finished", RUN_SECONDS)
    found = status()
    said = [json.loads(line) for line in commands.kubectl("logs", "-n", namespace, name, "-c", "main").splitlines()]
    return {each["fault"]: story(found, each, said) for each in found.get("injections") or []}


def story(status: Json, injection: Json, said: list[Json]) -> Story:
    lane = [line for line in said if line["lane"] == injection["fault"]]
    began, over = (injection[key]["utc"] for key in ("inForceAt", "clearedAt"))
    written = 0.0  # the newest change that an event has told of so far; what comes after it in a stream left after it
    for last, line in zip(lane[:1] + lane, lane, strict=False):
        written = max(written, line["at"] - line["late"] if line.get("late") else 0.0)
        early = line["at"] >= began > written
        line |= {"since": line["at"] - last["at"], "over": line["at"] >= over, "early": early}
    before = [line for line in lane if line["at"] < injection["startAt"]]
    return Story(before, [line for line in lane if began <= line["at"] < over + 1], injection, status)
