"""What comes and goes, counted against a real API server: also while nobody looks; and a word where it cannot be."""

from __future__ import annotations

import asyncio
import json

import pytest

from bounceback.api.reference_run import ComparedObjects, Lives
from bounceback.engine.end_state import end_state
from bounceback.kube import Kube, KubeError
from bounceback.kube.resources import CONFIG_MAPS
from bounceback.recovery.lives import LivesError, LivesOfAll

pytestmark = pytest.mark.cluster
LABELS = {"app": "web"}


def entry(kind: str = "ConfigMap") -> ComparedObjects:
    return ComparedObjects.model_validate({"apiVersion": "v1", "kind": kind, "selector": {"matchLabels": LABELS}})


def lives(kube: Kube, namespace: str) -> LivesOfAll:
    return LivesOfAll(kube, namespace, [entry()], lambda: None)


async def make(kube: Kube, namespace: str, name: str = "", generate: str = "", **labels: str) -> str:
    named = {"generateName": generate} if generate else {"name": name}
    body = {"metadata": {**named, "labels": LABELS | labels}, "data": {"state": "made"}}
    return str((await kube.create(CONFIG_MAPS, namespace, body))["metadata"]["name"])


async def watched(all_of_them: LivesOfAll, *, anew: bool = True) -> asyncio.Task[None]:
    task = asyncio.create_task(all_of_them.watch(anew=anew))
    async with asyncio.timeout(60):
        while not all_of_them.begun:
            await asyncio.sleep(0.01)
    return task


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_comes_and_goes_is_counted_by_its_stable_name(kube: Kube, namespace: str) -> None:
    await make(kube, namespace, "there")
    mine = lives(kube, namespace)
    task = await watched(mine)
    for _ in range(3):
        child = await make(kube, namespace, generate="child-")
    await kube.delete(CONFIG_MAPS, namespace, child)
    await kube.patch(CONFIG_MAPS, namespace, "there", {"data": {"state": "changed"}})
    await make(kube, namespace, "ours", **{"app.kubernetes.io/managed-by": "bounceback"})
    await ended(task)
    (found,) = await mine.end()
    (known,) = mine.known()
    assert (known.before, known.changed, known.gap) == (1, {"child-*": [3, 1]}, "")
    state = end_state(found, entry(), "salt")
    assert {name: len(each) for name, each in state.items()} == {"there": 1, "child-*": 2}
    assert state["there"][0]["data"] == {"state": "changed"}


async def test_whoever_comes_after_counts_on_though_nobody_looked_meanwhile(kube: Kube, namespace: str) -> None:
    """Even what came and went without a trace."""
    first = lives(kube, namespace)
    task = await watched(first)
    await make(kube, namespace, "one")
    await asyncio.sleep(0.5)
    await ended(task)
    stored = json.dumps([each.to_json() for each in first.known()])
    await make(kube, namespace, "brief")
    await kube.delete(CONFIG_MAPS, namespace, "brief")
    second = lives(kube, namespace)
    second.resume([Lives.model_validate(each) for each in json.loads(stored)])
    task = await watched(second, anew=False)
    await make(kube, namespace, "two")
    await ended(task)
    await second.end()
    (known,) = second.known()
    assert known.changed == {"one": [1, 0], "brief": [1, 1], "two": [1, 0]} and not known.gap


async def test_what_cannot_be_compared_is_told(kube: Kube, acting: Kube, namespace: str) -> None:
    with pytest.raises(LivesError, match="has no kind Widget"):
        await LivesOfAll(kube, namespace, [entry("Widget")], lambda: None).watch(anew=True)
    with pytest.raises(KubeError, match="forbidden"):
        await lives(acting, namespace).watch(anew=True)
