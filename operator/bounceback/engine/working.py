"""The workloads of a run's checks: what is seen of their probers, what that says, and when it is waited for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from bounceback.accounting.account import Account, judge
from bounceback.accounting.seconds import Second
from bounceback.api.check_workload import CheckWorkload
from bounceback.api.status import CheckCopy, Finding
from bounceback.api.workload_status import WORK_OVER, FlawStatus, WorkloadStatus, WorkState
from bounceback.engine.finished import Run
from bounceback.engine.naming import digest
from bounceback.engine.noting import noted, updated
from bounceback.engine.performance import performance_of
from bounceback.engine.state import Decision, Duty, Seen, State, Work
from bounceback.types.instants import Instant
from bounceback.types.outcome import Judgement, Phase, Verdict
from bounceback.types.prober import LoadEnd, Said

CHECK_SECONDS: Final = 120
"""The account itself may take so long."""
MOST_SECONDS: Final = 7200
WORKING: Final = frozenset(Phase) - {Phase.PENDING, Phase.REPEATING, Phase.FINISHED}
"""Phases in which operations go on, or are accounted for."""
TOO_SHORT: Final = {
    LoadEnd.SECONDS: "workload.seconds were over: give it more, or leave it unset",
    LoadEnd.FULL: "workload.mostOperations was reached: give it more, or a slower load",
}
Json = Mapping[str, Any]


def prober_name(run: str, check: str) -> str:
    """`check` is its UID."""
    return f"bounceback-prober-{digest(run, 'prober', check)}"


def lookout_name(run: str) -> str:
    """Of the prober from which a run's probes with vantage: Pod look."""
    return f"bounceback-prober-{digest(run, 'lookout')}"


def worked(checks: Iterable[CheckCopy]) -> list[tuple[CheckCopy, CheckWorkload]]:
    """Those that have a workload."""
    return [(check, check.spec.workload) for check in checks if check.spec.workload is not None]


def accounting_seconds(workload: CheckWorkload) -> float:
    """From when the load is to end to the account, at the most."""
    last = workload.timeout_milliseconds / 1000
    return last + workload.settle_seconds + workload.read_back_seconds + CHECK_SECONDS


def heard(work: Work, line: Json) -> Work:
    """With what one line of a prober's log tells; telling it again changes nothing.

    Raises KeyError, TypeError or ValueError for one that is none.
    """
    match Said(line["said"]):
        case Said.LOAD:
            return replace(work, began=Instant.from_json(line["at"]))
        case Said.SECOND:
            second = Second.from_json(line["second"])
            known = work.seconds and second.number <= work.seconds[-1].number
            return work if known else replace(work, seconds=bounded((*work.seconds, second)))
        case Said.LOAD_ENDED:
            return replace(work, load_end=LoadEnd(line["why"]))
        case Said.ACCOUNT:
            Account.from_json(line["account"])
            return replace(work, account=line["account"])
        case Said.REFUSED:
            return replace(work, refused=str(line["why"]))
        case _:
            return replace(work, waits="it looks at what is there before the first write")


def bounded(seconds: tuple[Second, ...]) -> tuple[Second, ...]:
    """Of a load that goes on for long the first hour and the last one."""
    half = MOST_SECONDS // 2
    return seconds if len(seconds) <= MOST_SECONDS else (*seconds[:half], *seconds[-half:])


# What stands in the status


def with_work(state: State, seen: Seen, now: Instant) -> State:
    """With what is known of each workload, and a line of the timeline where that changed what it is."""
    known = {status.check: status for status in state.status.workloads}
    seen_of = {work.check: work for work in seen.work}
    marks = {each.mark: each.interval() for each in state.status.marks}
    listed = []
    for check, workload in worked(state.status.checks):
        before = known.get(check.name) or WorkloadStatus(
            check=check.name, pod=prober_name(state.status.run, check.uid), model=workload.model
        )
        after = before
        if before.state not in WORK_OVER and (work := seen_of.get(check.name)) is not None:
            after = _status(before, workload, work)
            if after.state is WorkState.ACCOUNTED:
                pace = performance_of(check.spec, work, marks)
                after = after.model_copy(update={"performance": pace})
        if after.state is not before.state:
            state = noted(state, f"Workload{after.state}", f"{check.name}: {after.message}", now)
        listed.append(after)
    return updated(state, workloads=listed)


def _status(before: WorkloadStatus, workload: CheckWorkload, work: Work) -> WorkloadStatus:
    if work.account is not None:
        return _accounted(before, workload, work, Account.from_json(work.account))
    if work.refused:
        return _ended(before, WorkState.REFUSED, work.refused)
    if work.lost:
        return _ended(before, WorkState.LOST, work.lost)
    if work.loading:
        told = f"operations on {workload.address}"
        return before.model_copy(update={"state": WorkState.RUNNING, "message": told})
    return before.model_copy(update={"message": work.waits[:1024]})


def _ended(before: WorkloadStatus, state: WorkState, why: str) -> WorkloadStatus:
    return before.model_copy(update={"state": state, "message": why[:1024], "result": Judgement.INCONCLUSIVE})


def _accounted(before: WorkloadStatus, workload: CheckWorkload, work: Work, account: Account) -> WorkloadStatus:
    judged = judge(account, workload.allow)
    reasons, verdict = list(judged.reasons), judged.verdict
    if (early := TOO_SHORT.get(work.load_end or LoadEnd.ASKED)) is not None and verdict is not Verdict.FAILED:
        told = f"the load ended before the run did: {early}"
        verdict, reasons = Verdict.INCONCLUSIVE, [told, *(reasons if verdict is Verdict.INCONCLUSIVE else ())]
    if error := (work.account or {}).get("read_back_error"):
        reasons.append(f"the read-back failed: {error}")
    if not account.acknowledged and (trouble := (work.account or {}).get("trouble")):
        reasons.append(f"the last that was not acknowledged: {trouble}")
    flaws = [
        FlawStatus(flaw=flaw, count=each.count, examples=each.examples[:10], allowed=flaw in workload.allow)
        for flaw, each in account.flaws.items()
    ]
    counts = f"{account.acknowledged:,} acknowledged, {account.failed:,} failed, {account.unknown:,} unknown"
    fields = ("acknowledged", "failed", "unknown", "took_effect", "reads", "unanswered", "read_back", "not_read_back")
    return before.model_copy(
        update={
            "state": WorkState.ACCOUNTED,
            "message": f"{'; '.join(reasons)}{_examples(flaws)} ({counts})"[:1024],
            "result": Judgement(verdict),
            "flaws": flaws,
            **{name: getattr(account, name) for name in fields},
        }
    )


def _examples(flaws: Iterable[FlawStatus]) -> str:
    """Numbers of operations that show what was found."""
    found = [f"{each.flaw}: {', '.join(map(str, each.examples[:5]))}" for each in flaws if each.examples]
    return f"; operations {'; '.join(found)}" if found else ""


def given_up(state: State, seconds: float) -> State:
    """Those that are not over are not waited for any longer."""
    why = f"it gave no account for {seconds:.0f} s"
    listed = [each if each.state in WORK_OVER else _ended(each, WorkState.LOST, why) for each in state.status.workloads]
    return updated(state, workloads=listed)


# When it is waited for


def working(decision: Decision) -> Decision:
    """With the duty to see workloads through, as long as one is not over."""
    status = decision.state.status
    if status.phase not in WORKING or not is_accounting(decision.state):
        return decision
    return replace(decision, duties=decision.duties | {Duty.WORK})


def hindrance(state: State) -> str | None:
    """Why a workload will never begin, or is over already, before anything was injected."""
    over = [each for each in state.status.workloads if each.state in WORK_OVER]
    return f"{over[0].check}: workload: {over[0].message}" if over else None


def without_baseline(state: State, seen: Seen) -> str:
    """Which workload has not gone on for long enough before the fault, and why; "" where all have."""
    seen_of = {work.check: work for work in seen.work}
    for check, workload in worked(state.status.checks):
        work = seen_of.get(check.name)
        if work is None or not work.loading:
            waits = (work and work.waits) or "its pod was not made yet"
            return f"{check.name}: the workload has not begun: {waits}"
        if len(work.seconds) < workload.baseline_seconds:
            return f"{check.name}: {len(work.seconds)} s of {workload.baseline_seconds} s of the workload's baseline"
    return ""


def longest_account(checks: Iterable[CheckCopy]) -> float:
    """Seconds that accounts are waited for; 0 without a workload."""
    return max((accounting_seconds(workload) for _, workload in worked(checks)), default=0.0)


def is_accounting(state: State) -> bool:
    """Some workload is not over."""
    known = {status.check: status for status in state.status.workloads}
    return any(
        check.name not in known or known[check.name].state not in WORK_OVER for check, _ in worked(state.status.checks)
    )


# What that says of the run


def account_findings(run: Run, verdict: Verdict) -> Iterable[Finding]:
    """Of workloads that went on while something was injected: what they were told was done outweighs everything."""
    reason = "PromiseBroken" if verdict is Verdict.FAILED else "AccountUndecided"
    for status in run.status.workloads if run.injections else ():
        result = status.result or Judgement.INCONCLUSIVE
        if str(result) == str(verdict):
            told = f"{status.check}: workload: {status.message or 'it was not accounted for'}"
            yield Finding(verdict=verdict, reason=reason, message=told[:1024])


def account_results(run: Run) -> list[Judgement]:
    return [each.result or Judgement.INCONCLUSIVE for each in run.status.workloads] if run.injections else []
