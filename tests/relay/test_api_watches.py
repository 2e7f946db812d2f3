"""Watches through the API proxy: events on their way, and what becomes of them on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bounceback.types.api_rule import (
    Act,
    ApiRule,
    CutWatch,
    Delay,
    Ending,
    ErrorEvent,
    Event,
    Events,
    OldVersion,
    Stall,
    Where,
)
from bounceback.types.choice import Choice
from tests.relay.api_line import (
    PODS,
    WATCH_HEAD,
    Line,
    answer,
    chunk,
    chunked,
    chunks,
    event,
    made,
    names,
    request,
    told,
)
from tests.relay.conftest import End

ASKED = request("GET", f"{PODS}?watch=true&resourceVersion=5")


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    found, listener = await made()
    yield found
    listener.close()
    await found.gate.drain(0)
    for end in found.ends:
        end.close()
    found.server.close()


def rule(act: Act, **more: object) -> ApiRule:
    return ApiRule("it", act, **more)  # type: ignore[arg-type]


async def watching(line: Line, *first: bytes) -> tuple[End, End]:
    """The client's and the server's end of a watch that is open."""
    client = await line.client()
    server, _ = await line.asked(client, ASKED)
    await server.send(WATCH_HEAD + chunked(*first))
    assert await client.exactly(len(WATCH_HEAD)) == WATCH_HEAD
    return client, server


async def test_events_pass_as_they_come(line: Line) -> None:
    client, server = await watching(line)
    for name in ("a", "b"):
        await server.send(chunked(event(name)))
        assert await chunk(client) == event(name)
    await server.send(b"0\r\n\r\n")
    assert await chunk(client) == b""
    await client.send(request())
    assert await server.exactly(len(request())) == request(), "an orderly end leaves the connection to the next request"


async def test_an_error_instead_of_a_watch_passes_as_it_is(line: Line) -> None:
    line.rules(rule(Stall()))
    client = await line.client()
    server, _ = await line.asked(client, ASKED)
    await server.send(answer(403))
    assert (await told(client)).code == 403
    assert line.hits("it") == 0


async def test_an_open_watch_stalls_and_goes_on_where_it_was(line: Line) -> None:
    client, server = await watching(line, event("a"))
    assert await chunk(client) == event("a")
    line.rules(rule(Stall()))
    await server.send(chunked(event("b"), event("c")))
    assert await client.is_silent(0.2)
    line.rules()
    assert await events(client, 2) == ["b", "c"]


async def test_a_stalled_watch_that_the_server_ended_ends_when_it_may(line: Line) -> None:
    client, server = await watching(line)
    line.rules(rule(Stall()))
    await server.send(chunked(event("b")) + b"0\r\n\r\n")
    server.close()
    assert await client.is_silent(0.2)
    line.rules()
    assert names(await chunk(client)) == ["b"]
    assert await chunk(client) == b""


@pytest.mark.parametrize(
    ("cut", "seen", "reset"),
    [
        (CutWatch(), b"0\r\n\r\n", False),
        (CutWatch(ending=Ending.RESET), b"", True),
        (CutWatch(after_events=1), chunked(event("a")) + b"0\r\n\r\n", False),
        (
            CutWatch(Where.MID_LINE, after_events=1),
            chunked(event("a")) + chunked(event("b")[: len(event("b")) // 2]),
            False,
        ),
    ],
    ids=["at once", "at once by an RST", "between events", "in an event"],
)
async def test_a_watch_is_cut(line: Line, cut: CutWatch, seen: bytes, reset: bool) -> None:
    line.rules(rule(cut, choice=Choice(first_n=1)))
    client = await line.client()
    server, _ = await line.asked(client, ASKED)
    await server.send(WATCH_HEAD + chunked(event("a")) + chunked(event("b")))
    if reset:
        assert await client.reset()
    else:
        assert await client.all() == WATCH_HEAD + seen
    assert await server.reset() or await server.receive() == b"", "the API server need not go on with it"
    assert line.hits("it") == 1
    again, _ = await watching(line, event("c"))
    assert names(await chunk(again)) == ["c"]


async def test_an_error_event_ends_a_watch(line: Line) -> None:
    client, server = await watching(line, event("a"))
    assert await chunk(client) == event("a")
    line.rules(rule(ErrorEvent(410)))
    found = await chunk(client)
    assert b'"type":"ERROR"' in found
    assert b'"reason":"Expired"' in found
    assert await chunk(client) == b""
    server.close()


async def test_events_are_dropped_repeated_and_out_of_order(line: Line) -> None:
    line.rules(
        ApiRule("drop", Events(Event.DROP, names=("b",))),
        ApiRule("twice", Events(Event.REPEAT, names=("c",))),
        ApiRule("late", Events(Event.REORDER, names=("d",), delay_us=5_000_000)),
    )
    client, server = await watching(line, *map(event, "abcdef"))
    await server.send(b"0\r\n\r\n")
    assert names(await client_all(client)) == list("accedf")
    assert {name: count.hits for name, count in line.gate.counts().items()} == {"drop": 1, "twice": 1, "late": 1}


async def client_all(client: End) -> list[bytes]:
    return [data async for data in chunks(client)]


async def events(client: End, count: int) -> list[str]:
    """The next ones, in however many chunks."""
    found: list[str] = []
    while len(found) < count:
        found += names(await chunk(client))
    return found


async def test_a_late_event_makes_those_after_it_wait(line: Line) -> None:
    line.rules(rule(Events(Event.DELAY, names=("b",), delay_us=3_000_000)))
    client, _ = await watching(line, *map(event, "abc"))
    assert names(await chunk(client)) == ["a"]
    assert await client.is_silent(0.05)
    assert await events(client, 2) == ["b", "c"]


async def test_bookmarks_are_withheld(line: Line) -> None:
    line.rules(rule(Events(Event.DROP, types=("BOOKMARK",))))
    client, _ = await watching(line, event("a"), event("mark", "BOOKMARK", 7), event("b"))
    assert await events(client, 2) == ["a", "b"]


async def test_a_watch_may_begin_late_too(line: Line) -> None:
    line.rules(ApiRule("slow", Delay(after_us=3_000_000)))
    client = await line.client()
    server, _ = await line.asked(client, ASKED)
    await server.send(WATCH_HEAD + chunked(event("a")))
    assert await client.is_silent(0.1)
    assert await client.exactly(len(WATCH_HEAD)) == WATCH_HEAD
    assert names(await chunk(client)) == ["a"]
    await server.send(chunked(event("b")))
    assert names(await chunk(client)) == ["b"]


async def test_a_flood_that_a_stall_holds_makes_the_server_wait(line: Line) -> None:
    _, server = await watching(line)
    line.rules(rule(Stall()))
    big = chunked(event("x" * 1_000_000))
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 40:
            async with asyncio.timeout(2):
                await asyncio.get_running_loop().sock_sendall(server.sock, big)
            sent += 1


@pytest.mark.parametrize("genuine", [True, False])
async def test_a_watch_from_long_ago_is_told_that_it_is_too_old(line: Line, genuine: bool) -> None:
    """By the API server itself, or where it still knows that time by us."""
    line.rules(rule(OldVersion()))
    client = await line.client()
    await client.send(ASKED)
    server = await line.accept()
    asked = await server.receive()
    assert asked.startswith(f"GET {PODS}?watch=true&resourceVersion=1 HTTP/1.1".encode())
    status = b'{"kind":"Status","code":410,"message":"its own"}'
    error = b'{"type":"ERROR","object":' + status + b"}\n"
    await server.send(WATCH_HEAD + chunked(error if genuine else event("a")))
    assert await client.exactly(len(WATCH_HEAD)) == WATCH_HEAD
    found = await chunk(client)
    assert (found == error) is genuine
    assert b'"type":"ERROR"' in found
    assert b'"code":410' in found
    assert line.hits("it") == 1


async def test_a_stalled_watch_whose_server_was_lost_ends_in_the_middle(line: Line) -> None:
    client, server = await watching(line)
    line.rules(rule(Stall()))
    await server.send(chunked(event("b")))
    assert await client.is_silent(0.1)
    server.abort()
    assert await client.is_silent(0.1)
    line.rules()
    assert await client.all() == chunked(event("b")), "without a last chunk"
