"""What controllers make of faults between them and a real API server: the work is done in the end, or they say why not.

A scheduler (client-go), an operator of kopf and the Python client, each through the proxy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes import aio

from tests.commands import Commands, Json, until
from tests.integration.through import (
    Through,
    config_map,
    is_noted,
    operating,
    pending,
    said,
    scheduling,
    through,
)

pytestmark = pytest.mark.cluster


def api(resource: str, verbs: str, first: int = 0, **act: Any) -> Json:
    requests = [{"verbs": verbs.split(), "apiGroups": ["*"], "resources": [resource]}]
    return {"apiFault": {"requests": requests, **act}, "firstN": first}


@pytest.fixture(scope="module")
def proxied(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Through]:
    with through(commands, tmp_path_factory.mktemp("proxy")) as running:
        yield running


@pytest.fixture(scope="module")
def place(commands: Commands) -> Iterator[str]:
    with commands.namespace("bb-survival") as name:
        yield name


# client-go: a scheduler

SCHEDULER = "bb-survivor"


@pytest.fixture(scope="module")
def scheduler(
    proxied: Through, commands: Commands, place: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    with scheduling(proxied, place, tmp_path_factory.mktemp("scheduler"), SCHEDULER):
        roll(commands, place, "first")
        yield


def roll(commands: Commands, place: str, round_: str, patience: str = "60s") -> None:
    """Two new pods, which nobody else would schedule."""
    rolled = pending("rolled", SCHEDULER)
    rolled["spec"]["template"]["metadata"]["annotations"] = {"round": round_}
    commands.apply(place, rolled)
    commands.kubectl("rollout", "status", "deployment/rolled", "-n", place, f"--timeout={patience}")


BINDING = ("pods/binding", "create")
PODS = ("pods", "watch")
SURVIVED: dict[str, tuple[Json, int, int]] = {  # the fault; hits; how often the scheduler bound two pods
    "429, in 1 s: its library asks again": (api(*BINDING, 2, answer={"code": 429, "retryAfterSeconds": 1}), 2, 4),
    "409: the pod comes to its turn again": (api(*BINDING, 2, answer={"code": 409}), 2, 4),
    "500: the same": (api(*BINDING, 2, answer={"code": 500}), 2, 4),
    "403: the same": (api(*BINDING, 2, answer={"code": 403}), 2, 4),
    "no answer: the same": (api(*BINDING, 2, cut={}), 2, 4),
    "bound, and the reply lost: its informer tells": (api(*BINDING, 2, loseReply={}), 2, 2),
    "half a second late": (api(*BINDING, 0, delay={"beforeMilliseconds": 500}), 2, 2),
    "leases fail for less than the deadline": (api("leases", "update", 1, answer={"code": 500}), 1, 2),
    "a lease's version is old: it reads it again": (api("leases", "update", 1, genuine="Conflict"), 1, 2),
    "watches end at once": (api(*PODS, 2, watch={"cut": {}}), 2, 2),
    "watches are reset": (api(*PODS, 2, watch={"cut": {"ending": "Reset"}}), 2, 2),
    "watches end in mid-line": (api(*PODS, 1, watch={"cut": {"where": "MidLine"}}), 1, 2),
    "watches are too old": (api(*PODS, 1, watch={"error": {}}), 1, 2),
    "watches have an error": (api(*PODS, 1, watch={"error": {"code": 500}}), 1, 2),
    "all events come twice": (api(*PODS, 0, watch={"events": {"do": "Repeat"}}), -1, 2),
    "all events are late": (api(*PODS, 0, watch={"events": {"do": "Delay", "delayMilliseconds": 300}}), -1, 2),
}


@pytest.mark.parametrize("name", list(SURVIVED))
def test_a_scheduler_survives(scheduler: None, proxied: Through, commands: Commands, place: str, name: str) -> None:
    fault, hits, bound = SURVIVED[name]
    label = f"s{list(SURVIVED).index(name)}"
    before = proxied.asked("create", "pods/binding")
    with proxied.fault(label, **fault):
        roll(commands, place, label)
        if hits > 0:
            until(lambda: proxied.hits(label) >= hits, "the hits")
    assert proxied.hits(label) == hits or (hits < 0 and proxied.hits(label) >= 4)
    assert proxied.asked("create", "pods/binding") - before == bound


def test_a_scheduler_lists_again_what_is_gone(
    scheduler: None, proxied: Through, commands: Commands, place: str
) -> None:
    before = proxied.counters["behavior"]["watches"]["relisted"]
    with proxied.fault("gone", **api(*PODS, 1, watch={"error": {}})):
        until(lambda: proxied.counters["behavior"]["watches"]["relisted"] > before, "a list")
    roll(commands, place, "gone")


def test_a_stalled_scheduler_notices_nothing_until_it_is_over(
    scheduler: None, proxied: Through, commands: Commands, place: str
) -> None:
    for label, stall in (("stalled", {}), ("deaf", {"drop": True})):
        bound = proxied.asked("create", "pods/binding")
        with proxied.fault(label, **api(*PODS, 0, watch={"stall": stall})):
            with pytest.raises(AssertionError, match="timed out"):
                roll(commands, place, label, "4s")
            assert proxied.asked("create", "pods/binding") == bound
        roll(commands, place, label)


def test_a_scheduler_that_loses_its_lease_ends(proxied: Through, place: str, tmp_path: Path) -> None:
    with scheduling(proxied, place, tmp_path, "bb-loser", 4) as process:
        until(lambda: "acquired lease" in said(tmp_path, "scheduler"), "its lease")
        with proxied.fault("leaseless", **api("leases", "update patch create get", 0, answer={"code": 500})):
            assert process.wait(30) != 0


# kopf

NOTED: dict[str, Json] = {
    "patches are refused for now": api("configmaps", "patch", 1, answer={"code": 503}),
    "patches are too many": api("configmaps", "patch", 1, answer={"code": 429, "retryAfterSeconds": 1}),
    "patches are cut": api("configmaps", "patch", 1, cut={}),
    "patches' replies are lost": api("configmaps", "patch", 1, loseReply={}),
    "watches end at once": api("configmaps", "watch", 2, watch={"cut": {}}),
    "watches are reset": api("configmaps", "watch", 2, watch={"cut": {"ending": "Reset"}}),
    "watches are too old": api("configmaps", "watch", 1, watch={"error": {}}),
    "events come twice": api("configmaps", "watch", 0, watch={"events": {"do": "Repeat"}}),
    "events are late": api("configmaps", "watch", 0, watch={"events": {"do": "Delay", "delayMilliseconds": 300}}),
}


@pytest.fixture(scope="module")
def operator(proxied: Through, place: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with operating(proxied, place, tmp_path_factory.mktemp("operator")):
        yield


@pytest.mark.parametrize("name", list(NOTED))
def test_an_operator_of_kopf_survives(
    operator: None, proxied: Through, commands: Commands, place: str, name: str
) -> None:
    label = f"k{list(NOTED).index(name)}"
    with proxied.fault(label, **NOTED[name]):
        note(commands, place, label)
        until(lambda: is_noted(commands, place, label) and proxied.hits(label), "the note")
    note(commands, place, f"{label}-after")
    until(lambda: is_noted(commands, place, f"{label}-after"), "the note when all is well again")


def test_a_stalled_operator_notes_nothing_until_it_is_over(
    operator: None, proxied: Through, commands: Commands, place: str
) -> None:
    note(commands, place, "before")
    until(lambda: is_noted(commands, place, "before"), "the note")
    with proxied.fault("kopf-stalled", **api("configmaps", "watch", watch={"stall": {}})):
        note(commands, place, "stalled")
        with pytest.raises(AssertionError, match="not within"):
            until(lambda: is_noted(commands, place, "stalled"), "a note", 3)
    until(lambda: is_noted(commands, place, "stalled"), "the note")


def test_an_error_event_that_is_not_410_ends_an_operator_of_kopf(
    proxied: Through, commands: Commands, place: str, tmp_path: Path
) -> None:
    """Its watcher fails, and takes the others along: its pod would be started again."""
    with operating(proxied, place, tmp_path) as process:
        with proxied.fault("error-event", **api("configmaps", "watch", watch={"error": {"code": 500}})):
            assert process.wait(60) != 0
        assert "WatchingError" in said(tmp_path, "kopf")


def note(commands: Commands, place: str, word: str) -> None:
    noted = config_map("noted", word=word)
    noted["metadata"]["labels"] = {"noted": "please"}
    commands.apply(place, noted)


# The Python client

TRIES: dict[str, tuple[Json, str, int, int]] = {  # the fault, the verb, the code that the caller sees (0: none), tries
    "get, 503 in 0 s, twice": (
        api("configmaps", "get", 2, answer={"code": 503, "retryAfterSeconds": 0}),
        "get",
        200,
        3,
    ),
    "get, 429 with a date, twice": (
        api("configmaps", "get", 2, answer={"code": 429, "retryAfterSeconds": 1, "retryAfterDate": True}),
        "get",
        200,
        3,
    ),
    "get, 429 for ever": (api("configmaps", "get", 0, answer={"code": 429, "retryAfterSeconds": 0}), "get", 429, 4),
    "get, 429 without a time": (api("configmaps", "get", 0, answer={"code": 429}), "get", 429, 1),
    "get, 500": (api("configmaps", "get", 0, answer={"code": 500}), "get", 500, 1),
    "get, cut twice": (api("configmaps", "get", 2, cut={}), "get", 200, 3),
    "create, 429 in 0 s": (
        api("configmaps", "create", 0, answer={"code": 429, "retryAfterSeconds": 0}),
        "create",
        429,
        1,
    ),
    "create, reply lost": (api("configmaps", "create", 1, loseReply={}), "create", 0, 1),
    "patch, reply lost": (api("configmaps", "patch", 1, loseReply={}), "patch", 0, 1),
    "update, reply lost: it comes again": (api("configmaps", "update", 1, loseReply={}), "update", 409, 2),
    "delete, reply lost: it comes again": (api("configmaps", "delete", 1, loseReply={}), "delete", 404, 2),
}


@pytest.mark.parametrize("name", list(TRIES))
def test_the_python_client_tries_again(proxied: Through, commands: Commands, place: str, name: str) -> None:
    fault, verb, code, tries = TRIES[name]
    label = f"p{list(TRIES).index(name)}"
    commands.apply(place, config_map("tried", x="1"))
    before = proxied.asked(verb, "configmaps")
    with kubernetes.config.new_client_from_config(proxied.commands.kubeconfig) as connection:
        core = kubernetes.client.CoreV1Api(connection)
        tried: Any = core.read_namespaced_config_map("tried", place)
        tried.data = {"x": "2"}
        new: Any = config_map(label)
        before = proxied.asked(verb, "configmaps")
        ask: dict[str, Any] = {
            "get": lambda: core.read_namespaced_config_map("tried", place),
            "create": lambda: core.create_namespaced_config_map(place, new),
            "patch": lambda: core.patch_namespaced_config_map("tried", place, {"data": {"x": "2"}}),
            "update": lambda: core.replace_namespaced_config_map("tried", place, tried),
            "delete": lambda: core.delete_namespaced_config_map("tried", place),
        }
        with proxied.fault(label, **fault):
            assert outcome(ask[verb]) == code
    assert proxied.asked(verb, "configmaps") - before == tries


def outcome(ask: Any) -> int:
    """The status code; 0: an error without one."""
    try:
        ask()
    except kubernetes.client.ApiException as error:
        return int(error.status or 0)
    except Exception:  # noqa: BLE001 - urllib3's, whatever it was
        return 0
    return 200


@pytest.mark.parametrize("code", [401, 403, 404, 409, 410, 422, 429, 500, 502, 503, 504])
async def test_the_async_python_client_says_what_it_was_told(proxied: Through, place: str, code: int) -> None:
    """At once, and with the Status that it was."""
    async with await aio.config.new_client_from_config(proxied.commands.kubeconfig) as connection:
        core = aio.client.CoreV1Api(connection)
        with proxied.fault(f"a{code}", **api("configmaps", "list", 0, answer={"code": code})):
            with pytest.raises(aio.client.ApiException) as raised:
                await core.list_namespaced_config_map(place)
            assert (raised.value.status, json.loads(raised.value.body or "")["code"]) == (code, code)
            assert proxied.hits(f"a{code}") == 1
        await core.list_namespaced_config_map(place)


async def test_a_watch_of_the_async_python_client_ends_or_raises(proxied: Through, place: str) -> None:
    async with await aio.config.new_client_from_config(proxied.commands.kubeconfig) as connection:
        core = aio.client.CoreV1Api(connection)
        gone = api("configmaps", "watch", 0, watch={"error": {}})
        with proxied.fault("gone-at-once", **gone), pytest.raises(aio.client.ApiException, match="too old"):
            async for _ in aio.watch.Watch().stream(
                core.list_namespaced_config_map, place, resource_version="0", timeout_seconds=5
            ):
                pass
        with (
            proxied.fault("reset-at-once", **api("configmaps", "watch", 1, watch={"cut": {"ending": "Reset"}})),
            suppress(Exception),
        ):
            async for _ in aio.watch.Watch().stream(core.list_namespaced_config_map, place, timeout_seconds=2):
                pass
        assert proxied.hits("reset-at-once") == 1
