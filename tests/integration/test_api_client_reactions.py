"""What kubectl, and client-go in it, makes of each fault: the table that docs/api-faults.md promises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.commands import Commands, Json, until
from tests.integration.through import (
    Through,
    account,
    config_map,
    exec_plugin,
    kubeconfig_as,
    said,
    started,
    through,
    timed,
)
from tests.integration.through import kubectl as line_of

pytestmark = pytest.mark.cluster
GET = ("get", "configmap", "a")
LIST = ("get", "configmaps")
CREATE = ("create", "configmap", "new")
PATCH = ("patch", "configmap", "a", "--type=merge", '-p={"data":{"x":"3"}}')
JSON_PATCH = ("patch", "configmap", "a", "--type=json", '-p=[{"op":"add","path":"/data/y","value":"3"}]')
WATCH = ("get", "configmaps", "-w")
CHANGED = json.dumps(config_map("a", x="2"))


@dataclass(frozen=True)
class Reaction:
    """To a fault on config maps: the exit code, words of the error, hits, and what it took at least."""

    fault: Json
    line: tuple[str, ...]
    code: int
    says: str = ""
    hits: int = 1
    seconds: float = 0.0
    stdin: str | None = None


def api(first: int = 0, verbs: str = "", **act: Any) -> Json:
    requests = [{"verbs": verbs.split(), "resources": ["configmaps"]}]
    return {"apiFault": {"requests": requests, **act}, "firstN": first}


def auth(**act: Any) -> Json:
    return {"authFault": {"requests": [{"resources": ["configmaps"]}], **act}}


def error(code: int, first: int = 2, verbs: str = "", **more: Any) -> Json:
    return api(first, verbs, answer={"code": code, **more})


MODIFIED = "the object has been modified"
REACTIONS = {
    # client-go tries again by itself where Retry-After is a number, writes included
    "429, in 1 s": Reaction(error(429, retryAfterSeconds=1), GET, 0, hits=2, seconds=2),
    "429, in 1 s, to a write": Reaction(error(429, verbs="create", retryAfterSeconds=1), CREATE, 0, hits=2, seconds=2),
    "429 without a time": Reaction(error(429), GET, 1, "(TooManyRequests)"),
    "429 with a date": Reaction(error(429, retryAfterSeconds=1, retryAfterDate=True), GET, 1, "(TooManyRequests)"),
    "429 for ever": Reaction(error(429, first=0, retryAfterSeconds=0), GET, 1, "(TooManyRequests)", hits=11),
    "500, at once": Reaction(error(500, retryAfterSeconds=0), GET, 0, hits=2),
    "500": Reaction(error(500), GET, 1, "(InternalError)"),
    "502 of a load balancer": Reaction(error(502, body="Text"), GET, 1, "502 Bad Gateway"),
    "503 without a body": Reaction(error(503, body="Empty"), GET, 1, "currently unable to handle the request"),
    "504": Reaction(error(504), GET, 1, "(Timeout)"),
    # never again
    "400": Reaction(error(400), GET, 1, "(BadRequest)"),
    "401": Reaction(error(401), GET, 1, "You must be logged in"),
    "403": Reaction(error(403), GET, 1, 'cannot get resource "configmaps" in API group ""'),
    "404": Reaction(error(404), GET, 1, '(NotFound): configmaps "a" not found'),
    "422": Reaction(error(422, verbs="create"), CREATE, 1, "is invalid"),
    "409 to a create": Reaction(error(409, verbs="create"), CREATE, 1, 'configmaps "new" already exists'),
    "410 to a list": Reaction(error(410), LIST, 1, "(Expired)"),
    # apply reads the object again and tries again, nobody else does
    "a real conflict of apply": Reaction(api(2, genuine="Conflict"), ("apply", "-f", "-"), 0, hits=2, stdin=CHANGED),
    "a real conflict of patch": Reaction(api(2, genuine="Conflict"), PATCH, 1, MODIFIED),
    "a real conflict of replace": Reaction(
        api(2, genuine="Conflict"), ("replace", "-f", "-"), 1, MODIFIED, stdin=CHANGED
    ),
    "a real conflict of delete": Reaction(api(2, genuine="Conflict"), ("delete", "configmap", "a"), 1, "(Conflict)"),
    "a JSON patch cannot be made old": Reaction(api(2, genuine="Conflict"), JSON_PATCH, 0, hits=0),
    # connections: reads again, writes never
    "a read is cut": Reaction(api(2, "get", cut={}), GET, 0, hits=2, seconds=2),
    "a read gets no answer": Reaction(api(2, "get", cut={"ending": "Close"}), GET, 0, hits=2, seconds=2),
    "a write is cut": Reaction(api(2, "create", cut={}), CREATE, 1, "connection reset"),
    "a read's reply is lost": Reaction(api(2, "get", loseReply={}), GET, 0, hits=2, seconds=2),
    "a request comes late": Reaction(api(1, "get", delay={"beforeMilliseconds": 700}), GET, 0, seconds=0.7),
    "an answer comes late": Reaction(api(1, "create", delay={"afterMilliseconds": 700}), CREATE, 0, seconds=0.7),
    "silence": Reaction(
        api(1, "get", cut={"ending": "Silence"}), (*GET, "--request-timeout=1s"), 1, "exceeded", seconds=1
    ),
    # identity
    "denied": Reaction(auth(permissionDenied={}), GET, 1, "(Forbidden)"),
    "another namespace": Reaction(auth(wrongNamespace={"namespace": "bb-nowhere"}), GET, 1, "(NotFound)"),
    "a list of another namespace": Reaction(
        auth(wrongNamespace={"namespace": "bb-nowhere"}), LIST, 0, "No resources found"
    ),
    "a write to another namespace": Reaction(
        auth(wrongNamespace={"namespace": "bb-nowhere"}),
        ("create", "-f", "-"),
        1,
        'namespaces "bb-nowhere" not found',
        stdin=json.dumps(config_map("new")),
    ),
    "a write in protobuf": Reaction(
        auth(wrongNamespace={"namespace": "bb-nowhere"}), CREATE, 1, 'namespaces "bb-nowhere" not found'
    ),
    "a spoilt token where there is a certificate": Reaction(auth(tokenInvalid={}), GET, 1, "You must be logged in"),
    # kubectl get -w has no reflector: any end of its watch is the end
    "a watch that ends": Reaction(api(2, watch={"cut": {}}), WATCH, 0),
    "a watch that is too old": Reaction(error(410, verbs="watch"), WATCH, 1, "(Expired)"),
    "a watch with an error": Reaction(api(2, watch={"error": {}}), WATCH, 0),
}


@pytest.fixture(scope="module")
def proxied(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Through]:
    with through(commands, tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture(scope="module")
def place(commands: Commands) -> Iterator[str]:
    with commands.namespace("bb-reaction") as name:
        yield name


@pytest.mark.parametrize("name", list(REACTIONS))
def test_a_reaction(proxied: Through, commands: Commands, place: str, name: str) -> None:
    expected = REACTIONS[name]
    commands.apply(place, config_map("a", x="1"))
    commands.kubectl("delete", "configmap", "new", "-n", place, "--ignore-not-found")
    fault = f"f{list(REACTIONS).index(name)}"
    with proxied.fault(fault, **expected.fault):
        result, took = timed(proxied.commands, "-n", place, *expected.line, stdin=expected.stdin)
    assert (result.code, proxied.hits(fault)) == (expected.code, expected.hits), result.err
    assert expected.says in result.err
    assert took >= expected.seconds


def test_a_limit_slows_down_and_fails_nothing(proxied: Through, commands: Commands, place: str) -> None:
    """kubectl reads four objects within milliseconds; its library waits as long as it is told to."""
    commands.apply(place, config_map("a", x="1"))
    with proxied.fault("limit", **api(verbs="get", rateLimit={"requestsPerSecond": 1})):
        result, took = timed(proxied.commands, "-n", place, "get", "configmap", "a", "a", "a", "a")
    assert (result.code, proxied.hits("limit") >= 3, took >= 3) == (0, True, True), result.err


@pytest.mark.parametrize("ending", ["Reset", "Close", "Silence"])
def test_a_create_whose_reply_is_lost_fails_and_is_done(
    proxied: Through, commands: Commands, place: str, ending: str
) -> None:
    name = f"lost-{ending.lower()}"
    with proxied.fault(name, **api(1, "create", loseReply={"ending": ending})):
        create = ("create", "configmap", name, "-n", place, "--request-timeout=3s")
        assert proxied.commands.ask("kubectl", *create).code == 1
        assert commands.ask("kubectl", "get", "configmap", name, "-n", place).code == 0
        assert "already exists" in proxied.commands.ask("kubectl", *create).err
    creates = proxied.counters["behavior"]["creates"]
    assert (creates["lost"], creates["refused"], creates["duplicated"]) == ((creates["lost"],) * 2 + (0,))


def test_a_stalled_watch_is_late_and_a_dropping_one_reset(
    proxied: Through, commands: Commands, place: str, tmp_path: Path
) -> None:
    watches = proxied.asked("watch", "configmaps")
    with started(line_of(proxied.commands, *WATCH, "-n", place, "-o", "name"), tmp_path, "watch") as watching:
        until(lambda: proxied.asked("watch", "configmaps") > watches, "a watch")
        with proxied.fault("stall", **api(watch={"stall": {}})):
            commands.apply(place, config_map("stalled"))
            commands.kubectl("get", "configmaps", "-n", place)
            assert "stalled" not in said(tmp_path, "watch")
        until(lambda: "stalled" in said(tmp_path, "watch"), "what had been held")
        with proxied.fault("deaf", **api(watch={"stall": {"drop": True}})):
            commands.apply(place, config_map("unheard"))
        assert watching.wait(20) == 0
        assert "unheard" not in said(tmp_path, "watch")


@pytest.mark.parametrize("heals", [True, False], ids=["plug-in", "static"])
def test_an_expired_token_is_healed_by_a_new_one(commands: Commands, place: str, tmp_path: Path, heals: bool) -> None:
    """client-go runs its plug-in again after a 401; the next request has what that said."""
    name = f"expiring-{heals}".lower()
    token = account(commands, place, name)
    user = exec_plugin(tmp_path, token) if heals else {"token": token}
    out = tmp_path / "out"
    out.mkdir()
    with through(kubeconfig_as(commands, tmp_path / "config", user), out) as proxied:
        proxied.commands.kubectl("get", "configmaps", "-n", place)
        with proxied.fault("expired", authFault={"requests": [{"resources": ["configmaps"]}], "tokenExpired": {}}):
            watch = ("wait", "configmap/a", "-n", place, "--for=jsonpath={.data.x}=1", "--timeout=5s")
            assert proxied.commands.ask("kubectl", *watch).code == 1
            if heals:
                (tmp_path / "credential").write_text(
                    commands.kubectl("create", "token", name, "-n", place).strip(), encoding="utf-8"
                )
            again = [proxied.commands.ask("kubectl", "get", "configmaps", "-n", place) for _ in range(2)]
            assert [each.code for each in again] == ([0, 0] if heals else [1, 1]), again[0].err
        assert proxied.commands.ask("kubectl", "get", "configmaps", "-n", place).code == 0
