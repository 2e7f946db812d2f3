"""What an agent and its guard left that were killed at once: undone by who comes to look, where it was in force."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from bounceback.drivers.processes import of_pod
from bounceback.types.files import Spoil
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Feature, Netem, Order, Plan
from bounceback.types.scarce import Backlog, Descriptors
from bounceback.types.signals import Freeze
from bounceback.types.told import Told
from tests.kernel.lab import ONE, Lab, order, peer, plan
from tests.kernel.pods import Inside, container, on, until
from tests.kernel.test_crowd import LISTENS, PORT
from tests.kernel.test_node_pod import node

__all__ = ["node"]
FILE = "/data/file"


@dataclass(frozen=True)
class Fault:
    act: InsideAct
    is_felt: Callable[[Inside], bool]
    is_seen: bool = True  # by who has no notes

    def __str__(self) -> str:
        return type(self.act).__name__


FAULTS = (
    Fault(Freeze(), lambda app: all(each.stands() for each in of_pod(app.uid))),
    Fault(Spoil(path=FILE, damage="Remove"), lambda app: app.say(f"os.path.exists({FILE!r})") == "False"),
    Fault(Descriptors(limit=20), lambda app: app.say("__import__('resource').getrlimit(7)[0]") == "20"),
    Fault(
        Backlog(port=PORT, size=1),
        lambda app: app.say("int.from_bytes(server.getsockopt(6, 11, 104)[28:32], 'little')") == "1",
        is_seen=False,
    ),
)


def lost(
    node: Lab, made: Order, *, on_node: bool = True, meanwhile: Callable[[], object] = bool
) -> tuple[Plan, list[dict[str, Any]]]:
    """In force when both were killed: its plan, and what the agent had told that it takes to undo it, each time."""
    whole = plan(made, on_node=on_node, guarded=True)
    where = node.one if on_node else node.target
    agent, guard = node.start(whole, where=where), node.start(whole, "guard", where=where)
    agent.until(Told.IN_FORCE, seconds=60)
    meanwhile()
    agent.signal(signal.SIGSTOP)  # or it would put things right for want of a guard
    guard.signal(signal.SIGKILL)
    agent.signal(signal.SIGKILL)
    for each in (guard, agent):
        each.process.send_signal(signal.SIGCONT)  # nsenter(1) stops itself where its child is stopped
        each.process.wait(30)
    with pytest.raises(AssertionError, match="ended without finished"):
        agent.until(Told.FINISHED)
    return whole, [line.detail for line in agent.told if line.told is Told.NOTED]


def by(whole: Plan, noted: list[dict[str, Any]]) -> dict[str, Any]:
    """What was noted last, for who comes to undo it."""
    return {whole.orders[0].injection: noted[-1] if noted else {}}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_what_was_in_force_is_undone_by_who_looks(node: Lab, fault: Fault) -> None:
    with container(node, node.target, program=LISTENS) as app:
        app.say(f"open({FILE!r}, 'w').close()")
        whole, noted = lost(node, on(app, fault.act))
        looks = node.start(whole, "verify", where=node.one)
        assert bool(looks.until(Told.VERIFIED).detail["leftovers"]) == fault.is_seen
        looks.end()
        assert fault.is_felt(app), "nobody knows that it was ours"
        undoes = node.start(whole, "verify", where=node.one, notes=by(whole, noted))
        assert "undone now" in undoes.until(Told.CLEARED).detail["seen"][0]
        assert undoes.until(Told.VERIFIED).detail == {"leftovers": []}
        undoes.end()
        until(lambda: not fault.is_felt(app))


def test_contents_that_go_on_changing_are_left_beside_rather_than_lost(node: Lab) -> None:
    """The last line of a log may be lost with who wrote it, and by the one before it a newer content would be."""
    with container(node, node.target) as app:

        def write(content: str) -> None:
            app.say(f"open('/data/mine', 'w').write({content!r}) and os.rename('/data/mine', {FILE!r})")

        def newer() -> None:
            write("newer")
            until(lambda: app.say(f"open({FILE!r}).read()") == "old")

        write("old")
        whole, noted = lost(node, on(app, Spoil(path=FILE, damage="Stale")), meanwhile=newer)
        assert noted == []
        undoes = node.start(whole, "verify", where=node.one, notes=by(whole, noted))
        (left,) = undoes.until(Told.VERIFIED).detail["leftovers"]
        assert "bb-was-" in left
        undoes.end()
        assert app.say(f"open('/data/{left.split()[1]}').read()") == "newer"


def test_packets_that_were_in_force_flow_again(lab: Lab, needs: Callable[..., None]) -> None:
    needs(Feature.NETEM, Feature.PRIO, Feature.U32)
    whole, _ = lost(lab, order(Netem(delay_us=100_000), peer(ONE)), on_node=False)
    assert lab.left()
    undoes = lab.start(whole, "verify", notes=by(whole, []))
    assert undoes.until(Told.VERIFIED).detail == {"leftovers": []}
    undoes.end()
    assert lab.left() == []
