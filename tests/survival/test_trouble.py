"""Whatever the API server answers for a while, or does not: the same process goes on by itself, and floods nobody."""

from __future__ import annotations

import asyncio
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aiohttp
import pytest
import pytest_asyncio

from bounceback.controller.serving import STALE, Pulse, served
from bounceback.controller.watching import watch
from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import NAMESPACES, SERVICE_ACCOUNTS
from bounceback.types.outcome import Phase
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.containers import AGENT_ACCOUNT
from dev.cluster import inside
from dev.state import Cluster
from tests.conftest import ACCOUNT, OPERATOR, apply
from tests.survival.conftest import NAME, apply_definitions, remove_definitions
from tests.survival.operators import OperatorProcess, ports
from tests.survival.runs import finished, let_go, make_check, make_experiment, partition, reached, until
from tests.trouble import Trouble, Troubled, event, experiments, in_network, leases, says, troubled, watches
from tests.workload import CALL, SERVE, pod, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE: Final = 4
MOST_WATCHES: Final = 20
"""Watches of experiments that may be asked for in 20 seconds of trouble, and in less."""
MOST_REQUESTS: Final = 20
"""Requests of any kind a second, on average."""
RESULT: Final = ("Passed", "Inconclusive")
SOON_GONE: Final = {"Retry-After": "Fri, 31 Dec 2027 23:59:59 GMT"}


@dataclass(frozen=True)
class Case:
    trouble: Trouble
    seconds: float
    ends_kopf: bool = False  # it is known to


CASES: Final = {
    "410 to each watch": Case(says(410, "Expired", concerns=watches), 8, ends_kopf=True),
    "410 as an event": Case(event(410, "Expired"), 8),
    "500 as an event": Case(event(500, "InternalError"), 8, ends_kopf=True),
    "a line that is cut": Case(Trouble(watches, body=b'{"type":"MODIFIED","object":{"apiVe'), 8, ends_kopf=True),
    "watches that end at once": Case(Trouble(watches), 20),
    "a watch that is dead for ever": Case(Trouble(watches, silent=True, only_open=True), 40),
    "429 until a date": Case(Trouble(experiments, status=429, headers=SOON_GONE, body=b"later"), 10, ends_kopf=True),
    "401": Case(says(401, "Unauthorized", concerns=experiments), 10),
    "403 to everything": Case(says(403, "Forbidden"), 14),
    "404 to everything": Case(Trouble(status=404, body=b"404 page not found\n"), 14),
    "500 to everything": Case(says(500, "InternalError"), 14),
    "503 to everything": Case(Trouble(status=503, body=b"apiserver not ready"), 14),
    "silence": Case(Trouble(silent=True), 14),
    "refused connections": Case(Trouble(unreachable=True), 14),
    "a lease that cannot be renewed": Case(says(500, "InternalError", concerns=leases), 14),
}


@dataclass
class Story:
    """What came of one case."""

    before: Json  # the status of the experiment that was active when it began
    during: Json  # and of the one that was applied in its midst
    watches: int
    requests: int
    restarts: dict[str, float]
    left_behind: bool
    same_process: bool
    log: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(kubeconfig: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with Kube.connected(kubeconfig) as kube:
        await apply_definitions(kube)
        async with _namespace(kube, "shop") as shop:
            (server,) = await running(kube, shop, [pod("server", "python3", "-c", SERVE)])
            yield Place(kube, Cluster(NAME), server, tmp_path_factory)


@dataclass
class Place:
    kube: Kube
    cluster: Cluster
    server: PodInfo  # that everyone's callers call
    folders: pytest.TempPathFactory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stories(request: pytest.FixtureRequest, place: Place) -> AsyncIterator[dict[str, asyncio.Task[Story]]]:
    """All that are asked for, several at once: they consist of waiting."""
    asked = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    slots = asyncio.Semaphore(AT_ONCE)

    async def told(case: Case) -> Story:
        async with slots:
            return await _tell(place, case)

    tasks = {p["name"]: asyncio.create_task(told(CASES[p["name"]])) for p in asked if p.get("name") in CASES}
    yield tasks
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("name", list(CASES))
async def test_it_goes_on_by_itself(stories: dict[str, asyncio.Task[Story]], name: str) -> None:
    story, case = await stories[name], CASES[name]
    print(story.log[-6000:])
    assert story.same_process
    assert story.during["verdict"] == "Passed", story.during
    assert story.before["verdict"] in RESULT, story.before
    assert {finding["reason"] for finding in story.before["findings"]} <= {"ObservationGap"}, story.before["findings"]
    assert (story.before["axes"]["injection"], story.before["axes"]["cleanup"]) == ("Proven", "Clean")
    assert not story.left_behind
    assert story.watches <= MOST_WATCHES * max(1.0, case.seconds / 20)
    assert story.requests <= MOST_REQUESTS * case.seconds
    assert not case.ends_kopf or story.restarts["kopf"] >= 1, "the case does not do what it says"
    print({"watches": story.watches, "requests": story.requests, "seconds": case.seconds, **story.restarts})


async def test_definitions_may_be_installed_later_and_again(place: Place) -> None:
    async with _operator(place) as (operator, _, namespace):
        await remove_definitions(place.kube)
        await _logged(operator, "not served yet")
        await apply_definitions(place.kube)
        callers = await _callers(place, namespace)
        await _experiment(place, namespace, callers[0], seconds=2)
        status = await finished(place.kube, namespace, callers[0].name, 120)
        assert status["verdict"] == "Passed", status
        assert operator.alive


async def test_it_says_so_when_watching_is_dead_for_good(place: Place) -> None:
    speed = STALE["watching"] / 4

    def hurried() -> float:
        return time.monotonic() * speed

    async def changed(_kind: str | None, _body: Json) -> None:
        return

    pulse = Pulse(hurried)
    pulse.beat("watching")
    port, folder = next(ports), place.folders.mktemp("dead")
    async with (
        troubled(place.cluster, folder, inside=False) as (server, path),
        Kube.connected(str(path)) as kube,
        served(port, pulse),
    ):
        watching = asyncio.create_task(watch(kube, ("default",), changed, lambda: pulse.beat("watching")))
        await _answers(port, 200)
        await server.begin(says(403, "Forbidden", concerns=experiments))
        assert "watching" in await _answers(port, 503)
        await server.end()
        await _answers(port, 200)
        watching.cancel()
        await asyncio.wait({watching})


async def _tell(place: Place, case: Case) -> Story:
    async with _operator(place) as (operator, server, namespace):
        callers = await _callers(place, namespace)
        clean = await asyncio.to_thread(_networks, place.cluster, callers)
        await _experiment(place, namespace, callers[0], seconds=6)
        await until(place.kube, namespace, callers[0].name, reached(Phase.ACTIVE), 120)
        began = time.monotonic()
        await server.begin(case.trouble)
        await _experiment(place, namespace, callers[1], seconds=2)
        await asyncio.sleep(case.seconds)
        asked = server.count(watches, began), server.count(lambda _: True, began)
        await server.end()
        before = await finished(place.kube, namespace, callers[0].name, 120)
        during = await finished(place.kube, namespace, callers[1].name, 120)
        left = await asyncio.to_thread(_networks, place.cluster, callers) != clean
        restarts = await asyncio.to_thread(_restarts, place.cluster, operator.port)
        return Story(before, during, *asked, restarts, left, operator.alive, operator.log())


@asynccontextmanager
async def _operator(place: Place) -> AsyncIterator[tuple[OperatorProcess, Troubled, str]]:
    """An operator that watches one namespace, through a server that can be troubled."""
    folder = place.folders.mktemp("operator")
    async with _namespace(place.kube, "home") as home, _namespace(place.kube, "test") as namespace:
        await place.kube.create(SERVICE_ACCOUNTS, home, {"metadata": {"name": AGENT_ACCOUNT}})
        await apply(place.kube, access_manifest(namespace, ACCOUNT, home, OPERATOR))
        async with troubled(place.cluster, folder, inside=True) as (server, path):
            more = {"KUBECONFIG": str(path), "BOUNCEBACK_WATCH_NAMESPACES": namespace}
            operator = OperatorProcess(place.cluster, home, "only", next(ports), folder / "log", more)
            operator.start()
            try:
                yield operator, server, namespace
            except (AssertionError, TimeoutError) as error:
                error.add_note(operator.log()[-8000:])
                raise
            finally:
                await asyncio.to_thread(operator.kill)
                await let_go(place.kube, home, namespace)


@asynccontextmanager
async def _namespace(kube: Kube, what: str) -> AsyncIterator[str]:
    body: Json = {"metadata": {"generateName": f"bb-{what}-"}}
    body["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "privileged"} if what == "home" else {}
    name = (await kube.create(NAMESPACES, None, body))["metadata"]["name"]
    try:
        yield name
    finally:
        await kube.delete(NAMESPACES, None, name)


async def _callers(place: Place, namespace: str) -> list[PodInfo]:
    """Two, and a check that the server answers."""
    address = place.server.ips[0]
    await make_check(place.kube, namespace, address)
    pods = [pod(name, "python3", "-c", CALL, address) for name in ("caller-1", "caller-2")]
    return await running(place.kube, namespace, pods)


async def _experiment(place: Place, namespace: str, caller: PodInfo, seconds: int) -> None:
    """Named as the caller that it cuts off from the server."""
    chosen = [{"name": "callers", "pods": {"selector": {"matchLabels": {"app": caller.name}}}}]
    await make_experiment(place.kube, namespace, caller.name, partition(place.server, seconds), targets=chosen)


def _networks(cluster: Cluster, pods: list[PodInfo]) -> str:
    """nft tables and qdiscs in the pods' networks."""
    addresses = "|".join(each.ips[0] for each in pods)
    look = f'ip -o -4 addr | grep -qE " ({addresses})/" && nft list ruleset && tc qdisc'
    script = f"for ns in /var/run/netns/*; do nsenter --net=$ns sh -c '{look}'; done; true"
    return subprocess.run([*inside(cluster), "sh", "-c", script], capture_output=True, text=True, check=True).stdout


def _restarts(cluster: Cluster, port: int) -> dict[str, float]:
    """bounceback_watch_restarts_total by cause."""

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    text = in_network(cluster, read)
    found = [line for line in text.splitlines() if line.startswith("bounceback_watch_restarts_total{")]
    return {"kopf": 0, "stream": 0} | {line.split('"')[1]: float(line.split()[-1]) for line in found}


async def _logged(operator: OperatorProcess, text: str) -> None:
    async with asyncio.timeout(60):
        while text not in operator.log():
            await asyncio.sleep(0.1)


async def _answers(port: int, status: int) -> str:
    """Waits until /healthz answers so; what it says then."""
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                if answer.status == status:
                    return await answer.text()
            await asyncio.sleep(0.1)
