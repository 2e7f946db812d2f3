"""Tests that consist of waiting are played several at a time, each with an operator, a home and a namespace of its own.

A test that has `@together` takes what OFFERED names as it would take fixtures. Its operators watch its own namespace
alone, so that none meets another's experiments; what concerns the whole cluster has no place among them.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from bounceback.kube import Kube
from dev.state import Cluster
from tests.conftest import home_in, opened
from tests.survival.operators import OperatorProcess, ports
from tests.survival.runs import let_go, open_shop

Story = Callable[..., Awaitable[None]]
OFFERED: Final = (
    *("cluster", "home", "kube", "kubeconfig", "make_operator", "namespace", "operator", "shop", "tmp_path"),
)
AT_ONCE: Final = 4
LOG: Final = 8000
"""Characters at the end of each operator's log that are shown where a test fails."""


def together(story: Story) -> Story:
    """A test that awaits what became of the story, which was begun with the others of its module."""
    given = [p for name, p in inspect.signature(story).parameters.items() if name not in OFFERED]

    async def play(request: pytest.FixtureRequest, plays: Mapping[str, asyncio.Task[None]], **_: object) -> None:
        await plays[request.node.nodeid]

    kept = [p for p in inspect.signature(play).parameters.values() if p.kind is not p.VAR_KEYWORD]
    play.__name__, play.__qualname__, play.__doc__ = story.__name__, story.__qualname__, story.__doc__
    play.__module__ = story.__module__
    test: Any = play
    test.__signature__, test.story = inspect.Signature([*kept, *given]), story
    return play


@asynccontextmanager
async def playing(
    request: pytest.FixtureRequest, kube: Kube, kubeconfig: str, folders: pytest.TempPathFactory
) -> AsyncIterator[dict[str, asyncio.Task[None]]]:
    """The stories of the module that this session was asked for, by the test's id."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def play(item: pytest.Function, story: Story) -> None:
        names = inspect.signature(story).parameters
        given = item.callspec.params if hasattr(item, "callspec") else {}
        async with slots, _stage(kube, kubeconfig, folders.mktemp("story"), set(names)) as offered:
            await story(**{name: value for name, value in offered.items() if name in names}, **given)

    items = [item for item in request.session.items if item.path == request.path and isinstance(item, pytest.Function)]
    told = {item: item.function.story for item in items if hasattr(item.function, "story")}
    tasks = {item.nodeid: asyncio.create_task(play(item, story)) for item, story in told.items()}
    try:
        yield tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


@asynccontextmanager
async def _stage(kube: Kube, kubeconfig: str, folder: Path, wanted: set[str]) -> AsyncIterator[dict[str, Any]]:
    cluster, made = Cluster(Path(kubeconfig).parent.name), list[OperatorProcess]()
    async with home_in(kube) as home, opened(kube, home) as namespace:

        def make_operator(name: str = "", more: Mapping[str, str] | None = None) -> OperatorProcess:
            log, own = folder / f"operator-{len(made) + 1}.log", {"BOUNCEBACK_WATCH_NAMESPACES": namespace}
            name = name or f"replica-{len(made) + 1}"
            made.append(OperatorProcess(cluster, home, name, next(ports), log, {**own, **(more or {})}))
            return made[-1]

        offered: dict[str, Any] = {"cluster": cluster, "home": home, "kube": kube, "kubeconfig": kubeconfig}
        offered |= {"make_operator": make_operator, "namespace": namespace, "tmp_path": folder}
        try:
            if "shop" in wanted:
                offered["shop"] = await open_shop(kube, namespace)
            if "operator" in wanted:
                offered["operator"] = make_operator()
                offered["operator"].start()
            yield offered
        except (AssertionError, TimeoutError) as error:
            for each in made:
                error.add_note(each.log()[-LOG:])
            raise
        finally:
            for each in made:
                await asyncio.to_thread(each.kill)
            with contextlib.suppress(Exception):  # it may be gone
                await let_go(kube, home, namespace)
