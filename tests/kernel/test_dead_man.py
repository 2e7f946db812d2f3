"""However an agent ends, and however late it comes: nothing stays, and it says so."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from bounceback.types.instants import Instant
from bounceback.types.plan import Drop, Feature
from bounceback.types.told import Line, Told
from tests.kernel.lab import GONE_SECONDS, ONE, Lab, echo, environment, order, peer, plan, reach

LATE_SECONDS = 3.0  # on a machine that is busy with other tests; nobody promised a figure


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_IP, Feature.NFT_OWNER)


def test_a_killed_agent_takes_its_partition_along(lab: Lab, record_property: Callable[[str, object], None]) -> None:
    with echo(lab.one, ONE):
        agent = lab.start(plan(order(Drop(), peer(ONE))))
        agent.until(Told.IN_FORCE)
        assert lab.left() != []
        assert reach(lab.target, ONE) == "silence"
        killed = agent.signal(signal.SIGKILL)
        while lab.left():
            assert time.monotonic() - killed < GONE_SECONDS
            time.sleep(0.001)
        record_property("seconds until gone", time.monotonic() - killed)
        assert reach(lab.target, ONE) == "ok"


def test_a_terminated_agent_reverts_and_says_why(lab: Lab) -> None:
    cut, later = order(Drop(), peer(ONE)), order(Drop(), peer(ONE), start_at=20.0)
    agent = lab.start(plan(cut, later))
    agent.until(Told.IN_FORCE)
    signalled = Instant.now()
    agent.signal(signal.SIGTERM)
    told = agent.end()
    assert next(line for line in told if line.told is Told.CLEARED).at.since(signalled) < GONE_SECONDS
    assert agent.of(cut.injection) == [Told.IN_FORCE, Told.CLEARED, Told.VERIFIED]
    assert next(line for line in told if line.told is Told.CLEARED).detail == {"why": "Terminated"}
    assert agent.of(later.injection) == [Told.REFUSED]
    assert lab.left() == []


@pytest.mark.parametrize(
    ("times", "why"), [({"duration": 0.7}, "Duration"), ({"duration": 20, "not_after": 10.0}, "NotAfter")]
)
def test_a_fault_ends_by_its_own_deadline(lab: Lab, times: dict[str, Any], why: str) -> None:
    cut = order(Drop(), peer(ONE), **times)
    agent = lab.start(plan(cut))
    begun = agent.until(Told.IN_FORCE)
    cleared = agent.until(Told.CLEARED)
    assert cleared.detail == {"why": why}
    late = cleared.at.since(begun.at) - 0.7 if why == "Duration" else cleared.at.utc - cut.not_after
    assert -0.05 < late < LATE_SECONDS  # less than none where the agent was kept waiting between two readings
    agent.end()
    assert lab.left() == []


def test_an_agent_that_comes_too_late_touches_nothing(lab: Lab) -> None:
    late = order(Drop(), peer(ONE), start_at=-10, start_before=-5)
    over = order(Drop(), peer(ONE), start_at=-10, not_after=-1)
    agent = lab.start(plan(late, over))
    told = agent.end()
    assert [line.told for line in told] == [Told.STARTED, Told.REFUSED, Told.REFUSED, Told.FINISHED]
    assert {line.detail["reason"] for line in told if line.told is Told.REFUSED} == {"TooLate"}


def test_an_order_waits_for_its_time(lab: Lab) -> None:
    cut = order(Drop(), peer(ONE), start_at=10.0, duration=0.3)
    agent = lab.start(plan(cut))
    begun = agent.until(Told.IN_FORCE)
    assert 0 <= begun.at.utc - cut.start_at < LATE_SECONDS
    agent.end()


def test_an_order_that_fails_does_not_stop_the_others(lab: Lab) -> None:
    bad, good = order(Drop(), peer("999.1.1.1")), order(Drop(), peer(ONE), duration=0.5)
    agent = lab.start(plan(bad, good))
    agent.end()
    assert agent.of(bad.injection) == [Told.FAILED, Told.VERIFIED]
    assert agent.of(good.injection) == [Told.IN_FORCE, Told.CLEARED, Told.VERIFIED]
    assert lab.left() == []


def test_a_stop_answers_when_everything_is_verified(lab: Lab) -> None:
    cut = order(Drop(), peer(ONE))
    agent = lab.start(plan(cut))
    agent.until(Told.IN_FORCE)
    code, answer = agent.control({"stop": True})
    assert (code, answer["ok"], answer["leftovers"]) == (0, True, {cut.injection: []})
    assert lab.left() == []
    agent.end()
    assert agent.control({"ping": True})[1]["error"] == "no agent runs here any more"


def test_a_ping_tells_the_clock(lab: Lab) -> None:
    agent = lab.start(plan(order(Drop(), peer(ONE))))
    agent.until(Told.IN_FORCE)
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    code, answer = agent.control({"ping": True})
    assert (code, answer["ok"]) == (0, True)
    assert before < answer["at"]["nanos"] < time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_table_that_nobody_took_away_is_told(lab: Lab) -> None:
    """The broken variant: what an agent cannot know of is found all the same."""
    cut = order(Drop(), peer(ONE), duration=0.3)
    with lab.target.entered():
        subprocess.run(["nft", "add table ip bb-by-hand"], check=True)
    agent = lab.start(plan(cut))
    assert agent.until(Told.VERIFIED).detail == {"leftovers": ["nft table ip bb-by-hand"]}
    agent.end()
    verifier = lab.start(plan(cut), "verify")
    assert verifier.until(Told.VERIFIED).detail == {"leftovers": ["nft table ip bb-by-hand"]}
    verifier.end()
    assert lab.left() == ["nft table ip bb-by-hand"]  # looked at, not touched


def test_a_fault_ends_though_nobody_reads_the_evidence(lab: Lab) -> None:
    """The log's reader going away must not keep a fault in force."""
    cut = order(Drop(), peer(ONE), duration=1.0)
    with lab.target.entered():
        command = f"set -o pipefail; {sys.executable} -m bounceback.agent run | head -n 2"
        process = subprocess.Popen(
            ["bash", "-c", command], env=environment(plan(cut), lab.folder), stdout=subprocess.PIPE
        )
    with process:
        assert process.stdout is not None
        lines = [Line.from_json(text.decode()) for text in process.stdout]
        assert [line.told for line in lines if line] == [Told.STARTED, Told.IN_FORCE]
        assert process.wait(30) == 0
    assert lab.left() == []


def test_a_fault_ends_though_the_log_cannot_be_written(lab: Lab) -> None:
    """A runtime that stopped reading, because its disk is full: the pipe is full from the start."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    with lab.target.entered():
        command = [sys.executable, "-m", "bounceback.agent", "run"]
        cut = plan(order(Drop(), peer(ONE), duration=3.0))
        process = subprocess.Popen(command, env=environment(cut, lab.folder), stdout=write)
    os.close(write)
    try:
        started = time.monotonic()
        while not lab.left():
            assert time.monotonic() - started < 25.0
            time.sleep(0.01)
        begun = time.monotonic()
        while lab.left():
            assert time.monotonic() - begun < 15.0
            time.sleep(0.01)
        told = os.fdopen(read).read().lstrip("x").splitlines()  # and what was told is there when it is read
        assert [line.told for text in told if (line := Line.from_json(text))][-1] is Told.FINISHED
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
