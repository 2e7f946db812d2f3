"""An order that waits: nothing of it is there before its operator says so, and then all of it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from bounceback.types.plan import Drop, Feature, Order
from bounceback.types.told import Told
from tests.kernel.lab import ONE, Lab, echo, order, peer, plan, reach


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER)


def waiting() -> Order:
    return replace(order(Drop(), peer(ONE)), waits=True)


def test_it_begins_when_it_is_told_to(lab: Lab) -> None:
    cut, never = waiting(), waiting()
    with echo(lab.one, ONE):
        agent = lab.start(plan(cut, never))
        agent.until(Told.STARTED)
        assert reach(lab.target, ONE) == "ok"
        assert lab.left() == []
        now = time.time()
        own = {"startAt": now, "startBefore": now + 20, "notAfter": now + 40}
        code, answer = agent.control({"begin": {cut.injection: own, never.injection: None}})
        assert (code, answer["ok"]) == (0, True)
        agent.until(Told.IN_FORCE)
        assert reach(lab.target, ONE) == "silence"
        agent.control({"stop": True})
        agent.end()
        assert reach(lab.target, ONE) == "ok"
    told = [each for each in agent.of(cut.injection) if each is not Told.HITS]
    assert told == [Told.IN_FORCE, Told.CLEARED, Told.VERIFIED]
    assert agent.hits(cut.injection)
    assert agent.of(never.injection) == [Told.REFUSED]
    assert lab.left() == []


def test_it_is_over_when_nobody_says_anything(lab: Lab) -> None:
    cut = replace(order(Drop(), peer(ONE), start_before=0.5), waits=True)
    agent = lab.start(plan(cut))
    told = agent.end()
    refused = next(line for line in told if line.told is Told.REFUSED)
    assert refused.detail["reason"] == "NotStarted"
    assert lab.left() == []


def test_a_word_that_it_cannot_follow_changes_nothing(lab: Lab) -> None:
    cut = waiting()
    agent = lab.start(plan(cut))
    agent.until(Told.STARTED)
    for wrong, complaint in (({"nobody": None}, "no order nobody"), ({cut.injection: {"startAt": 1}}, "startBefore")):
        _, answer = agent.control({"begin": wrong})
        assert not answer["ok"]
        assert complaint in answer["error"]
    agent.control({"stop": True})
    agent.end()
    assert agent.of(cut.injection) == [Told.REFUSED]
