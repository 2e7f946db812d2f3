"""Our answers beside those of a real API server: the same Status, text, headers and events, word for word."""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pykube
import pytest

from bounceback.cli import kubeconfig as kubeconfigs
from bounceback.proxy.api.frames import Frame, framing
from bounceback.proxy.api.status import Reply, gone_event, reply, throttled
from bounceback.types.api_request import ApiRequest, read
from bounceback.types.api_rule import Answer
from tests.commands import Commands, until

pytestmark = pytest.mark.cluster
WEB = "system:serviceaccount:shop:web"
AS_WEB = {"Impersonate-User": WEB}
MERGE = {"Content-Type": "application/merge-patch+json"}
FLOW = "/apis/flowcontrol.apiserver.k8s.io/v1"
RBAC = "rbac.authorization.k8s.io"
PROTOBUF = "application/vnd.kubernetes.protobuf"
CLASSIFIED = "X-Kubernetes-PF-FlowSchema-UID"
COMPARED = ("Content-Type", "Cache-Control", "X-Content-Type-Options", "Retry-After")
Json = dict[str, Any]


@dataclass(frozen=True)
class Said:
    """What the API server answered."""

    code: int
    phrase: str
    headers: dict[str, str | None]
    body: bytes
    schema: str = ""  # of priority and fairness, by its uid

    @property
    def status(self) -> Json:
        found: Json = json.loads(self.body)
        return found


class Server:
    """The API server, asked without a client library's help."""

    def __init__(self, client: pykube.HTTPClient) -> None:
        self._client = client

    def ask(self, method: str, target: str, body: Json | str | None = None, **headers: str) -> Said:
        data = json.dumps(body) if isinstance(body, dict) else body
        sent = {"Content-Type": "application/json", **headers} if data is not None else headers
        got = self._client.session.request(method, self._client.url + target, data=data, headers=sent, timeout=30)
        compared = {name: got.headers.get(name) for name in COMPARED}
        return Said(got.status_code, got.reason, compared, got.content, got.headers.get(CLASSIFIED, ""))

    def make(self, target: str, body: Json) -> str:
        """The uid of what was made."""
        said = self.ask("POST", target, body)
        assert said.code == 201, said.body
        return str(said.status["metadata"]["uid"])


@pytest.fixture(scope="module")
def server(kubeconfig: str) -> Server:
    return Server(kubeconfigs.client(kubeconfigs.load(kubeconfig, None)))


@pytest.fixture(scope="module")
def place(commands: Commands, server: Server) -> Iterator[str]:
    """A namespace with the config map `a` and the disruption budget `b`."""
    with commands.namespace("bb-said") as name:
        server.make(f"/api/v1/namespaces/{name}/configmaps", {"metadata": {"name": "a"}})
        budget = {"metadata": {"name": "b"}, "spec": {"maxUnavailable": 1}}
        server.make(f"/apis/policy/v1/namespaces/{name}/poddisruptionbudgets", budget)
        yield name


def ours(answer: Answer, request: ApiRequest, user: str = "") -> Reply:
    return reply(answer, request, user, datetime.now(UTC))


def assert_same(said: Said, made: Reply) -> None:
    """But for the order of headers, and those that say which server it was, and when."""
    headers = {name.decode(): value.decode() for name, value in made.headers}
    assert (made.code, made.phrase) == (said.code, said.phrase)
    assert {name: headers.get(name) for name in COMPARED} == said.headers
    assert made.body == said.body


CASES: list[tuple[str, int, str, str, Json | str | None, dict[str, str]]] = [
    ("forbidden", 403, "GET", "/api/v1/namespaces/{}/configmaps/a", None, AS_WEB),
    ("forbidden list", 403, "GET", "/api/v1/namespaces/{}/configmaps", None, AS_WEB),
    ("forbidden watch", 403, "GET", "/api/v1/namespaces/{}/configmaps?watch=1", None, AS_WEB),
    ("forbidden in the cluster", 403, "GET", "/api/v1/nodes/a", None, AS_WEB),
    ("forbidden namespace", 403, "GET", "/api/v1/namespaces/{}", None, AS_WEB),
    ("forbidden subresource", 403, "GET", "/apis/apps/v1/namespaces/{}/deployments/a/scale", None, AS_WEB),
    ("forbidden path", 403, "GET", "/metrics", None, AS_WEB),
    ("forbidden write", 403, "DELETE", "/api/v1/namespaces/{}/configmaps", None, AS_WEB),
    ("not found", 404, "GET", "/api/v1/namespaces/{}/configmaps/none", None, {}),
    ("not found in a group", 404, "GET", "/apis/apps/v1/namespaces/{}/deployments/none", None, {}),
    ("subresource not found", 404, "GET", "/apis/apps/v1/namespaces/{}/deployments/none/scale", None, {}),
    ("write not found", 404, "PATCH", "/api/v1/namespaces/{}/configmaps/none", "{}", MERGE),
    ("resource not found", 404, "GET", "/api/v1/namespaces/{}/nothings", None, {}),
    ("namespace not found", 404, "POST", "/api/v1/namespaces/bb-none/configmaps", {"metadata": {"name": "x"}}, {}),
    ("wrong method", 405, "PUT", "/api/v1/namespaces/{}/configmaps", {"metadata": {"name": "a"}}, {}),
    ("is there", 409, "POST", "/api/v1/namespaces/{}/configmaps", {"metadata": {"name": "a"}}, {}),
    (
        "modified",
        409,
        "PUT",
        "/api/v1/namespaces/{}/configmaps/a",
        {"metadata": {"name": "a", "resourceVersion": "1"}},
        {},
    ),
    (
        "modified, patched",
        409,
        "PATCH",
        "/api/v1/namespaces/{}/configmaps/a",
        '{"metadata":{"resourceVersion":"1"}}',
        MERGE,
    ),
    ("too large", 413, "POST", "/api/v1/namespaces/{}/configmaps", {"data": {"a": "x" * 3_200_000}}, {}),
    ("unknown type", 415, "POST", "/api/v1/namespaces/{}/configmaps", "{}", {"Content-Type": "application/nope"}),
    ("unknown patch", 415, "PATCH", "/api/v1/namespaces/{}/configmaps/a", "{}", {}),
    ("no name", 422, "POST", "/api/v1/namespaces/{}/configmaps", {"metadata": {}}, {}),
    (
        "no version",
        422,
        "PUT",
        "/apis/policy/v1/namespaces/{}/poddisruptionbudgets/b",
        {"metadata": {"name": "b"}, "spec": {"maxUnavailable": 2}},
        {},
    ),
]


@pytest.mark.parametrize(
    ("code", "method", "target", "body", "headers"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_our_status_is_the_servers(
    server: Server, place: str, code: int, method: str, target: str, body: Json | str | None, headers: dict[str, str]
) -> None:
    target = target.format(place)
    said = server.ask(method, target, body, **headers)
    assert said.code == code, said.body
    request = read(method, target)
    if request.verb == "create" and isinstance(body, dict):
        request = replace(request, name=body.get("metadata", {}).get("name", ""))
    assert_same(said, ours(Answer(code), request, headers.get("Impersonate-User", "")))


def test_who_is_not_known_is_told_so(server: Server, kubeconfig: str) -> None:
    loaded = kubeconfigs.load(kubeconfig, None)
    loaded.doc["users"] = [{"name": user["name"], "user": {"token": "spoilt"}} for user in loaded.doc["users"]]
    said = Server(pykube.HTTPClient(loaded)).ask("GET", "/api/v1/pods")
    assert_same(said, ours(Answer(401), read("GET", "/api/v1/pods")))


def test_a_bad_request_differs_only_in_what_was_bad(server: Server, place: str) -> None:
    said = server.ask("GET", f"/api/v1/namespaces/{place}/configmaps?limit=x")
    answer = Answer(400, message=said.status["message"])
    assert_same(said, ours(answer, read("GET", f"/api/v1/namespaces/{place}/configmaps")))


def test_a_list_of_long_ago_has_expired(server: Server) -> None:
    target = "/api/v1/pods?resourceVersion=1&resourceVersionMatch=Exact"
    said = server.ask("GET", target)
    if said.code == 200:
        pytest.skip("etcd still knows revision 1: it is compacted every five minutes")
    assert_same(said, ours(Answer(410), read("GET", target)))


def test_a_timeout_says_the_same_but_as_a_whole_status(server: Server, place: str) -> None:
    """The server's own filter leaves out kind and apiVersion and calls it text: no client takes that for a Status."""
    target = f"/api/v1/namespaces/{place}/configmaps?resourceVersion=99999999&timeout=1s"
    said = server.ask("GET", target)
    made = ours(Answer(504), read("GET", target))
    assert (said.code, said.phrase) == (made.code, made.phrase)
    assert json.loads(made.body) == {"kind": "Status", "apiVersion": "v1", **said.status}


# Throttling


@pytest.fixture
def narrow(server: Server, place: str) -> Iterator[str]:
    """A user who may list what is in `place`, one request at a time."""
    user = f"bb-said-{uuid.uuid4().hex[:6]}"
    subject = {"kind": "User", "name": user}
    server.make(
        f"/apis/{RBAC}/v1/namespaces/{place}/rolebindings",
        {
            "metadata": {"name": user},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"apiGroup": RBAC, **subject}],
        },
    )
    everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True}
    limited = {
        "nominalConcurrencyShares": 0,
        "lendablePercent": 0,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }
    level = {"metadata": {"name": user}, "spec": {"type": "Limited", "limited": limited}}
    schema = {
        "metadata": {"name": user},
        "spec": {
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": user},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}], "resourceRules": [everything]}],
        },
    }
    try:
        server.make(f"{FLOW}/prioritylevelconfigurations", level)
        uid = server.make(f"{FLOW}/flowschemas", schema)
        nodes = "/api/v1/nodes"
        until(lambda: server.ask("GET", nodes, **{"Impersonate-User": user}).schema == uid, "the schema in force", 30)
        yield user
    finally:
        server.ask("DELETE", f"{FLOW}/flowschemas/{user}")
        server.ask("DELETE", f"{FLOW}/prioritylevelconfigurations/{user}")


def test_throttling_is_that_of_priority_and_fairness(server: Server, kubeconfig: str, place: str, narrow: str) -> None:
    target = f"/api/v1/namespaces/{place}/configmaps"
    with seated(Server(kubeconfigs.client(kubeconfigs.load(kubeconfig, None))), target, narrow):
        said: Said = until(refused(server, target, narrow), "a refused request", seconds=30)
    seconds = said.headers["Retry-After"]
    assert seconds is not None and 1 <= int(seconds) <= 32
    assert_same(said, ours(throttled(int(seconds)), read("GET", target)))


@contextlib.contextmanager
def seated(server: Server, target: str, user: str) -> Iterator[None]:
    """The only seat is taken, again and again: by lists that wait some seconds for a version that never comes."""
    done = threading.Event()

    def sit() -> None:
        while not done.is_set():
            server.ask("GET", f"{target}?resourceVersion=99999999&timeout=5s", **{"Impersonate-User": user})

    sitting = threading.Thread(target=sit)
    sitting.start()
    try:
        yield
    finally:
        done.set()
        sitting.join()


def refused(server: Server, target: str, user: str) -> Callable[[], Said | None]:
    def ask() -> Said | None:
        said = server.ask("GET", target, **{"Impersonate-User": user})
        return said if said.code == 429 else None

    return ask


# Watches


def watched(server: Server, target: str, accept: str) -> tuple[str, list[Frame]]:
    """The Content-Type of a watch of one second, and what came."""
    said = server.ask("GET", target, Accept=accept)
    content_type = str(said.headers["Content-Type"])
    cutter = framing(content_type)
    assert cutter is not None
    frames = cutter.feed(said.body)
    assert not cutter.partial
    return content_type, frames


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
        PROTOBUF,
        f"{PROTOBUF};stream=watch",
        f"{PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    ],
)
def test_events_of_a_watch_are_read_in_each_encoding(server: Server, place: str, accept: str) -> None:
    target = f"/api/v1/namespaces/{place}/configmaps?watch=1&timeoutSeconds=3&fieldSelector=metadata.name%3Da"
    content_type, (event,) = watched(server, target, accept)
    assert content_type.startswith(accept.partition(";")[0])
    assert (event.type, event.name, event.namespace) == ("ADDED", "a", place)
    assert event.version.isdecimal()


@pytest.mark.parametrize("accept", ["application/json", PROTOBUF])
def test_our_error_event_is_the_servers(server: Server, accept: str) -> None:
    """Leases are renewed all the time: what the watch cache remembers of them does not reach back to the beginning."""
    for resource in ("coordination.k8s.io/v1/leases", "apiregistration.k8s.io/v1/apiservices"):
        target = f"/apis/{resource}?watch=1&timeoutSeconds=1&resourceVersion=1"
        content_type, events = watched(server, target, accept)
        if [event.type for event in events] == ["ERROR"]:
            break
    else:
        pytest.skip("the watch cache still knows revision 1")
    plain = json.loads(server.ask("GET", target).body)["object"]
    while True:  # what it remembers moves on, and with it the message
        content_type, events = watched(server, target, accept)
        before, plain = plain, json.loads(server.ask("GET", target).body)["object"]
        if before == plain:
            break
    cutter = framing(content_type)
    assert cutter is not None
    assert cutter.error(gone_event(410, plain["message"])) == events[0].raw
