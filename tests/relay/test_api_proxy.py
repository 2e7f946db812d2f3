"""The API proxy: what it passes on, and what rules make of requests and their answers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from time import monotonic

import pytest

from bounceback.proxy.api.client import Client
from bounceback.proxy.api.server import Server
from bounceback.types.api_rule import (
    Act,
    Answer,
    ApiRule,
    Body,
    Cut,
    Delay,
    Ending,
    LoseReply,
    OldVersion,
    OtherNamespace,
    RateLimit,
    Requests,
    SpoilToken,
    Token,
)
from bounceback.types.choice import Choice
from tests.relay.api_line import PODS, Line, answer, made, request, told
from tests.relay.conftest import until

WRITES = (Requests(verbs=("create", "update", "patch", "delete")),)
PAYLOAD = base64.urlsafe_b64encode(json.dumps({"sub": "system:serviceaccount:shop:web"}).encode()).decode().rstrip("=")
TOKEN = f"Authorization: Bearer aGVhZA.{PAYLOAD}.c2lnbmF0dXJlc2lnbmF0dXJl"


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    found, listener = await made()
    yield found
    listener.close()
    await found.gate.drain(0)
    for end in found.ends:
        end.close()
    found.server.close()


def rule(act: Act, *requests: Requests, name: str = "it", **more: object) -> ApiRule:
    return ApiRule(name, act, requests, **more)  # type: ignore[arg-type]


async def exchanged(line: Line, asked: bytes, replied: bytes) -> None:
    """Passes both ways, byte for byte."""
    client = await line.client()
    server, found = await line.asked(client, asked)
    assert found == asked
    await server.send(replied)
    assert await client.exactly(len(replied)) == replied
    client.close()


@pytest.mark.parametrize(
    ("asked", "replied"),
    [
        (request(), answer()),
        (request("GET", "/version", b"", "X-Odd:  kept as it is ", "x-odd: twice"), answer(404, b"no", "X-Also: 1")),
        (request("POST", PODS, b"x" * 300_000), answer(201, b"y" * 300_000)),
        (
            b"POST "
            + PODS.encode()
            + b" HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        (request("HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"),
        (request("DELETE", f"{PODS}/a"), b"HTTP/1.1 204 No Content\r\n\r\n"),
    ],
    ids=["get", "headers", "large", "chunked", "head", "no content"],
)
async def test_what_no_rule_hits_passes_byte_for_byte(line: Line, asked: bytes, replied: bytes) -> None:
    line.rules(rule(Answer(500), Requests(resources=("secrets",))))
    await exchanged(line, asked, replied)
    assert line.hits("it") == 0


async def test_a_connection_is_kept_for_the_next_request(line: Line) -> None:
    client = await line.client()
    server, _ = await line.asked(client, request())
    for asked in (request("HEAD"), request("POST", PODS, b"{}"), request()):
        await server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        assert (await told(client)).code == 200
        await client.send(asked)
        assert await server.exactly(len(asked)) == asked


HEADED = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [7, 1 << 16])
async def test_answers_of_all_kinds_follow_each_other_on_one_connection(line: Line, size: int) -> None:
    """Where each ends is found by one parser; the body that the head of a HEAD tells of never comes."""
    line.rules(rule(Answer(500), Requests(resources=("secrets",))))
    exchanges = [
        (request(), answer(200, b"whole")),
        (request("HEAD"), HEADED),
        (request(), HEADED + b"content"),
        (request("POST", PODS, b"{}"), b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED),
        (request("DELETE", f"{PODS}/a"), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (request("GET", f"{PODS}?watch=true"), CHUNKED),
        (request(), answer(404, b"no")),
        (request("HEAD"), HEADED),
        (request(), CHUNKED),
    ]
    client = await line.client()
    server = None
    for asked, replied in exchanges:
        if server is None:
            server, _ = await line.asked(client, asked)
        else:
            await client.send(asked)
            assert await server.exactly(len(asked)) == asked
        for n in range(0, len(replied), size):
            await server.send(replied[n : n + size])
            await asyncio.sleep(0)
        assert await client.exactly(len(replied)) == replied
    counted = line.gate.counted()
    assert counted["requests"] == len(exchanges)
    assert {code: n for kind in counted["behavior"]["kinds"] for code, n in kind["codes"].items()}.keys() == {
        "200",
        "204",
        "404",
    }


async def test_rules_that_come_are_about_requests_that_were_made_before(line: Line) -> None:
    """What is known of a request goes by the rules that are in force."""
    client = await line.client()
    server, _ = await line.asked(client, request())
    await server.send(answer())
    assert (await told(client)).code == 200
    for code in (503, 429):
        line.rules(rule(Answer(code), name=f"it-{code}"))
        await client.send(request())
        assert (await told(client)).code == code
    line.rules()
    await client.send(request())
    await server.exactly(len(request()))
    await server.send(answer())
    assert (await told(client)).code == 200


async def test_a_request_in_small_pieces_is_one(line: Line) -> None:
    client = await line.client()
    asked = request("PUT", f"{PODS}/a", b'{"a": 1}', TOKEN)
    line.rules(rule(Answer(409), Requests(verbs=("delete",))))
    for n in range(0, len(asked), 7):
        await client.send(asked[n : n + 7])
        await asyncio.sleep(0)
    server = await line.accept()
    assert await server.exactly(len(asked)) == asked


async def test_requests_that_do_not_wait_for_answers_are_refused(line: Line) -> None:
    client = await line.client()
    await client.send(request() + request())
    assert (await told(client)).code == 400
    assert await client.receive() == b""


async def test_what_is_no_http_is_refused(line: Line) -> None:
    client = await line.client()
    await client.send(b"\x16\x03\x01 hello\r\n\r\n")
    assert (await told(client)).code == 400


async def test_a_tunnel_is_a_tunnel_both_ways(line: Line) -> None:
    client = await line.client()
    upgrade = request("POST", f"{PODS}/a/exec?command=sh", b"", "Connection: Upgrade", "Upgrade: SPDY/3.1")
    server, _ = await line.asked(client, upgrade)
    switched = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n\x80\x03"
    await server.send(switched)
    assert await client.exactly(len(switched)) == switched
    await client.send(b"\x00not http\r\n\r\n")
    assert await server.exactly(13) == b"\x00not http\r\n\r\n"
    await server.send(b"\xffnor this")
    assert await client.exactly(9) == b"\xffnor this"
    server.close()
    assert await client.receive() == b""


async def test_an_upgrade_that_is_refused_ends_the_connection(line: Line) -> None:
    client = await line.client()
    server, _ = await line.asked(client, request("GET", PODS, b"", "Connection: Upgrade", "Upgrade: websocket"))
    await server.send(answer(403))
    assert (await told(client)).code == 403
    assert await client.receive() == b""


async def test_who_goes_takes_the_other_side_along(line: Line) -> None:
    client = await line.client()
    server, _ = await line.asked(client, request())
    client.close()
    assert await server.reset() or await server.receive() == b""
    client = await line.client()
    server, _ = await line.asked(client, request())
    server.close()
    assert await client.receive() == b""


async def test_where_no_api_server_is_a_client_is_reset(line: Line) -> None:
    line.server.close()
    client = await line.client()
    await client.send(request())
    assert await client.reset()


async def test_while_the_api_server_is_being_reached_a_client_waits(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, dial = asyncio.Event(), line.gate.dial

    async def slowly(client: Client) -> Server:
        await reached.wait()
        return await dial(client)

    monkeypatch.setattr(line.gate, "dial", slowly)
    client = await line.client()
    asked = request("POST", PODS, b"x" * 30_000_000)
    sending = asyncio.create_task(client.send(asked))
    _, pending = await asyncio.wait([sending], timeout=0.5)
    assert pending, "what nobody takes is not kept"
    reached.set()
    server = await line.accept()
    await server.exactly_dropped(len(asked))
    await sending
    await server.send(answer())
    assert (await told(client)).code == 200


async def test_an_answer_of_ours_looks_like_the_servers_and_the_connection_stays(line: Line) -> None:
    line.rules(rule(Answer(429, retry_after=2), *WRITES, choice=Choice(first_n=1)))
    client = await line.client()
    await client.send(request("PUT", f"{PODS}/a", b'{"a": 1}', TOKEN))
    found = await told(client)
    assert (found.code, found.headers["retry-after"]) == (429, "2")
    assert (found.status["reason"], found.status["details"]["retryAfterSeconds"]) == ("TooManyRequests", 2)
    asked = request("PUT", f"{PODS}/a", b'{"a": 1}')
    server, passed = await line.asked(client, asked)
    assert passed == asked
    await server.send(answer())
    assert (await told(client)).code == 200
    assert line.hits("it") == 1


async def test_who_is_forbidden_is_named_as_the_server_names_them(line: Line) -> None:
    line.rules(rule(Answer(403)))
    client = await line.client()
    await client.send(request("GET", f"{PODS}/a", b"", TOKEN))
    assert 'User "system:serviceaccount:shop:web" cannot get resource "pods"' in (await told(client)).status["message"]


async def test_a_rule_is_for_its_users_only(line: Line) -> None:
    line.rules(rule(Answer(401), users=("system:serviceaccount:shop:web",)))
    await exchanged(line, request("GET", PODS, b"", TOKEN.replace(PAYLOAD, "e30")), answer())
    await exchanged(
        line, request("POST", PODS, b"\r\n" + TOKEN.encode() + b"\r\n"), answer()
    )  # in a body it is no token
    client = await line.client()
    await client.send(request("GET", PODS, b"", TOKEN.replace("Authorization", "aUTHORIZATION")))
    assert (await told(client)).code == 401


@pytest.mark.parametrize("act", [Cut(Ending.RESET), LoseReply(Ending.RESET)], ids=["cut", "lose reply"])
async def test_a_reset_before_or_after_the_server_did_it(line: Line, act: Act) -> None:
    line.rules(rule(act, *WRITES))
    client = await line.client()
    asked = request("POST", PODS, b"{}")
    await client.send(asked)
    if isinstance(act, LoseReply):
        server = await line.accept()
        assert await server.exactly(len(asked)) == asked
        assert await client.is_silent(0.2)
        await server.send(answer(201))
    assert await client.reset()
    assert line.hits("it") == 1


async def test_a_lost_reply_may_look_like_an_orderly_end(line: Line) -> None:
    line.rules(rule(LoseReply(Ending.CLOSE), *WRITES))
    client = await line.client()
    server, _ = await line.asked(client, request("POST", PODS, b"{}"))
    await server.send(answer(201))
    assert await client.receive() == b""


async def test_silence_lasts_until_the_rule_is_lifted(line: Line) -> None:
    line.rules(rule(Cut(Ending.SILENCE)))
    client = await line.client()
    await client.send(request())
    assert await client.is_silent(0.3)
    line.rules()
    assert await client.reset()


async def test_delays_come_before_and_after_the_server_has_answered(line: Line) -> None:
    line.rules(rule(Delay(before_us=150_000, after_us=250_000)))
    client = await line.client()
    asked = request()
    began = monotonic()
    server, _ = await line.asked(client, asked)
    assert monotonic() - began >= 0.15
    answered = monotonic()
    await server.send(answer(200, b"x" * 3_000_000))
    assert len((await told(client)).body) == 3_000_000
    assert monotonic() - answered >= 0.24


async def test_a_client_that_gives_up_while_it_is_delayed_leaves_nothing_behind(line: Line) -> None:
    line.rules(rule(Delay(before_us=30_000_000)))
    client = await line.client()
    await client.send(request())
    await until(lambda: line.hits("it") == 1)
    client.close()
    await until(lambda: line.gate.counted()["open"] == 0)


async def test_an_answer_that_comes_too_late_is_a_lost_reply(line: Line) -> None:
    """What is done and told late, to a client that has gone, it does not know of."""
    line.rules(rule(Delay(after_us=30_000_000)))
    client = await line.client()
    server, _ = await line.asked(client, asked := request("POST", PODS, b"{}"))
    await server.send(answer(201))
    await until(lambda: line.hits("it") == 1)
    assert line.gate.behavior.report(monotonic())["kinds"][0]["codes"] == {}
    client.close()
    await until(lambda: line.gate.counted()["open"] == 0)
    line.rules()
    again = await line.client()
    server, _ = await line.asked(again, asked)
    await server.send(answer(201))
    await told(again)
    creates = line.gate.behavior.report(monotonic())["creates"]
    assert creates == {"lost": 1, "askedAgain": 1, "refused": 0, "duplicated": 1}


async def test_a_rate_limit_lets_through_what_it_promises(line: Line) -> None:
    line.rules(rule(RateLimit(per_second=0.001, burst=1)))
    await exchanged(line, request(), answer())
    client = await line.client()
    await client.send(request())
    found = await told(client)
    assert (found.code, found.headers["retry-after"]) == (429, "1")
    assert found.body == b"Too many requests, please try again later.\n"
    assert line.hits("it") == 1, "what it lets through it did not hit"


async def test_a_spoilt_token_differs_in_its_signature_alone(line: Line) -> None:
    line.rules(rule(SpoilToken()))
    asked = request("GET", PODS, b"", TOKEN)
    _, found = await line.asked(await line.client(), asked)
    before, after = (text.split(b"Bearer ")[1].split(b"\r\n")[0].split(b".") for text in (asked, found))
    assert before[:2] == after[:2]
    assert len(before[2]) == len(after[2])
    assert base64.urlsafe_b64decode(before[2]) != base64.urlsafe_b64decode(after[2])


async def test_a_new_token_heals_what_only_the_current_one_has(line: Line) -> None:
    line.rules(rule(SpoilToken(Token.CURRENT)))
    old, new = request("GET", PODS, b"", TOKEN), request("GET", PODS, b"", TOKEN.replace("c2ln", "bmV3"))
    for asked, spoilt in ((old, True), (old, True), (new, False), (old, True)):
        client = await line.client()
        await client.send(asked)
        server = await line.accept()
        assert (await server.exactly(len(asked)) != asked) is spoilt
    assert line.hits("it") == 3


async def test_who_has_no_token_is_told_so_by_us(line: Line) -> None:
    line.rules(rule(SpoilToken()))
    client = await line.client()
    await client.send(request())
    assert (await told(client)).status["reason"] == "Unauthorized"


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (request("PUT", f"{PODS}/a", b'{"metadata":{"resourceVersion":"99"}}'), {"metadata": {"resourceVersion": "1"}}),
        (
            request("PATCH", f"{PODS}/a", b'{"spec":{}}', "Content-Type: application/merge-patch+json"),
            {"spec": {}, "metadata": {"resourceVersion": "1"}},
        ),
        (
            request("DELETE", f"{PODS}/a"),
            {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"resourceVersion": "1"}},
        ),
    ],
    ids=["put", "patch", "delete"],
)
async def test_writes_can_be_made_stale(line: Line, asked: bytes, wanted: object) -> None:
    line.rules(rule(OldVersion()))
    client = await line.client()
    await client.send(asked)
    server = await line.accept()
    found = await server.receive()
    head, _, body = found.partition(b"\r\n\r\n")
    assert json.loads(body) == wanted
    assert b"Content-Length: %d" % len(body) in head
    assert head.lower().count(b"content-length") == 1


@pytest.mark.parametrize(
    "asked",
    [
        request("PUT", f"{PODS}/a", b"k8s\0protobuf"),
        request("PATCH", f"{PODS}/a", b'[{"op":"add"}]', "Content-Type: application/json-patch+json"),
        request("POST", PODS, b"{}"),
    ],
    ids=["protobuf", "json patch", "create"],
)
async def test_what_cannot_be_made_stale_passes_and_is_not_counted(line: Line, asked: bytes) -> None:
    line.rules(rule(OldVersion()))
    await exchanged(line, asked, answer())
    assert line.hits("it") == 0


async def test_lists_can_be_made_to_ask_for_what_is_gone(line: Line) -> None:
    line.rules(rule(OldVersion()))
    asked = request("GET", f"{PODS}?limit=500&resourceVersion=0&continue=abc")
    client = await line.client()
    await client.send(asked)
    found = await (await line.accept()).receive()
    assert found.startswith(f"GET {PODS}?limit=500&resourceVersion=1&resourceVersionMatch=Exact HTTP/1.1\r\n".encode())


async def test_another_namespace_in_path_and_object(line: Line) -> None:
    line.rules(rule(OtherNamespace("nowhere")))
    client = await line.client()
    await client.send(request("POST", f"{PODS}?fieldManager=x", b'{"metadata":{"namespace":"shop","name":"a"}}'))
    found = await (await line.accept()).receive()
    assert found.startswith(b"POST /api/v1/namespaces/nowhere/pods?fieldManager=x HTTP/1.1\r\n")
    assert found.endswith(b'{"metadata":{"namespace":"nowhere","name":"a"}}')


def has_seen(line: Line, number: int) -> Callable[[], bool]:
    return lambda: line.gate.counts()["it"].seen == number


async def decided(seed: int) -> bytes:
    """All that a client is told to forty requests, by a proxy of its own."""
    line, listener = await made()
    line.rules(rule(Answer(500, body=Body.TEXT), choice=Choice(0.5, seed=seed)), rule(Delay(1000, 0, 900), name="late"))
    client, asked, found = await line.client(), request(), b""
    server = None
    for number in range(1, 41):
        before = line.hits("it")
        await client.send(asked)
        await until(partial(line.has_seen, "it", number))
        if line.hits("it") == before:
            server = server or await line.accept()
            await server.exactly(len(asked))
            await server.send(answer())
        answered = await told(client)
        answered.headers.pop("date", None)
        found += f"{answered.code} {'Fine' if answered.code == 200 else ''} {sorted(answered.headers.items())}".encode()
    listener.close()
    await line.gate.drain(0)
    for end in line.ends:
        end.close()
    line.server.close()
    return found


async def test_the_same_seed_and_the_same_requests_make_the_same_decisions_byte_for_byte() -> None:
    first = await decided(7)
    assert await decided(7) == first
    assert await decided(8) != first
