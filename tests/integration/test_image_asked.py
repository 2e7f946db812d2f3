"""Whether our image can be had on a node is asked by a pod that leaves nothing behind, and every replica learns it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bounceback.controller import asking_nodes
from bounceback.controller.asking_nodes import Asking, Known
from bounceback.controller.office import Office
from bounceback.controller.settings import Settings
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS, NODES, PODS
from bounceback.vehicles.image_known import LASTS, RECORD, Lacking, record_of
from bounceback.vehicles.image_probe import Had, ImageProbe
from bounceback.vehicles.node_pod import image_pod
from bounceback.vehicles.scheduling import Place
from tests.conftest import IMAGE

NOWHERE = "127.0.0.1:1/nothing:1"
SECONDS = 60


@pytest.fixture
async def node(kube: Kube) -> Json:
    nodes, _ = await kube.list(NODES)
    return nodes[0]


async def test_a_node_says_whether_it_can_have_the_image_in_the_kubelets_words(
    kube: Kube, home: str, node: Json
) -> None:
    assert (await ImageProbe(kube, home, IMAGE, "IfNotPresent").ask(node)).had is Had.YES
    for policy, word in (("IfNotPresent", "ErrImagePull"), ("Never", "ErrImageNeverPull")):
        asked = await ImageProbe(kube, home, NOWHERE, policy).ask(node)
        assert (asked.had, asked.why.partition(":")[0]) == (Had.NO, word)
    assert await left(kube, home) == []


async def test_what_is_not_of_the_image_is_no_answer(kube: Kube, home: str, namespace: str, node: Json) -> None:
    unwelcome = await ImageProbe(kube, namespace, IMAGE, "IfNotPresent").ask(node)
    assert unwelcome.had is Had.UNKNOWN
    assert "bounceback-agent" in unwelcome.why, "its service account is not there"
    for more in ({"unschedulable": True}, {}):
        body = {**node, "spec": {**node["spec"], **more}, "status": {**node["status"], "conditions": []}}
        assert (await ImageProbe(kube, home, IMAGE, "Never").ask(body)).had is Had.UNKNOWN
    assert await left(kube, home) == []


async def test_the_answer_to_somebody_before_us_is_not_taken(kube: Kube, home: str, node: Json) -> None:
    metadata = node["metadata"]
    await kube.create(PODS, home, image_pod(metadata["name"], metadata["uid"], home, NOWHERE, "IfNotPresent"))
    assert (await ImageProbe(kube, home, NOWHERE, "Never").ask(node)).why.startswith("ErrImageNeverPull")
    assert await left(kube, home) == []


async def test_who_stops_asking_leaves_nothing(kube: Kube, home: str, node: Json) -> None:
    """Of a node whose kubelet does not answer, so that there is something to be left."""
    silent = {**node, "metadata": {**node["metadata"], "name": "silent"}}
    asking = asyncio.create_task(ImageProbe(kube, home, NOWHERE, "IfNotPresent").ask(silent))
    async with asyncio.timeout(SECONDS):
        while not await left(kube, home):
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.wait({asking})
    assert await left(kube, home) == []


async def test_every_replica_learns_what_nodes_lack_and_a_new_leader_asks_again(
    kube: Kube, home: str, office: Office, node: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(asking_nodes.LASTS, Had.NO, 1.0)
    there, absent = of_image(office, IMAGE), of_image(office, NOWHERE)
    async with learning(kube, absent.settings) as known, learning(kube, there.settings) as of_another:
        async with asking(absent):
            await seen(lambda: bool(known.lacking()))
        (lacking,) = known.lacking()
        assert lacking.place == Place.of(node)
        assert "ErrImagePull" in lacking.why or "ImagePullBackOff" in lacking.why
        assert not of_another.lacking(), "it is told of that image alone"
        # One that leads next, of the same image, to whom the node says otherwise.
        stale = [replace(lacking, at=time.time()), Lacking(Place("gone", {}), "x", time.time())]
        await kube.patch(CONFIG_MAPS, home, RECORD, {"data": record_of(stale, IMAGE, there.settings.pull_policy)})
        await seen(lambda: len(of_another.lacking()) == 2)
        async with asking(there):
            await seen(lambda: not of_another.lacking())
    record = (await kube.get(CONFIG_MAPS, home, RECORD))["data"]
    assert [json.loads(text)["nodes"] for text in record.values()] == [[]]
    assert await left(kube, home) == []


async def test_what_nobody_asks_for_again_is_forgotten(kube: Kube, home: str, office: Office, node: Json) -> None:
    settings = of_image(office, NOWHERE).settings
    fresh, old = (
        record_of([Lacking(Place.of(node), "x", at)], NOWHERE, settings.pull_policy)
        for at in (time.time(), time.time() - LASTS)
    )
    await kube.create(CONFIG_MAPS, home, {"metadata": {"name": RECORD}, "data": fresh})
    async with learning(kube, settings) as known:
        await seen(lambda: bool(known.lacking()))
        await kube.patch(CONFIG_MAPS, home, RECORD, {"data": old})
        await seen(lambda: not known.lacking())


async def test_a_node_whose_turn_is_long_in_coming_lacks_it_until_then(
    kube: Kube, home: str, office: Office, node: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking_nodes, "LOOK_EVERY", 0.2)
    monkeypatch.setattr(asking_nodes, "AT_ONCE", 0)
    absent = of_image(office, NOWHERE)
    before = Lacking(Place.of(node), "x", time.time() - LASTS + 5)
    record = record_of([before], NOWHERE, absent.settings.pull_policy)
    await kube.create(CONFIG_MAPS, home, {"metadata": {"name": RECORD}, "data": record})
    async with learning(kube, absent.settings) as known, asking(absent):
        await seen(lambda: [each.at for each in known.lacking()] > [before.at + LASTS / 2])


def of_image(office: Office, image: str) -> Office:
    return replace(office, settings=replace(office.settings, image=image))


@asynccontextmanager
async def asking(office: Office) -> AsyncIterator[None]:
    async with during(Asking(office).run()):
        yield


@asynccontextmanager
async def learning(kube: Kube, settings: Settings) -> AsyncIterator[Known]:
    known = Known(kube, settings)
    async with during(known.watch()):
        yield known


@asynccontextmanager
async def during(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def seen(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.1)


async def left(kube: Kube, home: str) -> list[str]:
    pods, _ = await kube.list(PODS, home)
    return [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
