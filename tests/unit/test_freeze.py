"""Who is meant by a signal, and who is said to have let go on what we had stopped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bounceback.drivers import Site, freeze
from bounceback.drivers.netns import Netns
from bounceback.drivers.processes import Process, chosen
from bounceback.types.inside import Who
from bounceback.types.plan import Direction, Order
from bounceback.types.signals import Freeze

ORDER = Order("it", "still", "shop", "app", "uid", Freeze(who=Who("app")), Direction.BOTH, (), 0.0, 1.0, 20.0, 10.0)


class Sleeper(Process):
    """Stands still, or goes on, a moment after it was told to."""

    signals: list[int]
    states: list[str]

    def send(self, number: int) -> bool:
        self.signals.append(number)
        return True

    def state(self) -> str:
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]


def sleeper(*states: str) -> Sleeper:
    made = Sleeper(7, 1, "app", "shop")
    object.__setattr__(made, "signals", [])
    object.__setattr__(made, "states", list(states))
    return made


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Process], freeze.Frozen]:
    def made(process: Process) -> freeze.Frozen:
        monkeypatch.setattr(freeze, "meant_now", lambda order, site: [process])
        assert isinstance(ORDER.act, Freeze)
        holding = freeze.Frozen(ORDER, Site(Netns()), ORDER.act)
        holding.hold([process])
        return holding

    return made


def test_who_stands_still_a_moment_later_was_let_go_on_by_nobody(
    frozen: Callable[[Process], freeze.Frozen],
) -> None:
    holding = frozen(sleeper("T", "T", "S", "T"))
    holding.change(ORDER.act)  # a step of a ramp
    assert holding.hits() == 1
    assert len(holding.farewell["seen"]) == 1


def test_who_goes_on_though_we_had_stopped_it_was_let_go_on_by_somebody(
    frozen: Callable[[Process], freeze.Frozen],
) -> None:
    holding = frozen(sleeper("T", "S"))
    holding.hits()
    assert holding.farewell["seen"][1] == "1 times somebody else had let one go on"


def test_the_runtime_that_starts_a_container_is_nobody_that_is_meant() -> None:
    starting, app = Process(1, 1, "app", "runc:[2:INIT]"), Process(2, 2, "app", "shop")
    assert chosen([starting, app], Who("app")) == [app]
