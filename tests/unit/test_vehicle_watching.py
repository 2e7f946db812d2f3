"""Lists and watches go on, whatever the server does to them. The API here is a script, not a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, cast

import aiohttp
import pytest

from bounceback.kube import Kube, KubeError, WatchGoneError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import Backoff, changes, mirror
from bounceback.vehicles.peers import latest

Json = dict[str, Any]


def item(name: str, version: int, uid: str = "") -> Json:
    return {"metadata": {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}}


class ScriptedKube:
    """Answers lists and watches from two scripts; an exception in a script is raised. The last watch never ends."""

    def __init__(self, lists: list[Any], watches: list[list[Any]]) -> None:
        self._lists = lists
        self._watches = watches
        self.watched_from: list[str] = []

    async def list(self, *_: object, **__: object) -> tuple[list[Json], str]:
        answer = self._lists.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer, str(max([100, *(int(each["metadata"]["resourceVersion"]) for each in answer)]))

    async def watch(
        self, resource: object, namespace: object, version: str, **_: object
    ) -> AsyncGenerator[tuple[str, Json], None]:
        self.watched_from.append(version)
        if not self._watches:
            await asyncio.Event().wait()
        for answer in self._watches.pop(0):
            if isinstance(answer, BaseException):
                raise answer
            yield answer


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    pauses: list[int] = []

    async def pause(self: Backoff) -> None:
        pauses.append(1)
        await asyncio.sleep(0)

    monkeypatch.setattr(Backoff, "pause", pause)
    return pauses


async def told(kube: ScriptedKube, count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(5), aclosing(changes(cast(Kube, kube), PODS, "shop")) as all_changes:
        async for kind, each in all_changes:
            found.append((kind, each["metadata"]["name"] if each else ""))
            if len(found) == count:
                break
    return found


async def test_a_cut_watch_goes_on_where_it_was() -> None:
    cut = aiohttp.ClientPayloadError("cut")
    kube = ScriptedKube([[item("a", 1)]], [[("MODIFIED", item("a", 200)), cut], [("DELETED", item("a", 201))]])
    assert await told(kube, 4) == [("ADDED", "a"), ("LISTED", ""), ("MODIFIED", "a"), ("DELETED", "a")]
    assert kube.watched_from == ["100", "200"]


async def test_a_watch_that_is_gone_starts_from_a_new_list_and_tells_what_was_missed() -> None:
    first = [item("stays", 1), item("goes", 2), item("changes", 3), item("same-name", 4, "uid-old")]
    later = [item("stays", 1), item("changes", 9), item("comes", 8), item("same-name", 7, "uid-new")]
    kube = ScriptedKube([first, later], [[WatchGoneError("too old")]])
    found = await told(kube, 5 + 6)
    assert found[:5] == [*(("ADDED", each["metadata"]["name"]) for each in first), ("LISTED", "")]
    assert sorted(found[5:10]) == [
        ("ADDED", "comes"),
        ("ADDED", "same-name"),
        ("DELETED", "goes"),
        ("DELETED", "same-name"),
        ("MODIFIED", "changes"),
    ]
    assert found[10] == ("LISTED", "")


async def test_bookmarks_move_the_watch_on_and_are_not_told() -> None:
    kube = ScriptedKube([[]], [[("BOOKMARK", item("", 300))], [("ADDED", item("a", 301))]])
    assert await told(kube, 2) == [("LISTED", ""), ("ADDED", "a")]
    assert kube.watched_from == ["100", "300"]


@pytest.mark.parametrize("trouble", [KubeError(403, "", ""), KubeError(500, "", ""), TimeoutError(), ValueError("{")])
async def test_trouble_after_the_first_list_is_waited_out(trouble: Exception, no_pauses: list[int]) -> None:
    kube = ScriptedKube([[], KubeError(503, "", ""), [item("a", 2)]], [[trouble], [trouble]])
    if not isinstance(trouble, KubeError):
        kube = ScriptedKube([[]], [[trouble], [("ADDED", item("a", 2))]])
    assert ("ADDED", "a") in await told(kube, 2)
    assert no_pauses


async def test_a_first_list_that_is_refused_is_the_callers_trouble() -> None:
    kube = ScriptedKube([KubeError(503, "", ""), TimeoutError(), KubeError(403, "Forbidden", "no")], [])
    with pytest.raises(KubeError, match="403"):
        await told(kube, 1)


async def test_a_first_list_that_fails_is_asked_for_again() -> None:
    kube = ScriptedKube([KubeError(503, "", ""), aiohttp.ClientConnectionError(), [item("a", 1)]], [])
    assert await told(kube, 2) == [("ADDED", "a"), ("LISTED", "")]


async def test_a_server_that_closes_each_watch_at_once_is_not_asked_in_a_hot_loop(no_pauses: list[int]) -> None:
    kube = ScriptedKube([[]], [[] for _ in range(20)] + [[("ADDED", item("a", 2))]])
    await told(kube, 2)
    assert len(no_pauses) == 20


async def test_a_mirror_holds_what_there_is() -> None:
    watches = [("ADDED", item("c", 201)), ("DELETED", item("a", 202)), ("MODIFIED", item("b", 203))]
    kube = ScriptedKube([[item("b", 1), item("a", 2)]], [watches])
    seen = []
    async with asyncio.timeout(5), aclosing(mirror(cast(Kube, kube), PODS, "shop")) as held:
        async for there in held:
            seen.append([each["metadata"]["name"] for each in there])
            if len(seen) == 4:
                break
    assert seen == [["a", "b"], ["a", "b", "c"], ["b", "c"], ["b", "c"]]


async def counting(*values: int, then: Exception | None = None) -> AsyncGenerator[int, None]:
    for value in values:
        await asyncio.sleep(0)
        yield value
    if then is not None:
        raise then


async def test_the_latest_of_several_comes_once_all_have_told_something() -> None:
    seen = [each async for each in latest(counting(1, 2, 3), counting(7))]
    assert seen[-1] == (3, 7)
    assert all(len(each) == 2 for each in seen)


async def test_the_error_of_one_ends_all() -> None:
    with pytest.raises(KubeError):
        _ = [each async for each in latest(counting(1), counting(then=KubeError(403, "", "")))]
