"""What the kernel is made to do: one driver a mechanism, each order that it carries out reversible and counted.

A driver is a module with `apply`, `undo` and a result of `apply` that can count, change and end what it began.
Standard library only: the agent imports this, and imports a driver only when its plan has an order for it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast, runtime_checkable

from bounceback.drivers.netns import Netns
from bounceback.types.inside import InsideAct
from bounceback.types.plan import Act, ApiRules, Flow, Order, Plan, Queued, Redirect

FIRST_LOOK_SECONDS: Final = 0.05  # a first hit is told that soon
DRAIN_SECONDS: Final = 1.0  # what a delay holds for longer than this is lost when the delay ends
NOTHING_MORE: Final[Mapping[str, Any]] = {}
PREFIX: Final = "bb-"  # of everything with a name that Bounceback makes in a kernel


class Refused(Exception):  # noqa: N818 - a decision, not a fault
    """The order cannot be carried out here, and nothing is changed. `reason` is one word for programs."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class KernelError(Exception):
    """The kernel (or the tool that speaks to it) did not do what it was told; the message is its own."""


class TargetGone(KernelError):  # noqa: N818 - nobody's mistake
    """The pod ends, and with it what was in force there."""


class Notes:
    """What an order must know to be undone, where nothing that is left tells it: the guard has it before it is applied.

    `kept` is JSON. In a guard it is what the agent has written; in a look at what both have left, what the agent told
    of it, whose last part may be missing. Of what `changing` is true in nothing is told: by old notes it would be lost.
    """

    def __init__(self, kept: Mapping[str, Any] = NOTHING_MORE, tell: Callable[[Mapping[str, Any]], None] | None = None):
        self.kept = dict(kept)
        self._tell = tell

    def write(self, **words: Any) -> None:
        self.kept |= words
        if self._tell is not None:
            self._tell(self.kept)


@dataclass(frozen=True, slots=True)
class Site:
    """Where an order is carried out, and what is spared there."""

    netns: Netns
    exempt: tuple[str, ...] = ()  # CIDRs
    slot: int = 0  # which of the target's orders by qdisc this is
    guarded: bool = False  # a guard would undo what the kernel does not undo by itself
    resolvers: tuple[str, ...] = ()  # addresses that the target's /etc/resolv.conf names, for orders about names
    proc: str = "/proc"  # where the node's processes are seen
    notes: Notes = field(default_factory=Notes)


class InForce(Protocol):
    """An order that is in force in a kernel."""

    detail: dict[str, str]
    first_look_seconds: float  # between looks until something was hit: from then on the agent has its own pace
    drain_seconds: float  # how long what is held may take to go, once it is lifted
    over_when_lifted: bool  # whether what is held then is no longer under the fault: it may only end in peace
    farewell: Mapping[str, Any]  # what else is told when it is cleared

    def hits(self) -> int:
        """Packets touched so far. Raises KernelError when what counted is gone, TargetGone if that is as it must be."""

    def held(self) -> int:
        """Packets that are held back at this moment and would be lost by `revert`."""

    def amend(self, flows: tuple[Flow, ...]) -> None:
        """Other flows, without a gap in between. Raises KernelError, and the old flows stay."""

    def change(self, act: Act | None) -> None:
        """Another act of the same kind, without a gap; None: nothing is hit until the next change.

        What is held back stays in order, and hits go on where they were. Raises KernelError.
        """

    def lift(self) -> None:
        """New packets are not touched any more; held ones are let go in their time."""

    def revert(self) -> None:
        """All of it is gone afterwards. Raises KernelError, and may be called again then."""


@runtime_checkable
class Turning(Protocol):
    """An order in force that is not done with being applied: it has turns, the first of them right after that."""

    def turn(self) -> float | None:
        """What is due is done: seconds until the next turn, math.inf for none.

        None: it is over, as there is no more to it. Raises KernelError, TargetGone.
        """


class HoldsNothing:
    """The parts of an InForce that are the same for all that hold nothing back and have no flows."""

    first_look_seconds = FIRST_LOOK_SECONDS
    drain_seconds = 0.0
    over_when_lifted = False
    farewell: Mapping[str, Any] = NOTHING_MORE

    def held(self) -> int:
        return 0

    def amend(self, flows: tuple[Flow, ...]) -> None:
        """There are none."""

    def lift(self) -> None:
        """All of it is for `revert`."""


class Driver(Protocol):
    def apply(self, order: Order, site: Site) -> InForce:
        """All of it or nothing. Raises Refused or KernelError."""

    def undo(self, order: Order, site: Site) -> None:
        """What another process applied is gone afterwards, as is what it only began. Raises KernelError."""


class Looker(Driver, Protocol):
    """A driver that knows by itself what it may have left; of the others it is in the target's network."""

    def left(self, order: Order, site: Site) -> list[str]:
        """What of the order is still there. Raises KernelError, OSError."""


class Started(Protocol):
    """An order that takes its time before it can be applied, and is at that."""

    def apply(self) -> InForce:
        """See `Driver.apply`."""

    def end(self) -> None:
        """It is not applied any more."""


class Starter(Driver, Protocol):
    """A driver of such orders."""

    def start(self, order: Order, site: Site) -> Started:
        """Touches nothing that would have to be undone. Raises Refused, KernelError or OSError."""


def starter(act: Act) -> Starter | None:
    """None: `apply` does not take long."""
    return cast(Starter, driver(act)) if isinstance(act, Redirect) else None


def driver(act: Act) -> Driver:
    """Imported here because a plan seldom needs both, and the agent is billed to its target."""
    return cast(Driver, importlib.import_module(f"bounceback.drivers.{act.driver}"))


def looker(act: ApiRules | InsideAct) -> Looker:
    return cast(Looker, driver(act))


def slots(orders: Iterable[Order]) -> dict[str, int]:
    """Injection to its place among the qdiscs, or the relays, of the same pod: the same for all who read the plan."""
    taken: dict[tuple[str, bool], int] = {}
    result: dict[str, int] = {}
    for order in orders:
        if isinstance(order.act, Queued | Redirect):
            kind = (order.pod_uid, isinstance(order.act, Redirect))
            result[order.injection] = taken.get(kind, 0)
            taken[kind] = result[order.injection] + 1
    return result


def site(plan: Plan, order: Order, netns: Netns, proc: str = "/proc") -> Site:
    return Site(netns, plan.exempt, slots(plan.orders).get(order.injection, 0), plan.guarded, proc=proc)
