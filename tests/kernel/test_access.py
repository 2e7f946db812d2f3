"""Opens and reads of a container come late or fail: of that container only, and no longer than an agent lives."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bounceback.drivers import fanotify
from bounceback.drivers.access import GRACE_SECONDS, STALLED_SECONDS
from bounceback.drivers.pressing import named
from bounceback.types.access import Access
from bounceback.types.choice import Choice
from bounceback.types.inside import Who
from bounceback.types.pattern import OnOff
from bounceback.types.plan import Feature, Order
from bounceback.types.told import Told
from tests.kernel.lab import GONE_SECONDS, Agent, Lab, plan
from tests.kernel.pods import Inside, container, on, until
from tests.kernel.test_node_pod import node

__all__ = ["node"]
TRIES = 5
PROGRAM = """
import os, sys, time
print(os.getpid(), flush=True)
def took(path="/data/file", size=0):
    began = time.monotonic()
    number = os.open(path, os.O_RDONLY)
    if size: os.read(number, size)
    os.close(number)
    return time.monotonic() - began
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""

READS = f"""
import sys, time
def took():
    began = time.monotonic()
    open(sys.argv[1]).read()
    return time.monotonic() - began
print(min(took() for _ in range({TRIES})))
"""


@pytest.fixture
def asked(needs: Callable[..., None]) -> None:
    needs(Feature.FANOTIFY)


@pytest.fixture
def app(asked: None, node: Lab) -> Iterator[Inside]:
    with container(node, node.target, program=PROGRAM, user=1234) as made:
        made.say("open('/data/file', 'w').write('text' * 100) and os.chmod('/data', 0o700)")
        yield made


def begun(node: Lab, order: Order) -> Agent:
    agent = node.start(plan(order, on_node=True), where=node.one)
    agent.until(Told.IN_FORCE, seconds=60)
    return agent


def late(where: Inside, call: str = "took()") -> float:
    return float(where.say(call))


def quickest(where: Inside, call: str = "took()") -> float:
    """The shortest of some. A busy machine makes them longer, nothing makes them shorter."""
    return min(late(where, call) for _ in range(TRIES))


def stopped(agent: Agent) -> str:
    code, answer = agent.control({"stop": True})
    assert code == 0, answer
    assert not any(answer["leftovers"].values())
    seen: list[str] = next(line for line in agent.end() if line.told is Told.CLEARED).detail["seen"]
    return seen[0]


def children(order: Order) -> list[int]:
    """Processes that answer for it, by this machine's numbers."""
    found = []
    for each in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if each.read_text().strip() == named(order):
                found.append(int(each.parent.name))
    return found


def test_an_open_and_a_read_are_each_held_and_counted(node: Lab, app: Inside) -> None:
    agent = begun(node, on(app, Access(path="/data", delay_us=100_000)))
    assert 0.1 <= quickest(app) < 0.15
    assert 0.2 <= quickest(app, "took(size=9)") < 0.25
    assert quickest(app, "took('/etc/passwd', 9)") < 0.05, "that is on another mount"
    assert stopped(agent) == f"{2 * TRIES} opens and {TRIES} reads held at /data"
    assert max(line.hits for line in agent.told) == 3 * TRIES
    assert quickest(app, "took(size=9)") < 0.05


@pytest.mark.parametrize(("opens", "reads", "least"), [(True, False, 0.1), (False, True, 0.1)], ids=["open", "read"])
def test_only_the_operations_that_are_named_are_held(
    node: Lab, app: Inside, opens: bool, reads: bool, least: float
) -> None:
    begun(node, on(app, Access(path="/data/file", delay_us=100_000, opens=opens, reads=reads)))
    assert least <= quickest(app, "took(size=9)") < least + 0.05
    assert (quickest(app) >= least) == opens


def test_only_what_is_at_the_path_or_below_is_held(node: Lab, app: Inside) -> None:
    app.say("os.makedirs('/data/a/b') or open('/data/a/b/f', 'w').close() or open('/data/ab', 'w').close()")
    begun(node, on(app, Access(path="/data/a", delay_us=100_000)))
    assert late(app, "took('/data/a/b/f')") >= 0.1
    assert quickest(app, "took('/data/ab')") < 0.05
    assert quickest(app) < 0.05


@pytest.mark.parametrize(
    ("error", "words"),
    [("EPERM", "Operation not permitted"), ("EIO", "Input/output error"), ("ENOSPC", "No space left on device")],
)
def test_what_is_denied_fails_with_the_error_that_was_asked_for(
    node: Lab, app: Inside, error: str, words: str, needs: Callable[..., None]
) -> None:
    if error != "EPERM":
        needs(Feature.FANOTIFY_ERRNO)
    agent = begun(node, on(app, Access(path="/data", error=error)))
    assert app.say("took()") == words
    assert app.say("open('/data/file', 'a')") == words
    assert app.say("os.stat('/data/file').st_size") == "400", "nobody is asked about attributes"
    assert stopped(agent) == f"2 opens and 0 reads denied with {error} at /data"
    assert quickest(app) < 0.05


def test_an_error_that_this_kernel_cannot_answer_is_refused(node: Lab, app: Inside) -> None:
    agent = node.start(plan(on(app, Access(path="/data", error="EACCES")), on_node=True), where=node.one)
    refused = agent.until(Told.REFUSED, seconds=60)
    assert refused.detail["reason"] == "MissingFeature"
    assert "EPERM only" in refused.detail["message"]
    agent.end()


def test_a_kernel_that_asks_nobody_is_told_before_anything_is_touched(node: Lab) -> None:
    if Feature.FANOTIFY in fanotify.features():
        pytest.skip("this kernel asks")
    with container(node, node.target, kind="tmpfs", program=PROGRAM) as app:
        agent = node.start(plan(on(app, Access(path="/data", delay_us=1000)), on_node=True), where=node.one)
        refused = agent.until(Told.REFUSED, seconds=60)
        assert refused.detail["reason"] == "MissingFeature"
        assert "(fanotify)" in refused.detail["message"]
        agent.end()


def test_others_with_the_same_volume_are_not_delayed(node: Lab, app: Inside) -> None:
    """Neither a neighbour, nor the node, nor who comes through the container's own mount from outside."""
    with container(node, node.two, program=PROGRAM, volume=app.volume) as neighbour:
        begun(node, on(app, Access(path="/data", delay_us=300_000)))
        assert quickest(neighbour, "took(size=9)") < 0.05
        for path in (f"/proc/{app.process.pid}/root{app.volume}/file", f"/proc/{inner(app)}/root/data/file"):
            done = subprocess.run([sys.executable, "-c", READS, path], capture_output=True, text=True, check=True)
            assert float(done.stdout) < 0.05, path
        assert late(app) >= 0.3


def inner(app: Inside) -> int:
    """The container's process by this machine's numbers."""
    return int((app.groups[0] / "cgroup.procs").read_text().split()[0])


def test_a_killed_agent_lets_go_at_once(node: Lab, app: Inside) -> None:
    agent = begun(node, on(app, Access(path="/data", delay_us=30_000_000)))
    waiting(app)
    agent.signal(signal.SIGKILL)
    went_on(app, GONE_SECONDS)
    assert quickest(app) < 0.05


def waiting(app: Inside) -> None:
    """It has asked, and gets no answer."""
    assert app.process.stdin is not None
    app.process.stdin.write(b"took()\n")
    app.process.stdin.flush()
    until(lambda: "fanotify" in Path(f"/proc/{inner(app)}/stack").read_text())


def test_a_child_that_stands_still_is_ended_by_the_agent(node: Lab, app: Inside) -> None:
    order = on(app, Access(path="/data", delay_us=60_000_000))
    agent = begun(node, order)
    waiting(app)
    (child,) = children(order)
    os.kill(child, signal.SIGSTOP)
    went_on(app, STALLED_SECONDS + 3)
    assert "stood still" in agent.until(Told.FAILED).detail["message"]


def test_a_child_that_stood_still_is_ended_by_its_timer_though_the_agent_stands_still_too(
    node: Lab, app: Inside
) -> None:
    order = on(app, Access(path="/data", delay_us=60_000_000))
    agent = begun(node, order)
    waiting(app)
    (child,) = children(order)
    agent.signal(signal.SIGSTOP)
    os.kill(child, signal.SIGSTOP)
    time.sleep(STALLED_SECONDS + 1)  # nothing tells that a timer has run out
    os.kill(child, signal.SIGCONT)
    went_on(app, GONE_SECONDS)
    agent.signal(signal.SIGCONT)
    agent.until(Told.FAILED)


def went_on(app: Inside, seconds: float) -> None:
    """The access that waited is through within that time."""
    assert app.process.stdout is not None
    began = time.monotonic()
    assert app.process.stdout.readline()
    assert time.monotonic() - began < seconds


def test_it_is_over_at_its_last_moment_though_the_agent_stands_still(node: Lab, app: Inside) -> None:
    order = replace(on(app, Access(path="/data", delay_us=60_000_000)), not_after=time.time() + 8)
    agent = begun(node, order)
    agent.signal(signal.SIGSTOP)
    late(app)
    assert time.time() <= order.not_after + GRACE_SECONDS + 1.0
    until(lambda: not [each for each in children(order) if state(each) not in ("Z", "")])
    agent.signal(signal.SIGCONT)


def state(number: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def test_some_are_hit_by_chance_and_the_same_ones_with_the_same_seed(node: Lab, app: Inside) -> None:
    def tried() -> list[str]:
        act = Access(path="/data", opens=True, reads=False, error="EPERM", choice=Choice(probability=0.5, seed=7))
        agent = begun(node, on(app, act))
        found = [app.say("took() < 9") for _ in range(40)]
        stopped(agent)
        return found

    first = tried()
    assert 10 < first.count("True") < 30
    assert tried() == first


def test_between_its_turns_nothing_is_held(node: Lab, app: Inside) -> None:
    order = replace(on(app, Access(path="/data", delay_us=50_000)), pattern=OnOff(6.0, 6.0))
    agent = begun(node, order)
    assert late(app) >= 0.05
    assert agent.until(Told.STEP).detail["percent"] == 0
    assert quickest(app) < 0.04
    assert agent.until(Told.STEP).detail["percent"] == 100
    until(lambda: late(app) >= 0.05)


@pytest.mark.parametrize(
    ("path", "who", "reason"),
    [
        ("/nowhere", Who(), "NoPath"),
        ("/data/out/file", Who(), "NoPath"),
        ("/proc", Who(), "NotAVolume"),
        ("/data", Who(container="none"), "NoProcess"),
    ],
    ids=str,
)
def test_what_is_no_path_of_the_target_is_refused(node: Lab, app: Inside, path: str, who: Who, reason: str) -> None:
    (node.folder / "outside").mkdir()
    app.say(f"os.symlink('{node.folder}/outside', '/data/out')")
    agent = node.start(plan(on(app, Access(path=path, who=who, delay_us=1000)), on_node=True), where=node.one)
    assert agent.until(Told.REFUSED, seconds=60).detail["reason"] == reason
    agent.end()
