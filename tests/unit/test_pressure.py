"""Pressure faults: what is asked of an agent, what speaks against it, and what becomes of a container that ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import ClassVar

import pytest

from bounceback.drivers import Site, pressing
from bounceback.drivers.netns import Netns
from bounceback.drivers.pressing import Press, Pressure
from bounceback.drivers.processes import Process
from bounceback.faults.cpu_pressure import CpuPressure
from bounceback.faults.memory_pressure import MemoryPressure
from bounceback.faults.pressure import PressureFault
from bounceback.faults.process_pressure import ProcessPressure
from bounceback.types.inside import Container, InsideAct, Who
from bounceback.types.plan import Direction, Order, act_from
from bounceback.types.pressure import Cpu, Memory, Pids, Victim

LIMITED = Container("app", memory_limit=1 << 27, cpu_limit=500)
UNLIMITED = Container("sidecar")
OURS = Container("bounceback-api-proxy")


@pytest.mark.parametrize(
    ("fault", "act"),
    [
        (CpuPressure(workers=3, container="app"), Cpu(who=Who("app"), processors=3.0)),
        (CpuPressure(percent_of_limit=80), Cpu(percent=80.0)),
        (MemoryPressure(amount_bytes=1 << 24, victim=Victim.TARGET), Memory(amount=1 << 24, victim="Target")),
        (MemoryPressure(percent_of_limit=50, growth_bytes_per_second=5000), Memory(percent=50.0, growth=5000)),
        (ProcessPressure(processes=9), Pids(amount=9)),
    ],
    ids=repr,
)
def test_what_an_agent_is_asked_for_survives_the_journey(fault: PressureFault, act: InsideAct) -> None:
    assert fault.act("it") == act
    assert act_from(json.loads(json.dumps(asdict(act)))) == act


def test_a_share_of_pressure_is_that_much_less() -> None:
    assert Cpu(processors=3.0).scaled(0.5).wanted(None) == 1.5
    assert Cpu(percent=80.0).scaled(0.25).wanted(2.0) == pytest.approx(0.4)
    assert Memory(percent=50.0, growth=7).scaled(0.5) == Memory(percent=25.0, growth=7)
    assert Memory(amount=100).scaled(0.1).wanted(None) == 10
    assert Pids(amount=9).scaled(0.5).wanted(None) == 5  # one at least
    assert Pids(percent=50.0).wanted(101) == 51


@pytest.mark.parametrize(
    ("fault", "containers", "reason"),
    [
        (CpuPressure(percent_of_limit=80), (LIMITED, OURS), None),
        (CpuPressure(percent_of_limit=80), (LIMITED, UNLIMITED), "NoLimit"),
        (CpuPressure(percent_of_limit=80, container="app"), (LIMITED, UNLIMITED), None),
        (CpuPressure(percent_of_limit=80, container="other"), (LIMITED,), "NoContainer"),
        (CpuPressure(workers=1), (UNLIMITED,), None),
        (MemoryPressure(percent_of_limit=80), (UNLIMITED,), "NoLimit"),
        (MemoryPressure(amount_bytes=1 << 24), (UNLIMITED,), None),
        (ProcessPressure(percent_of_limit=80), (UNLIMITED,), None),  # only its node knows
    ],
    ids=repr,
)
def test_a_share_of_no_limit_is_refused(
    fault: PressureFault, containers: tuple[Container, ...], reason: str | None
) -> None:
    obstacle = fault.obstacle(containers)
    assert (obstacle.reason if obstacle else None) == reason


class Stub(Press):
    """A container under pressure that lives as long as `alive` says."""

    alive: ClassVar[set[int]] = set()

    def follow(self, act: InsideAct | None) -> None:
        self.asked = act

    def ready(self) -> None: ...

    def tend(self) -> None:
        self.seen = {"kills": 1.0}

    def count(self) -> int:
        return 10

    def end(self) -> None: ...


class Added(Pressure):
    adds = True

    def press(self, process: Process) -> Press:
        return Stub(self._order, self._site, process)

    def words(self, seen: Mapping[str, float]) -> list[str]:
        return [f"{seen['kills']:.0f} kills"]


class Most(Added):
    adds = False


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """Those of the pod; who is not among them any more has ended."""
    there = [Process(7, 0, "app", "app"), Process(8, 0, "app", "app"), Process(9, 0, "", "pause")]
    monkeypatch.setattr(pressing, "enter", lambda proc: None)
    monkeypatch.setattr(pressing, "of_pod", lambda uid, proc: list(there))
    monkeypatch.setattr(Process, "alive", lambda self: self in there)
    monkeypatch.setattr(pressing, "AGAIN_SECONDS", 0.0)
    return there


def order() -> Order:
    return Order("it", "f", "ns", "p", "u", Cpu(processors=1.0), Direction.BOTH, (), 0.0, 1.0, 2.0, 1.0)


@pytest.mark.parametrize(("kind", "hits"), [(Added, 20), (Most, 10)])
def test_a_container_that_is_started_again_is_pressed_again(
    processes: list[Process], kind: type[Added], hits: int
) -> None:
    pressure = kind(order(), Site(Netns()))
    assert pressure.hits() == 10
    pressure.turn()
    processes[:] = [each for each in processes if each.container != "app"]
    pressure.turn()
    assert pressure.hits() == 10
    processes.append(Process(20, 5, "app", "app"))
    pressure.turn()
    assert pressure.hits() == hits
    pressure.lift()
    pressure.revert()
    assert pressure.farewell == {"seen": ["2 kills", "1 container was started again, and pressed again"]}


def test_in_a_pause_nothing_is_begun_again(processes: list[Process]) -> None:
    pressure = Most(order(), Site(Netns()))
    pressure.change(None)
    processes[:] = [Process(20, 5, "app", "app")]
    pressure.turn()
    pressure.turn()
    assert not pressure._pressed
    pressure.change(order().act)
    pressure.turn()
    assert [press.process.number for press in pressure._pressed] == [20]
