"""One run of an experiment, taken through its steps: decide, write down, hand out duties, wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from bounceback.api.evidence_status import EvidenceStatus
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import LISTED_INJECTIONS, FaultExperimentStatus, InjectionStatus
from bounceback.controller import metrics, resources
from bounceback.controller.admitting import Admitting
from bounceback.controller.attending import FIRST_PAUSE, LONGEST_PAUSE, PASSING, Attending
from bounceback.controller.carry import Carrying, Injections
from bounceback.controller.deleting import Deleting
from bounceback.controller.following import Following
from bounceback.controller.keeping import Keeping
from bounceback.controller.looking import Looking
from bounceback.controller.loud import loud
from bounceback.controller.office import Office
from bounceback.controller.outpost import ProberOutpost
from bounceback.controller.patching import Patching
from bounceback.controller.policing import Policing
from bounceback.controller.prepare import Preparing
from bounceback.controller.records import Planned, journal_record, restored
from bounceback.controller.referring import Referring
from bounceback.controller.repairing import Repairing
from bounceback.controller.way import Way, all_of
from bounceback.controller.working import Working
from bounceback.engine.advance import advance
from bounceback.engine.changing import originals_of, still_needed
from bounceback.engine.conditions import conditions
from bounceback.engine.evidence import counts
from bounceback.engine.following import watched
from bounceback.engine.planning import Preparation, agents
from bounceback.engine.policy import takes_policy
from bounceback.engine.recording import LINES_OF_RUN, SAMPLES_OF_RUN, Room
from bounceback.engine.reference_run import goes_on
from bounceback.engine.repairing import OVER, REPAIRED_ANNOTATION
from bounceback.engine.repeats import begun, next_run, spec_of_run
from bounceback.engine.state import Decision, Duty, Seen, State
from bounceback.faults import PodRemoval
from bounceback.faults.api_fault import ApiFault
from bounceback.faults.node_drain import NodeDrain
from bounceback.kube.client import Json
from bounceback.report.evidence import Whole
from bounceback.types.instants import Instant
from bounceback.types.outcome import EvidenceState, InjectionState, Phase, RepairState, Verdict

QUIET_WRITES: Final = 5.0
"""Seconds between two status writes that tell nothing but larger counts."""
UNKEPT: Final = (EvidenceState.DOUBTFUL, EvidenceState.PARTIAL, EvidenceState.NOT_KEPT)
RUN_OVER: Final = (Phase.REPEATING, Phase.FINISHED)
log = logging.getLogger(__name__)


class Run:
    """From where its status says it is to its end. Cancelling `drive` leaves everything so that another can go on."""

    def __init__(self, office: Office, body: Json, spec: FaultExperimentSpec, status: FaultExperimentStatus) -> None:
        metadata = body["metadata"]
        self._office = office
        self._body = body
        self._asked = spec
        self._name, self._namespace, self._uid = metadata["name"], metadata["namespace"], metadata["uid"]
        self._news = asyncio.Event()
        status = begun(spec, status.model_copy(update={"run_uid": self._uid}))
        self._spec = spec = spec_of_run(spec, status)
        self._run = status.run  # what the names of all that it makes follow from
        self._state = State(status)
        self._seen = Seen(claimed=resources.is_claimed(body))
        self._lines, self._samples = Room(LINES_OF_RUN, office.lines), Room(SAMPLES_OF_RUN, office.samples)
        self._injections = Injections(status.injections, self.wake, self._lines)
        self._planned = Planned()
        self._ways: list[Way] = []  # none before anything is planned
        self._referring = Referring(office, body, spec, self.wake)
        self._keeping = Keeping.of(office, body)
        self._doubt: EvidenceStatus | None = None  # what the evidence store had against it at the start
        self._preparing = Preparing(office, self._namespace, self._run, spec, status.checks)
        acting = office.kube.acting_as(self._namespace, spec.service_account_name)
        self._repairing = Repairing(acting, body, spec, office.leadership.check, self.wake)
        self._outpost = ProberOutpost(office, acting, body, self._run, spec)
        self._looking = Looking(office, self._namespace, spec, self.wake, self._samples, self._outpost)
        self._working = Working(office, acting, body, self._run, spec.service_account_name, self.wake)
        self._written = 0.0
        self._attending = Attending(
            f"{self._namespace}/{self._name}",
            {
                Duty.PREPARE: self._prepare,
                Duty.CLAIM: self._claim,
                Duty.LOOK: self._look,
                Duty.OBSERVE_BEFORE: self._observe_before,
                Duty.CARRY: self._carry,
                Duty.STOP: self._stop,
                Duty.MAKE_REPAIR: self._make_repair,
                Duty.REPAIR: self._repair,
                Duty.WORK: lambda: self._working.work(self._state.status),
                Duty.END_WORK: lambda: self._working.end(self._state.status),
                Duty.FOLLOW: lambda: self._referring.follow(self._state.status),
                Duty.READ_END: lambda: self._referring.read_end(self._state),
                Duty.VERIFY: self._verify,
                Duty.OBSERVE_CLEAR: self._observe_clear,
                Duty.OBSERVE_AFTER: self._observe_after,
                Duty.PACK: self._pack,
                Duty.KEEP: self._keep,
                Duty.RELEASE: self._release,
            },
            self.wake,
        )

    def wake(self) -> None:
        self._news.set()

    def changed(self, body: Json) -> None:
        """The object as the watch gave it: all that counts is whether it is to be ended, or somebody repaired it."""
        deleted = bool(body["metadata"].get("deletionTimestamp"))
        cancel = bool(body.get("spec", {}).get("cancel"))
        said = (body["metadata"].get("annotations") or {}).get(REPAIRED_ANNOTATION, "")
        self._saw(
            deleted=self._seen.deleted or deleted,
            cancel=self._seen.cancel or cancel,
            said_repaired=said or self._seen.said_repaired,
        )
        self.wake()

    def next(self) -> Run | None:
        """The run that follows on this one, which is over; None after the last."""
        if self._state.status.phase is not Phase.REPEATING:
            return None
        run = Run(self._office, self._body, self._asked, next_run(self._asked, self._state.status))
        run._seen = replace(run._seen, deleted=self._seen.deleted, cancel=self._seen.cancel)
        return run

    async def drive(self) -> None:
        """To its end. Raises FencedError, GoneError or NotLeaderError where it must not go on."""
        keeps = False
        try:
            await self._resume()
            while True:
                self._news.clear()
                with metrics.STEP_SECONDS.time():
                    decision = await self._step()
                if decision.state.status.phase in RUN_OVER and self._seen.released:
                    keeps = decision.state.status.phase is Phase.REPEATING
                    return
                if trouble := self._attending.trouble():
                    raise trouble
                if decision.again > 0:
                    await self._wait(decision.again)
        finally:
            await self._attending.end()
            self._lines.give_back()
            self._samples.give_back()
            if not keeps:  # the targets, for the next run
                self._office.locks.release(self._uid)

    async def _step(self) -> Decision:
        """Decide, write down, and only then begin what was decided."""
        before = self._state
        now = Instant.now()
        state = replace(before, injections=self._injections.all())
        decision = self._decided(state, now)
        if decision.plan is not None:
            await self._write_ahead(decision.plan, decision.state.injections)
        await self._write(before, decision.state, now)
        if decision.again > 0:  # what was just planned names its duties in the step that follows at once
            self._attending.want(decision.duties)
        return decision

    async def _write_ahead(self, plan: Preparation, planned: Sequence[InjectionStatus]) -> None:
        """The first plan of a run, or one more that joins it."""
        fresh = agents(self._run, plan, planned, self._office.settings.namespace)
        if not self._ways:
            originals = originals_of(self._spec, self._namespace, self._name, self._run, plan.chosen)
            self._planned = Planned(fresh, originals, plan.bystanders)
        else:
            self._planned = replace(self._planned, carried=(*self._planned.carried, *fresh))
        record = journal_record(planned, self._planned)
        await self._office.journal.write(self._run, self._namespace, self._name, record)
        if not self._ways:
            self._set_out(planned)
        for way in self._ways:
            if isinstance(way, Carrying):
                way.add(fresh)

    def _decided(self, state: State, now: Instant) -> Decision:
        """On to where something is to be done: phases that are entered and left at once are written down together."""
        decision = advance(self._spec, state, self._now_seen(state, now), now)
        while decision.again == 0 and decision.plan is None:
            decision = advance(self._spec, decision.state, self._now_seen(decision.state, now), now)
        return decision

    def _now_seen(self, state: State, now: Instant) -> Seen:
        health = self._looking.health(state.injections, state.status, now)
        coming = [way.more for way in self._ways if isinstance(way, Deleting | Following)]
        more = Preparation(
            tuple(choice for each in coming for choice in each.chosen),
            exempt={node: addresses for each in coming for node, addresses in each.exempt.items()},
        )
        missed = tuple(told for way in self._ways if isinstance(way, Following) for told in way.missed.values())
        withdrawn = next((way.withdrawn for way in self._ways if isinstance(way, Policing)), None)
        frozen = self._office.freeze.reason
        return replace(
            self._seen,
            health=health,
            freeze=frozen,
            withdrawn=withdrawn,
            more=more,
            missed=missed,
            task=self._repairing.task,
            work=self._working.seen,
            keeps=self._keeping.wanted and self._seen.claimed and not goes_on(state.status),
            followed=self._referring.followed,
            end=self._referring.end,
        )

    async def _write(self, before: State, after: State, now: Instant) -> None:
        self._injections.decided(after.injections)
        status = after.status.model_copy(
            update={
                "injections": list(after.injections[:LISTED_INJECTIONS]),
                "injection_counts": counts(after.injections),
                "observed_generation": self._body["metadata"].get("generation"),
                "evidence": after.status.evidence or self._doubt,
                "reference": self._referring.told(after.status.reference, now),
            }
        )
        listed = conditions(status, self._body["metadata"].get("generation", 0), now.rfc3339())
        status = status.model_copy(update={"conditions": listed})
        self._state = State(status, after.injections)
        quiet = loud(before.status) == loud(status)
        if status == before.status or (quiet and now.since(_epoch(now, self._written)) < QUIET_WRITES):
            if quiet and status != before.status:
                self._state = State(before.status, after.injections)
            return
        status = status.model_copy(update={"revision": status.revision + 1, "histories": self._looking.snapshot()})
        self._body = await self._written_down(status.to_json())
        self._written = now.nanos / 1e9
        self._injections.written(status.starts)
        self._state = State(status, after.injections)
        self.changed(self._body)
        await self._tell(before.status, status)

    async def _written_down(self, status: Json) -> Json:
        """Passing trouble is waited for here, so that looking and carrying go on meanwhile."""
        pause = FIRST_PAUSE
        while True:
            self._office.leadership.check()
            try:
                return await resources.write_status(self._office.kube, self._body, status)
            except PASSING as error:
                log.warning("%s/%s: writing its status: %s", self._namespace, self._name, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _tell(self, before: FaultExperimentStatus, after: FaultExperimentStatus) -> None:
        """Events and metrics of what has just been written."""
        outcome = after.runs.listed[-1].verdict if after.phase is Phase.REPEATING and after.runs else after.verdict
        for line in after.timeline[len(before.timeline) :]:
            bad = line.event in RUN_OVER and outcome not in (None, Verdict.PASSED)
            await self._office.recorder.record(self._body, line.event, line.message or line.event, warning=bad)
        if (kept := after.evidence) is not None and kept != before.evidence and kept.state in UNKEPT:
            await self._office.recorder.record(self._body, f"Evidence{kept.state}", kept.message, warning=True)
        for state in (InjectionState.ACTIVE, InjectionState.CLEARED, InjectionState.FAILED):
            grown = getattr(after.injection_counts, state.lower()) - getattr(before.injection_counts, state.lower())
            metrics.INJECTIONS.labels(state).inc(max(0, grown))
        if after.repair is not None and after.repair.state in OVER and after.repair.state is not _repair_state(before):
            metrics.REPAIRS.labels(after.repair.state).inc()
        metrics.count_workloads(before.workloads, after.workloads)
        if outcome is not None and after.phase in RUN_OVER and before.phase not in RUN_OVER:
            metrics.RUNS.labels(after.runs.listed[-1].verdict if after.runs else after.verdict).inc()
            if after.runs and after.phase is Phase.FINISHED:
                metrics.REPEATED.labels(after.verdict).inc()
            if after.figures.recovery is not None:
                metrics.RECOVERY_SECONDS.observe(after.figures.recovery.milliseconds / 1000)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    async def _resume(self) -> None:
        """What an operator before us had planned is in the journal; how it went is in the agents' logs."""
        status = self._state.status
        if status.phase in (Phase.PENDING, Phase.STEADY):
            if status.revision:
                await self._office.journal.read(self._run)  # of a plan that never became a status: to be written over
            return
        record = await self._office.journal.read(self._run)
        injections, self._planned = restored(record, status.injections)
        self._state = State(status, injections)
        self._injections.decided(injections)
        self._injections.written(status.starts)
        self._looking.resume(status)
        self._referring.resume(status)
        if status.phase is not Phase.FINISHED:
            self._office.locks.take(self._uid, (each for i in injections for each in i.holds))
        self._set_out(injections)

    def _set_out(self, begun_with: Sequence[InjectionStatus]) -> None:
        spec, injections, planned = self._spec, self._injections, self._planned
        self._ways = [Carrying(self._office, self._namespace, spec, injections, planned.carried)]
        if planned.originals is not None:
            self._ways.append(Patching(self._office, self._run, injections, planned.originals))
        if takes_policy(spec, begun_with):
            self._ways.append(Policing(self._office.kube, self._namespace, spec, injections, self.wake))
        for entry in spec.faults:
            if isinstance(entry.fault, PodRemoval | NodeDrain):
                self._ways.append(Deleting(self._office, self._namespace, spec, entry, injections))
            if isinstance(entry.fault, ApiFault):
                self._ways.append(Admitting(self._office, self._namespace, self._run, entry, injections))
            if watched(entry):
                others, prepare = planned.bystanders.get(entry.target, ()), self._preparing.again
                self._ways.append(Following(self._office, self._namespace, spec, entry, injections, others, prepare))

    def _saw(self, **news: Any) -> None:
        """Put beside what is known now, and not beside what was known when a duty began to wait for it."""
        self._seen = replace(self._seen, **news)

    async def _prepare(self) -> None:
        self._saw(preparation=await self._preparing.run())

    async def _claim(self) -> None:
        self._office.leadership.check()
        self._body = await resources.claim(self._office.kube, self._body)
        self._doubt = await self._keeping.doubt(self._run)
        self._saw(claimed=True)

    async def _look(self) -> None:
        await self._looking.look(self._state.status.checks)

    async def _observe_before(self) -> None:
        found = await self._looking.observe(self._state.status.checks)
        self._saw(before=found, preparation=None)

    async def _observe_clear(self) -> None:
        self._saw(clear=await self._looking.observe_all(self._state.status.checks))

    async def _observe_after(self) -> None:
        found, told = await self._looking.observe_after(self._state.status)
        self._saw(after=found.values, after_problems=found.problems, unchanged=told)

    async def _carry(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for way in self._ways:
                tasks.create_task(way.carry())

    async def _stop(self) -> None:
        await all_of(way.stop() for way in self._ways)

    async def _make_repair(self) -> None:
        assert self._state.status.repair is not None
        await self._repairing.make(self._state.status.repair)

    async def _repair(self) -> None:
        assert self._state.status.repair is not None
        await self._repairing.see_through(self._state.status.repair)

    async def _verify(self) -> None:
        await all_of(way.verify() for way in self._ways)

    async def _pack(self) -> None:
        self._saw(evidence=await self._keeping.pack(self._whole()))

    async def _keep(self) -> None:
        told = self._state.status.evidence
        assert told is not None
        self._saw(evidence=await self._keeping.keep(self._whole(), told.digest))

    def _whole(self) -> Whole:
        injections, recorded = self._injections, self._looking.recorded()
        return Whole(self._body, self._spec, self._state.status, injections.all(), injections.told, recorded)

    async def _release(self) -> None:
        await all_of(way.remove() for way in self._ways)
        last = self._state.status.phase is Phase.FINISHED
        await self._repairing.remove(self._state.status.repair)
        await self._working.remove(self._state.status)
        await self._outpost.remove(self._state.status)
        if last:
            await self._office.results.publish(self._body, self._state.status)
            await self._referring.remove()
        if not still_needed(self._injections.all()):
            await self._office.journal.remove(self._run)
        if last and resources.is_claimed(self._body):
            await resources.let_go(self._office.kube, self._body)
        self._saw(released=True)


def _repair_state(status: FaultExperimentStatus) -> RepairState | None:
    return status.repair.state if status.repair else None


def _epoch(now: Instant, boot_seconds: float) -> Instant:
    return Instant(now.boot, round(boot_seconds * 1e9), now.utc)
