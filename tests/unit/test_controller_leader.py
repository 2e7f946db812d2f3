"""One leader at a time, whatever its requests and its sleep do. Clock and API server are played by the tests."""

from __future__ import annotations

import asyncio
import itertools
from copy import deepcopy
from typing import Any, cast

import pytest

from bounceback.controller import leader
from bounceback.controller.leader import DURATION, GIVE_UP_AFTER, RENEW_EVERY, Leadership, NotLeaderError
from bounceback.kube import Kube, KubeError

Json = dict[str, Any]


class PlayedClock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class PlayedServer:
    """Keeps one Lease, and tests the resourceVersion of what replaces it."""

    def __init__(self, clock: PlayedClock) -> None:
        self.lease: Json | None = None
        self.trouble: Exception | None = None
        self.answer_takes = 0.0
        self._clock = clock
        self._versions = itertools.count(1)

    async def get(self, *_: object) -> Json:
        self._answer()
        if self.lease is None:
            raise KubeError(404, "NotFound", "no lease")
        return deepcopy(self.lease)

    async def create(self, _resource: object, _namespace: object, body: Json) -> Json:
        self._answer()
        if self.lease is not None:
            raise KubeError(409, "AlreadyExists", "a lease is there")
        return self._keep(body)

    async def replace(self, _resource: object, _namespace: object, _name: object, body: Json) -> Json:
        self._answer()
        assert self.lease is not None
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise KubeError(409, "Conflict", "written by another")
        return self._keep(body)

    def _answer(self) -> None:
        self._clock.now += self.answer_takes
        if self.trouble is not None:
            raise self.trouble

    def _keep(self, body: Json) -> Json:
        self.lease = deepcopy(body)
        self.lease["metadata"]["resourceVersion"] = str(next(self._versions))
        return deepcopy(self.lease)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PlayedClock:
    played = PlayedClock()
    monkeypatch.setattr(leader, "_clock", played)
    monkeypatch.setattr(leader, "RENEW_EVERY", 0.001)
    return played


@pytest.fixture
def server(clock: PlayedClock, monkeypatch: pytest.MonkeyPatch) -> PlayedServer:
    return PlayedServer(clock)


def replica(server: PlayedServer, name: str) -> Leadership:
    return Leadership(cast(Kube, server), "home", name, lambda: None)


async def leads(replica: Leadership) -> bool:
    """Whether it becomes the leader now, without the clock going on."""
    try:
        async with asyncio.timeout(0.05):
            await replica.acquire()
    except TimeoutError:
        return False
    return True


async def test_only_one_of_two_leads(server: PlayedServer) -> None:
    first, second = replica(server, "first"), replica(server, "second")
    assert await leads(first)
    assert not await leads(second)
    assert first.held()
    assert not second.held()
    with pytest.raises(NotLeaderError):
        second.check()


async def test_a_leader_that_does_not_renew_gives_up_before_another_takes_over(
    server: PlayedServer, clock: PlayedClock
) -> None:
    first, second = replica(server, "first"), replica(server, "second")
    assert await leads(first)
    assert not await leads(second)
    clock.now += GIVE_UP_AFTER - 0.1
    assert first.held()
    clock.now += 0.2
    assert not first.held()
    assert not await leads(second)
    clock.now += DURATION - GIVE_UP_AFTER
    assert await leads(second)
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 2  # nobody to first, first to second


async def test_another_clocks_time_is_not_believed(server: PlayedServer, clock: PlayedClock) -> None:
    first, second = replica(server, "first"), replica(server, "second")
    assert await leads(first)
    assert server.lease is not None
    server.lease["spec"]["renewTime"] = "1970-01-01T00:00:00.000000Z"  # the holder's clock is years behind
    assert not await leads(second)
    clock.now += DURATION + 1
    server.lease["spec"]["renewTime"] = "1970-01-01T00:00:03.000000Z"  # it renews by that clock
    assert not await leads(second)


async def test_the_time_of_a_renewal_counts_from_before_the_request(server: PlayedServer, clock: PlayedClock) -> None:
    server.answer_takes = 1.0
    first = replica(server, "first")
    asked = clock.now
    assert await leads(first)
    clock.now = asked + GIVE_UP_AFTER
    assert not first.held()


async def test_a_leader_goes_on_while_it_can_renew(server: PlayedServer, clock: PlayedClock) -> None:
    first = replica(server, "first")
    assert await leads(first)
    keeping = asyncio.create_task(first.keep())
    for _ in range(20):
        clock.now += RENEW_EVERY
        await asyncio.sleep(0.005)
        first.check()
    keeping.cancel()


@pytest.mark.parametrize(
    "trouble", [KubeError(500, "InternalError", ""), TimeoutError(), KubeError(409, "Conflict", "")]
)
async def test_a_leader_that_cannot_renew_leads_on_until_its_time_is_over(
    server: PlayedServer, clock: PlayedClock, trouble: Exception
) -> None:
    first = replica(server, "first")
    assert await leads(first)
    server.trouble = trouble
    keeping = asyncio.create_task(first.keep())
    clock.now += GIVE_UP_AFTER - 1
    await asyncio.sleep(0.02)
    assert not keeping.done()
    clock.now += 1
    with pytest.raises(NotLeaderError, match="first"):
        await keeping


async def test_a_renewal_that_comes_too_late_does_not_count(server: PlayedServer, clock: PlayedClock) -> None:
    """Runs may have seen that nobody led: they go on only in a new term."""
    first = replica(server, "first")
    assert await leads(first)
    clock.now += GIVE_UP_AFTER - 1
    server.answer_takes = 0.6  # twice: to read, and to write
    with pytest.raises(NotLeaderError):
        await first.keep()
    assert await leads(first)


async def test_a_leader_that_slept_does_not_renew_but_steps_down(server: PlayedServer, clock: PlayedClock) -> None:
    first = replica(server, "first")
    assert await leads(first)
    clock.now += GIVE_UP_AFTER + 1
    renewed = deepcopy(server.lease)
    with pytest.raises(NotLeaderError):
        await first.keep()
    assert server.lease == renewed


async def test_a_leader_that_finds_anothers_name_steps_down_at_once(server: PlayedServer) -> None:
    first = replica(server, "first")
    assert await leads(first)
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "somebody"
    with pytest.raises(NotLeaderError):
        await first.keep()


async def test_a_released_lease_is_taken_at_once(server: PlayedServer) -> None:
    first, second = replica(server, "first"), replica(server, "second")
    assert await leads(first)
    await first.release()
    assert not first.held()
    assert await leads(second)


async def test_who_does_not_lead_releases_nothing(server: PlayedServer) -> None:
    first, second = replica(server, "first"), replica(server, "second")
    assert await leads(first)
    kept = deepcopy(server.lease)
    await second.release()
    assert server.lease == kept


async def test_a_release_that_fails_does_not_stop_the_end(server: PlayedServer) -> None:
    first = replica(server, "first")
    assert await leads(first)
    server.trouble = TimeoutError()
    await first.release()
    assert not first.held()


async def test_each_try_is_a_sign_of_life(server: PlayedServer) -> None:
    tries: list[None] = []
    server.trouble = TimeoutError()
    assert not await leads(Leadership(cast(Kube, server), "home", "first", lambda: tries.append(None)))
    assert len(tries) > 1
