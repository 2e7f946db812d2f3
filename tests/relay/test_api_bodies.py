"""The API proxy and what is in requests: large ones, and names that only the body says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from bounceback.proxy.api.frames import MAGIC
from bounceback.proxy.api.protobuf import part
from bounceback.types.api_rule import Answer, ApiRule, Cut, Delay, Ending, LoseReply, OldVersion, OtherNamespace
from tests.relay.api_line import PODS, Line, answer, made, request, told
from tests.relay.conftest import End

LARGEST = 3 << 20  # that an API server takes
MORE = 9 << 20


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    found, listener = await made()
    yield found
    listener.close()
    await found.gate.drain(0)
    for end in found.ends:
        end.close()
    found.server.close()


def pod_of(size: int) -> bytes:
    body = json.dumps({"metadata": {"name": "a", "namespace": "shop"}, "filling": ""}).encode()
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


@pytest.mark.parametrize("size", [LARGEST, MORE])
async def test_large_requests_are_late_and_whole(line: Line, size: int) -> None:
    line.rules(ApiRule("it", Delay(before_us=200_000)))
    client, asked = await line.client(), request("POST", PODS, pod_of(size))
    sending = asyncio.create_task(client.send(asked))
    server = await line.accept()
    assert await server.exactly(len(asked)) == asked
    await sending
    await server.send(answer(201))
    assert (await told(client)).code == 201


@pytest.mark.parametrize("size", [LARGEST, MORE])
async def test_large_requests_are_answered_and_the_next_one_passes(line: Line, size: int) -> None:
    line.rules(ApiRule("it", Answer(403)))
    client = await line.client()
    await client.send(request("POST", PODS, pod_of(size)))
    assert (await told(client)).code == 403
    line.rules()
    await passes(line, client, request())


@pytest.mark.parametrize("act", [Cut(Ending.RESET), LoseReply(Ending.RESET)])
async def test_large_requests_are_cut(line: Line, act: Cut | LoseReply) -> None:
    line.rules(ApiRule("it", act))
    client = await line.client()
    asked = request("POST", PODS, pod_of(MORE))
    sending = asyncio.create_task(client.send(asked))
    if isinstance(act, LoseReply):
        server = await line.accept()
        await server.exactly_dropped(len(asked))
        await server.send(answer(201))
    await sending
    assert await client.reset()


@pytest.mark.parametrize("act", [OldVersion(), OtherNamespace("other")])
async def test_what_an_api_server_takes_can_be_changed(line: Line, act: OldVersion | OtherNamespace) -> None:
    line.rules(ApiRule("it", act))
    client = await line.client()
    sending = asyncio.create_task(client.send(request("PUT", f"{PODS}/a", pod_of(LARGEST))))
    server = await line.accept()
    head = b""
    while b"\r\n\r\n" not in head:
        head += await server.exactly(1)
    size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    metadata = json.loads(await server.exactly(size))["metadata"]
    assert metadata == {"name": "a", "namespace": "shop", "resourceVersion": "1"} or metadata["namespace"] == "other"
    await sending


async def test_more_than_an_api_server_takes_is_for_it_to_refuse(line: Line) -> None:
    line.rules(ApiRule("it", OldVersion()))
    client, asked = await line.client(), request("PUT", f"{PODS}/a", pod_of(MORE))
    sending = asyncio.create_task(client.send(asked))
    server = await line.accept()
    assert await server.exactly(len(asked)) == asked
    await sending
    assert line.hits("it") == 0


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (json.dumps({"metadata": {"name": "a"}}).encode(), "a"),
        (MAGIC + part(1, part(1, b"v1") + part(2, b"Pod")) + part(2, part(1, part(1, b"a"))), "a"),
        (json.dumps({"metadata": {"generateName": "a-"}}).encode(), ""),
        (MAGIC + b"\x12\x7f", ""),
        (b"kind: Pod", ""),
        (b"[]", ""),
    ],
    ids=["json", "protobuf", "generated", "broken protobuf", "yaml", "list"],
)
async def test_what_is_there_already_has_the_name_that_the_body_says(line: Line, body: bytes, named: str) -> None:
    line.rules(ApiRule("it", Answer(409)))
    client = await line.client()
    await client.send(request("POST", PODS, body))
    status = (await told(client)).status
    assert (status["reason"], status["message"]) == ("AlreadyExists", f'pods "{named}" already exists')
    assert status["details"].get("name", "") == named


UNKNOWN = part(1, part(1, b"v1") + part(2, b"Pod"))  # its TypeMeta
METADATA = part(1, b"a") + part(3, b"shop") + part(6, b"77")


@pytest.mark.parametrize(
    ("act", "verb", "object_", "more"),
    [
        (OldVersion(), "PUT", part(1, METADATA) + part(2, b"spec"), part(1, part(6, b"1"))),
        (OldVersion(), "DELETE", part(4, b"Background"), part(2, part(2, b"1"))),
        (OtherNamespace("other"), "PUT", part(1, METADATA), part(1, part(3, b"other"))),
        (OtherNamespace("other"), "PUT", part(1, part(1, b"a")), b""),
    ],
    ids=["update", "delete", "namespace", "none"],
)
async def test_objects_in_protobuf_are_changed(
    line: Line, act: OldVersion | OtherNamespace, verb: str, object_: bytes, more: bytes
) -> None:
    """What comes after the rest is merged into it by who reads it."""
    line.rules(ApiRule("it", act))
    client = await line.client()
    kind = "Content-Type: application/vnd.kubernetes.protobuf"
    await client.send(request(verb, f"{PODS}/a", MAGIC + UNKNOWN + part(2, object_) + part(3, b""), kind))
    server = await line.accept()
    wanted = MAGIC + UNKNOWN + part(2, object_ + more) + part(3, b"")
    found = b""
    while not found.endswith(wanted):
        found += await server.exactly(1)
    assert kind.encode() in found
    assert line.hits("it") == 1


async def passes(line: Line, client: End, asked: bytes) -> None:
    server, found = await line.asked(client, asked)
    assert found == asked
    await server.send(answer())
    assert (await told(client)).code == 200
