"""Injections on their way: agents started, their evidence followed, requests made; and stopped early where asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp

from bounceback.api.experiment import FaultExperimentSpec, FaultTiming
from bounceback.api.status import InjectionStatus, StartStatus
from bounceback.controller.office import Office
from bounceback.controller.way import Way, all_of
from bounceback.engine.evidence import DONE, fold, fold_end, is_unheard, with_offset
from bounceback.engine.model import AgentEnd, AgentFate
from bounceback.engine.planning import Carried
from bounceback.engine.recording import AgentLines, Room
from bounceback.faults.base import NetworkFault
from bounceback.kube import KubeError
from bounceback.types.instants import Instant
from bounceback.types.outcome import NOT_STARTED, Cleanup, InjectionState, StartState, VehicleKind
from bounceback.types.plan import Flow
from bounceback.types.told import Line, Told
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.peers import follow

AT_ONCE: Final = 20
"""Agents that are started in parallel for one experiment."""
PASSING: Final = (KubeError, aiohttp.ClientError, TimeoutError)
AMEND_AGAIN: Final = 2.0  # seconds
TELL_AGAIN: Final = 0.5  # seconds
log = logging.getLogger(__name__)


class Injections:
    """All injections of one run, by name; the one place where they change between two steps."""

    def __init__(
        self, injections: Sequence[InjectionStatus], changed: Callable[[], None], room: Room | None = None
    ) -> None:
        self._all = {injection.name: injection for injection in injections}
        self._changed = changed
        self._held: frozenset[str] = frozenset()
        self._news = asyncio.Event()
        self.told = AgentLines(room)  # by those that carry them

    def all(self) -> tuple[InjectionStatus, ...]:
        return tuple(self._all.values())

    def decided(self, injections: Sequence[InjectionStatus]) -> None:
        """What a step made of them."""
        self._all = {injection.name: injection for injection in injections}
        self._news.set()

    def written(self, starts: Sequence[StartStatus]) -> None:
        """What stands in the status of faults that wait: nothing of them begins, or is over, before it does."""
        self._held = frozenset(start.fault for start in starts if start.state is StartState.WAITING)
        self._news.set()

    def waits(self, injection: InjectionStatus) -> bool:
        """Whether it is not to begin yet, whatever its time is."""
        return injection.waiting or injection.fault in self._held

    def look_again(self) -> None:
        """What `until` waits for may hold now, though no injection changed."""
        self._news.set()

    async def until(self, holds: Callable[[tuple[InjectionStatus, ...]], bool]) -> None:
        while not holds(self.all()):
            self._news.clear()
            await self._news.wait()

    def learn(self, names: Sequence[str], change: Callable[[InjectionStatus], InjectionStatus]) -> None:
        before = {name: self._all[name] for name in names if name in self._all}
        after = {name: change(injection) for name, injection in before.items()}
        if after != before:
            self._all |= after
            self._news.set()
            self._changed()


class Carrying(Way):
    """The agents of one run. Each part may be begun again by another operator: starting twice is starting once."""

    def __init__(
        self,
        office: Office,
        namespace: str,
        spec: FaultExperimentSpec,
        injections: Injections,
        carried: Sequence[Carried],
    ) -> None:
        self._office = office
        self._namespace = namespace
        self._spec = spec
        self._injections = injections
        self._carried = list(carried)
        self._growing = any(entry.follow_replacements for entry in spec.faults)
        self._tasks: asyncio.TaskGroup | None = None  # while it carries
        self._acting = office.kube.acting_as(namespace, spec.service_account_name)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._wanted: dict[str, tuple[Flow, ...]] = {}  # where each fault's peers are now
        self._flows: dict[str, tuple[Flow, ...]] = {}  # what each injection was amended to last
        self._moved = asyncio.Event()
        self._notes: dict[str, Mapping[str, Any]] = {}  # by injection: what its agent wrote down to undo it by
        self._said: set[str] = set()  # injections whose orders waited, and were told

    async def carry(self) -> None:
        """Start every agent and follow its evidence to the end; peers are followed beside it."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for carried in self._carried:
                if any(i.state not in DONE or is_unheard(i) for i in self._of(carried)):
                    tasks.create_task(self._one(carried))
            followers = [
                tasks.create_task(self._follow_peers(entry)) for entry in self._spec.faults if _has_peers(entry)
            ]
            followers.append(tasks.create_task(self._keep_up()))
            followers.append(tasks.create_task(self._let_begin()))
            try:
                await self._all_done()
            finally:
                self._tasks = None
                for follower in followers:
                    follower.cancel()

    def add(self, carried: Sequence[Carried]) -> None:
        """More of them, known to the journal by now; those that are known already are left out."""
        known = {each.plan.agent for each in self._carried}
        for each in carried:
            if each.plan.agent not in known:
                self._carried.append(each)
                if self._tasks is not None:
                    self._tasks.create_task(self._one(each))

    async def stop(self) -> None:
        """End what is in force or about to be, through the kubelets; raises what the last one could not do."""
        waiting = [c for c in self._carried if any(i.state not in DONE for i in self._of(c))]
        await all_of(self._stop_one(c) for c in waiting)

    async def verify(self) -> None:
        """Look for what was left wherever an agent could not say so itself."""
        await asyncio.gather(*(self._verify_one(carried) for carried in self._carried))

    async def remove(self) -> None:
        for carried in self._carried:
            await self._office.agents.remove(carried.ref)

    async def _verify_one(self, carried: Carried) -> None:
        open_ones = [i for i in self._of(carried) if i.cleanup is Cleanup.UNVERIFIED and i.state in DONE]
        if not open_ones:
            return
        notes = {i.name: self._notes.get(i.name, {}) for i in open_ones if i.in_force_at}
        async with self._slots:
            lines = await self._office.agents.verify(carried.plan, carried.ref.node, notes)
        for line in lines:
            if line.told in (Told.CLEARED, Told.VERIFIED):
                self._told(carried, line)

    def _of(self, carried: Carried) -> list[InjectionStatus]:
        names = {order.injection for order in carried.plan.orders}
        return [i for i in self._injections.all() if i.name in names]

    async def _one(self, carried: Carried) -> None:
        if not await self._start(carried):
            return
        await self._follow(carried, guard=False)
        if carried.ref.guarded and any(i.cleanup is Cleanup.UNVERIFIED for i in self._of(carried)):
            await self._follow(carried, guard=True)
            await self._verify_one(carried)  # where the guard is gone, too, nobody else undoes it

    async def _start(self, carried: Carried) -> bool:
        """True when the agent is there. What passes is tried again until nobody may begin any more."""
        last = max(order.start_before for order in carried.plan.orders)
        pause = 0.2
        while Instant.now().utc < last:
            self._office.leadership.check()
            try:
                async with self._slots:
                    await self._office.agents.start(self._acting, carried.ref, carried.plan)
                return True
            except Refused as refused:
                self._ended(carried, AgentEnd(AgentFate.NEVER_STARTED, refused.message))
                return False
            except PASSING as error:
                log.info("%s: %s", carried.ref.pod, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
        return True  # too late to start one, not too late to hear of one that an operator before us started

    async def _follow(self, carried: Carried, *, guard: bool) -> None:
        pinged = False
        self._injections.told.begin(carried.plan.agent, guard)
        async for item in self._office.agents.evidence(self._acting, carried.ref, guard=guard):
            if isinstance(item, AgentEnd):
                if not guard:
                    self._ended(carried, item)
                return
            self._told(carried, item, guard=guard)
            if item.told is Told.IN_FORCE:
                self._moved.set()  # peers may have moved since it was planned
            if item.told is Told.IN_FORCE and not pinged and item.at.boot != Instant.now().boot:
                pinged = True
                await self._ping(carried)

    def _told(self, carried: Carried, line: Line, *, guard: bool = False) -> None:
        received = Instant.now()
        self._injections.told.add(carried.plan.agent, guard, line)
        if line.told is Told.NOTED:
            self._notes[line.injection] = line.detail
        names = [order.injection for order in carried.plan.orders]
        self._injections.learn(names, lambda injection: fold(injection, line, received))

    def _ended(self, carried: Carried, end: AgentEnd) -> None:
        now = Instant.now()
        names = [order.injection for order in carried.plan.orders]
        self._injections.learn(names, lambda injection: fold_end(injection, end, now))

    async def _ping(self, carried: Carried) -> None:
        """Measure the clock of a node that is not ours; without it the bounds are only those of causality."""
        try:
            span = await self._office.agents.ping(self._acting, carried.ref)
        except (*PASSING, Refused) as error:
            log.info("clock of %s not measured: %s", carried.ref.node, error)
            return
        names = [order.injection for order in carried.plan.orders]
        self._injections.learn(names, lambda injection: with_offset(injection, span.least, span.most))

    async def _stop_one(self, carried: Carried) -> None:
        if carried.ref.vehicle is VehicleKind.NODE_POD and not any(i.in_force_at for i in self._of(carried)):
            await self._office.agents.remove(carried.ref)  # SIGTERM: it reverts, or never begins
            return
        await self._office.agents.stop(self._acting, carried.ref)

    async def _follow_peers(self, entry: FaultTiming) -> None:
        """Know where the peers are now, and have it put in force."""
        fault = entry.fault
        assert isinstance(fault, NetworkFault)
        async for flows in follow(self._acting, self._namespace, fault.peers):
            self._wanted[entry.name] = flows
            self._moved.set()

    async def _keep_up(self) -> None:
        """Amend whatever is in force with other flows than those wanted; what fails is tried again a little later."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            outcomes = await asyncio.gather(*(self._amend(c) for c in self._carried))
            if not all(outcomes):
                await asyncio.sleep(AMEND_AGAIN)
                self._moved.set()

    async def _amend(self, carried: Carried) -> bool:
        """False when something could not be amended."""
        active = {i.name for i in self._of(carried) if i.in_force_at and i.state not in DONE}
        moved = {
            order.injection: wanted
            for order in carried.plan.orders
            if order.injection in active
            and (wanted := self._wanted.get(order.fault, order.flows)) != self._flows.get(order.injection, order.flows)
        }
        if not moved:
            return True
        try:
            await self._office.agents.amend(self._acting, carried.ref, moved)
        except (*PASSING, Refused) as error:
            log.warning("changed peers are not in force at %s yet: %s", carried.ref.pod, error)
            return False
        self._flows |= moved
        return True

    async def _let_begin(self) -> None:
        """Tell orders that wait when they begin, or that they never do, as soon as that is written down."""
        while True:
            await self._injections.until(lambda _: any(self._untold(c) for c in self._carried))
            outcomes = await asyncio.gather(*(self._tell(c, self._untold(c)) for c in self._carried))
            if not all(outcomes):
                await asyncio.sleep(TELL_AGAIN)

    def _untold(self, carried: Carried) -> dict[str, InjectionStatus | None]:
        """By injection: its times, or None where it never begins. Nothing is said when it would be too late."""
        now, waiting = Instant.now().utc, {order.injection for order in carried.plan.orders if order.waits}
        mine = [i for i in self._of(carried) if i.name in waiting - self._said and not self._injections.waits(i)]
        begin = {i.name: i for i in mine if i.state is InjectionState.PLANNED and now < i.start_before}
        never = {i.name: None for i in mine if i.reason == NOT_STARTED}
        return {**begin, **never}

    async def _tell(self, carried: Carried, starts: dict[str, InjectionStatus | None]) -> bool:
        """False when it was not heard."""
        if not starts:
            return True
        self._office.leadership.check()
        try:
            await self._office.agents.begin(self._acting, carried.ref, starts)
        except (*PASSING, Refused) as error:
            log.info("%s is not told when to begin yet: %s", carried.ref.pod, error)
            return False
        self._said |= starts.keys()
        self._injections.look_again()
        return True

    async def _all_done(self) -> None:
        """Never, where more of them may still come."""

        def over(injections: tuple[InjectionStatus, ...]) -> bool:
            names = {order.injection for carried in self._carried for order in carried.plan.orders}
            return not self._growing and all(i.state in DONE for i in injections if i.name in names)

        await self._injections.until(over)
        await self._injections.until(lambda _: not any(self._untold(carried) for carried in self._carried))


def _has_peers(entry: FaultTiming) -> bool:
    fault = entry.fault
    return entry.follow and isinstance(fault, NetworkFault) and any(not peer.cidr for peer in fault.peers)
