"""Looks over real sockets: what each trouble is called, what bounds a look, and when samples are taken."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from aiohttp import ClientSession, web

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.looks import HttpLook, TcpLook
from bounceback.engine.samples import History, Sample
from bounceback.engine.timeline import has_gap
from bounceback.kube import Kube
from bounceback.recovery import names as names_module
from bounceback.recovery.judging import judged, nothing_said
from bounceback.recovery.looks import ask_by_http, look_by_tcp, probe_session
from bounceback.recovery.names import Names
from bounceback.recovery.observing import LARGEST_OBSERVATION, ObservationError, observe, observe_each
from bounceback.recovery.sampling import Pulse, Sampler
from bounceback.recovery.sealing import Seal
from bounceback.recovery.watching import Watching
from bounceback.types.instants import Instant, Interval

NO_CLUSTER: Kube = None  # type: ignore[assignment]  # probes by HTTP and TCP need none
NO_SEAL = Seal(NO_CLUSTER, "")


@asynccontextmanager
async def serving(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """The address of a server that answers every request so."""
    server = web.Server(handler)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


@asynccontextmanager
async def saying(text: bytes) -> AsyncIterator[int]:
    """The port of a server that says so, whatever it is asked, and closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(text)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def http(url: str, **fields: Any) -> str | None:
    names = Names()
    async with probe_session(names) as session:
        return await healthy(session, HttpLook(url=url, **fields))


async def healthy(session: ClientSession, look: HttpLook) -> str | None:
    """None, or what was wrong, of one sample."""
    return await judged(
        partial(ask_by_http, session, look, kept=look.expression is not None), look.expression, nothing_said
    )()


async def example(request: web.BaseRequest) -> web.StreamResponse:
    match request.path:
        case "/moved":
            raise web.HTTPFound("/")
        case "/round":
            raise web.HTTPFound("/round")
        case "/broken":
            return web.Response(status=503)
        case "/large":
            return web.Response(body=b"x" * 4_000_000 + b"end")
        case "/queue":
            return web.json_response({"depth": 7}, headers={"X-Leader": "web-1"})
        case "/slow":
            await asyncio.sleep(0.3)
        case "/parts":
            parts = web.StreamResponse()
            await parts.prepare(request)
            for part in (b"hello in ", b"three pa", b"rts"):
                await parts.write(part)
                await asyncio.sleep(0.01)
            return parts
    return web.Response(text=f"hello by {request.method}")


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("/", {}, None),
        ("/", {"method": "POST", "expect_body": "hello by POST"}, None),
        ("/", {"method": "HEAD"}, None),
        ("/", {"expect_body": "goodbye"}, "the answer does not contain 'goodbye'"),
        ("/broken", {}, "status 503, expected 200"),
        ("/broken", {"expect_status": 503}, None),
        ("/moved", {}, "status 302, expected 200"),
        ("/moved", {"follow_redirects": True}, None),
        ("/round", {"follow_redirects": True}, "too many redirects"),
        ("/large", {}, None),
        ("/large", {"expect_body": "end"}, "the answer does not contain 'end'"),
        ("/parts", {"expect_body": "three parts"}, None),
        ("/queue", {"expect_headers": {"x-leader": "web-1"}}, None),
        ("/queue", {"expect_headers": {"X-Leader": "web-2"}}, "header X-Leader: web-1, expected web-2"),
        ("/", {"expect_headers": {"X-Leader": "web-2"}}, "header X-Leader: none, expected web-2"),
        ("/queue", {"expression": "json.depth < 10 && headers['x-leader'] == 'web-1' && status == 200"}, None),
        ("/queue", {"expression": "milliseconds < 60000"}, None),
        ("/", {"expression": "json == null"}, None),
        ("/broken", {"expect_status": 0, "expression": "status in [200, 503]"}, None),
        ("/slow", {"expect_within_milliseconds": 60_000}, None),
    ],
)
async def test_an_answer_is_healthy_when_it_is_as_expected(
    path: str, fields: dict[str, Any], message: str | None
) -> None:
    async with serving(example) as address:
        assert await http(address + path, **fields) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "connection closed before an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "connection closed within the answer"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not a valid HTTP answer"),
    ],
)
async def test_a_broken_answer_is_called_what_it_is(text: bytes, message: str) -> None:
    async with saying(text) as port:
        assert (await http(f"http://127.0.0.1:{port}/") or "").startswith(message)


async def test_what_an_expression_and_a_bound_on_latency_find_wrong_is_told() -> None:
    async with serving(example) as address:
        found = await http(f"{address}/queue", expression="json.depth < 5")
        assert (found or "").startswith('json.depth < 5 is false; status 200, headers {"x-leader": "web-1"')
        assert (await http(f"{address}/queue", expression="json.length < 5") or "").startswith(
            "json.length < 5: there is no key 'length'"
        )
        found = await http(f"{address}/large", expression="json.depth < 5")
        assert found == "the answer is larger than 262144 bytes, too large for an expression"
        found = await http(f"{address}/slow", expect_within_milliseconds=100)
        assert re.fullmatch(r"answered after \d+ ms, expected within 100", found or "")


async def test_trouble_with_the_connection_is_called_what_it_is(closed_port: int) -> None:
    assert await http(f"http://127.0.0.1:{closed_port}/") == "connection refused"
    assert (await http("http://no-such-host.invalid/") or "").startswith("host name no-such-host.invalid not found: ")
    async with saying(b"this is not TLS at all\r\n") as port:
        assert (await http(f"https://127.0.0.1:{port}/") or "").startswith("TLS: ")


async def test_tcp_is_healthy_when_a_connection_opens(closed_port: int) -> None:
    names = Names()
    async with saying(b"") as port:
        assert await look_by_tcp(names, TcpLook(host="127.0.0.1", port=port)) is None
        assert await look_by_tcp(names, TcpLook(host="localhost", port=port)) is None
    assert await look_by_tcp(names, TcpLook(host="127.0.0.1", port=closed_port)) == "connection refused"
    assert (await look_by_tcp(names, TcpLook(host="no-such-host.invalid", port=1)) or "").startswith(
        "host name not found: "
    )


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "[::ffff:169.254.169.254]"])
async def test_addresses_that_serve_credentials_are_not_probed(host: str) -> None:
    assert "must not be probed" in (await http(f"http://{host}/latest/meta-data/") or "")
    assert "must not be probed" in (await look_by_tcp(Names(), TcpLook(host=host, port=80)) or "")

    async def redirect(_: web.BaseRequest) -> web.StreamResponse:
        raise web.HTTPFound(f"http://{host}/latest/meta-data/")

    async with serving(redirect) as address:
        assert "must not be probed" in (await http(address, follow_redirects=True) or "")
        with pytest.raises(ObservationError, match="must not be probed"):
            await observe(NO_CLUSTER, "default", observations("/x", address=address), NO_SEAL)


async def test_each_look_makes_a_connection_of_its_own() -> None:
    ports = []

    async def note(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        ports.append(request.transport.get_extra_info("peername")[1])
        return web.Response()

    async with serving(note) as address:
        names = Names()
        async with probe_session(names) as session:
            for _ in range(5):
                assert await healthy(session, HttpLook(url=address)) is None
    assert len(set(ports)) == 5


async def test_a_name_that_hangs_does_not_keep_others_from_being_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look_up(host: str, port: int) -> list[tuple[socket.AddressFamily, tuple[str, int]]]:
        if host == "dead.example":
            asyncio.run_coroutine_threadsafe(hanging.wait(), loop).result(60)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    monkeypatch.setattr(names_module, "_look_up", look_up)
    names = Names()
    dead = [asyncio.create_task(names.addresses("dead.example", 1)) for _ in range(100)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(20):
        assert await names.addresses("live.example", 80) == [(socket.AF_INET, ("127.0.0.1", 80))]
    for task in dead[:50]:
        task.cancel()
    hanging.set()
    done = await asyncio.gather(*dead[50:])
    assert len(done) == 50, "who gave up took no place from who did not"


def spec(*probes: dict[str, Any]) -> RecoveryCheckSpec:
    return RecoveryCheckSpec.model_validate({"probes": list(probes)})


async def test_samples_overlap_and_keep_to_their_grid_however_slow_the_answers() -> None:
    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.4)
        return web.Response()

    async with serving(slow) as address:
        check = spec({"name": "it", "http": {"url": address}, "periodMilliseconds": 50, "timeoutMilliseconds": 20_000})
        late: list[float] = []
        async with Watching(NO_CLUSTER, "default", [("web", check)], None, lambda: None, late.append) as watching:
            history = watching.histories("web")["it"]
            async with asyncio.timeout(7):  # one after the other they would take 8
                while history.samples < 20:
                    await asyncio.sleep(0.01)
    assert history.samples == history.healthy_samples
    run = history.runs[0]
    assert len(history.runs) == 1
    off = run.last.start.since(run.first.start) % 0.05
    assert min(off, 0.05 - off) <= max(late) + 0.005, "no drift"
    assert min(late[-10:]) < 0.02, "nor do they come later and later"


async def test_a_stalled_loop_leaves_a_gap_and_no_burst() -> None:
    async def at_once() -> None:
        return None

    history = History(0.05, 0.1)
    async with asyncio.TaskGroup() as group:
        sampling = group.create_task(Sampler(history, at_once, lambda: None, group, Pulse()).run(0))
        await asyncio.sleep(0.3)
        before = history.samples
        stalled = Instant.now()
        time.sleep(0.6)  # noqa: ASYNC251  # the stall that is meant
        ended = Instant.now()
        await asyncio.sleep(0.02)
        assert history.samples - before <= 6 + Instant.now().since(ended) / 0.05, "a burst would be twelve"
        await asyncio.sleep(0.2)
        sampling.cancel()
    assert [gap for gap in history.gaps if gap.earliest.since(stalled) <= 0 <= gap.latest.since(ended)]


async def test_an_answer_that_we_were_too_busy_to_hear_is_a_gap_and_no_failure() -> None:
    async with serving(example) as address:
        check = spec({"name": "it", "http": {"url": address}, "periodMilliseconds": 50, "timeoutMilliseconds": 200})
        async with Watching(NO_CLUSTER, "default", [("web", check)], None, lambda: None) as watching:
            history = watching.histories("web")["it"]
            while history.samples < 5:
                await asyncio.sleep(0.01)
            while history.oldest_under_way is None:  # until a look is under way, which the stall then holds up
                await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251  # the stall that is meant
            await asyncio.sleep(0.5)
    assert history.healthy_samples == history.samples
    assert history.gaps


async def test_no_answer_in_time_is_a_failure_and_says_so() -> None:
    async def silent(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    changes = []
    async with serving(silent) as address:
        check = spec({"name": "it", "http": {"url": address}, "periodMilliseconds": 100, "timeoutMilliseconds": 1000})
        async with Watching(NO_CLUSTER, "default", [("web", check)], None, lambda: changes.append(1)) as watching:
            history = watching.histories("web")["it"]
            while history.samples < 3:
                await asyncio.sleep(0.02)
            assert history.messages == ["timed out after 1000 ms"]
            assert history.healthy_samples == 0
    assert changes == [1], "told once: the state has not changed since"
    assert history.oldest_under_way is None, "what was under way at the end was abandoned"


async def test_a_restarted_operator_goes_on_with_what_was_seen_and_a_gap() -> None:
    async with serving(example) as address:
        web_check = spec(
            {"name": "home", "http": {"url": address}, "periodMilliseconds": 50, "timeoutMilliseconds": 500}
        )
        asked = [("web", web_check)]
        async with Watching(NO_CLUSTER, "default", asked, None, lambda: None) as watching:
            await asyncio.sleep(0.5)
            stored = json.loads(json.dumps(watching.snapshot()))
            seen = watching.histories("web")["home"].samples
        began = Instant.now()
        async with Watching(NO_CLUSTER, "default", asked, stored, lambda: None) as watching:
            assert watching.histories("web")["home"].samples == seen
            history = watching.histories("web")["home"]
            while history.samples <= seen:
                await asyncio.sleep(0.02)
                history = watching.histories("web")["home"]
    assert any(run.after_gap and run.first.start.since(began) >= 0 for run in history.runs)
    assert has_gap(history, Interval.at(began))


async def test_many_probes_are_stored_with_less_detail() -> None:
    probes = [
        {"name": f"p{n}", "tcp": {"host": "127.0.0.1", "port": 1}, "periodMilliseconds": 60_000} for n in range(50)
    ]
    watching = Watching(NO_CLUSTER, "default", [("c", spec(*probes))], None, lambda: None)
    for name, history in watching.histories("c").items():
        start = Instant.now()
        for n in range(100):
            sample_start = start.plus(n * 60)
            history.add(Sample(sample_start, sample_start.plus(0.01), n % 3 == 0, f"{name} {n} " + "x" * 200))
    assert len(json.dumps(watching.snapshot())) < 40_000


async def values(request: web.BaseRequest) -> web.StreamResponse:
    match request.path:
        case "/orders":
            return web.json_response({"count": 3})
        case "/text":
            return web.Response(text="hello")
        case "/large":
            return web.json_response("x" * LARGEST_OBSERVATION)
        case "/silent":
            await asyncio.sleep(5)
    return web.Response(status=500)


def observations(*paths: str, address: str) -> RecoveryCheckSpec:
    return RecoveryCheckSpec.model_validate(
        {
            "observations": [
                {
                    "name": path.strip("/"),
                    "http": {"url": address + path},
                    "timeoutMilliseconds": 300 if path == "/silent" else 20_000,
                }
                for path in paths
            ],
            "invariants": [{"name": "kept", "expression": "true"}],
        }
    )


async def test_what_cannot_be_observed_costs_nothing_but_itself() -> None:
    """As at clear, when a system may be down in part; all are asked at once, so the slowest tells how long it takes."""
    async with serving(values) as address:
        began = time.monotonic()
        asked = observations("/silent", "/orders", "/broken", address=address)
        found = await observe_each(NO_CLUSTER, "default", asked, NO_SEAL)
    assert time.monotonic() - began < 4.9
    assert found["orders"] == {"count": 3}
    assert str(found["broken"]) == "observation broken: status 500, expected 200"
    assert str(found["silent"]) == "observation silent: timed out after 300 ms"


async def test_observations_are_read_by_name() -> None:
    async with serving(values) as address:
        assert await observe(NO_CLUSTER, "default", observations("/orders", address=address), NO_SEAL) == {
            "orders": {"count": 3}
        }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/text", "observation text: the answer is not JSON"),
        ("/broken", "observation broken: status 500, expected 200"),
        ("/silent", "observation silent: timed out after 300 ms"),
        (
            "/large",
            f"observation large: {LARGEST_OBSERVATION + 2} bytes of JSON, more than {LARGEST_OBSERVATION}",
        ),
    ],
)
async def test_what_cannot_be_observed_is_named_with_the_reason(path: str, message: str) -> None:
    async with serving(values) as address:
        with pytest.raises(ObservationError) as error:
            await observe(NO_CLUSTER, "default", observations("/orders", path, address=address), NO_SEAL)
    assert str(error.value).startswith(message)
