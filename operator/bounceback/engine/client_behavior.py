"""Whether a client behaved as it must, by what the API proxy saw of it (`proxy/api/behavior.py`, as JSON)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bounceback.api.client_behavior import ClientBehavior, WantedBackoff
from bounceback.api.experiment import FaultTiming
from bounceback.api.status import InjectionStatus
from bounceback.faults.api_fault import ApiFault
from bounceback.faults.base import Fault
from bounceback.faults.client_fault import ClientFault
from bounceback.types.outcome import Judgement

Seen = Mapping[str, Any]
ENOUGH: Final = {
    WantedBackoff.CONSTANT: ("Constant", "Exponential"),
    WantedBackoff.EXPONENTIAL: ("Exponential",),
}
UNTOLD: Final = ("None", "Unknown")


@dataclass(frozen=True, slots=True)
class Answer:
    """To one field: `seen` says what was observed."""

    field: str
    result: Judgement
    seen: str
    occasion: bool = True  # there was one to show it

    @property
    def gravity(self) -> int:
        """The graver the less. Who had no occasion is spoken for by others, and what nobody can tell by nobody."""
        if self.result is Judgement.FAILED:
            return 0
        if self.result is Judgement.PASSED:
            return 2
        return 1 if self.occasion else 3


def judge(wanted: ClientBehavior, seen: Seen) -> tuple[Answer, ...]:
    """One answer for each field that is set."""
    return tuple(_answers(wanted, essence(seen)))


def judge_all(wanted: ClientBehavior, seen: Iterable[Seen]) -> tuple[Answer, ...]:
    """Of several clients: one that misbehaved decides, and one that had an occasion speaks for those that had none."""
    by_field: dict[str, list[Answer]] = {}
    for each in seen:
        for answer in judge(wanted, each):
            by_field.setdefault(answer.field, []).append(answer)
    return tuple(min(answers, key=lambda answer: answer.gravity) for answers in by_field.values())


def of_clients(faults: Iterable[FaultTiming], injections: Sequence[InjectionStatus]) -> list[Seen]:
    """What was seen of each client, with how often it was started again for no fault of ours, where that can be told.

    Where another kind of fault is on the same pod nobody knows which of them a container ended of; nor where more
    processes were killed than containers were started again.
    """
    kinds = {entry.name: entry.fault for entry in faults}
    found: list[Seen] = []
    for injection in injections:
        if not injection.behavior:
            continue
        mates = [each for each in injections if each.pod_uid == injection.pod_uid]
        restarts = max((each.restarts for each in mates if each.restarts is not None), default=-1)  # nobody looked
        killed = sum(each.hits for each in mates if _kills(kinds[each.fault]))
        alone = all(isinstance(kinds[each.fault], ClientFault) for each in mates)
        known = restarts >= killed and (alone or not restarts)
        found.append({**injection.behavior, **({"restarts": restarts - killed} if known else {})})
    return found


def _kills(fault: Fault) -> bool:
    return isinstance(fault, ApiFault) and fault.crash is not None


def essence(seen: Seen) -> dict[str, Any]:
    """What is judged of a report, and no more; what it does not say is nothing."""
    retries, watches = seen.get("retries") or {}, seen.get("watches") or {}
    return {
        "requests": seen.get("requests", 0),
        "requestsPerSecond": {"peak": (seen.get("requestsPerSecond") or {}).get("peak", 0)},
        "retries": {**_counts(retries, "count", "gaveUp"), "backoff": _pauses(retries)},
        "retryAfter": _counts(seen.get("retryAfter") or {}, "asked", "honored", "ignored"),
        "watches": {
            **_counts(watches, "ended", "lost", "rewatched", "relisted", "awaited", "gaveUp"),
            "backoff": _pauses(watches),
        },
        "creates": _counts(seen.get("creates") or {}, "lost", "duplicated"),
        "hotLoops": seen.get("hotLoops", 0),
        **({"restarts": seen["restarts"]} if "restarts" in seen else {}),
    }


def _counts(part: Seen, *names: str) -> dict[str, int]:
    return {name: int(part.get(name) or 0) for name in names}


def _pauses(part: Seen) -> dict[str, Any]:
    found = part.get("backoff") or {}
    late = {"lateSeconds": found["lateSeconds"]} if found.get("lateSeconds") else {}
    return {"kind": str(found.get("kind") or "None"), "gaps": int(found.get("gaps") or 0), **late}


def _answers(wanted: ClientBehavior, seen: Seen) -> Iterator[Answer]:
    if wanted.honors_retry_after:
        yield _retry_after(seen["retryAfter"])
    if (most := wanted.max_requests_per_second) is not None:
        peak = seen["requestsPerSecond"]["peak"]
        yield _answer("maxRequestsPerSecond", peak <= most, f"{peak} requests in one second")
    if wanted.backoff is not None:
        yield _backoff(wanted.backoff, seen)
    watches = seen["watches"]
    if wanted.returns_to_watches:
        yield _watches("returnsToWatches", watches, watches["rewatched"], "begun again")
    if wanted.relists:
        yield _watches("relists", watches, watches["relisted"], "listed anew")
    creates = seen["creates"]
    if (most := wanted.max_duplicate_creates) is not None:
        told = f"{creates['duplicated']} of {creates['lost']} creates whose reply was lost were done twice"
        yield _answer("maxDuplicateCreates", creates["duplicated"] <= most, told, known=creates["lost"] > 0)
    if (most := wanted.max_hot_loops) is not None:
        yield _answer("maxHotLoops", seen["hotLoops"] <= most, f"{seen['hotLoops']} hot loops")
    if wanted.never_gives_up:
        given_up = seen["retries"]["gaveUp"] + watches["gaveUp"]
        failed = seen["retries"]["count"] + seen["retries"]["gaveUp"] + watches["ended"] + watches["lost"]
        yield _answer("neverGivesUp", given_up == 0, f"{given_up} given up", known=failed > 0)
    if (most := wanted.max_restarts) is not None:
        yield _restarts(most, seen.get("restarts"))


def _retry_after(seen: Seen) -> Answer:
    told = f"told to wait {seen['asked']} times: {seen['honored']} honored, {seen['ignored']} ignored"
    return _answer("honorsRetryAfter", seen["ignored"] == 0, told, known=seen["honored"] + seen["ignored"] > 0)


def _backoff(wanted: WantedBackoff, seen: Seen) -> Answer:
    """Of requests, and of watches where no request says."""
    parts = [seen["retries"]["backoff"], seen["watches"]["backoff"]]
    found = next((part for part in parts if part["kind"] not in UNTOLD), parts[0])
    kind = found["kind"]
    told = f"{kind} over {found['gaps']} pauses"
    if kind == "Unknown" and "lateSeconds" in found:
        told += f", timed by a proxy that was up to {found['lateSeconds']:.3f} s late itself"
    return _answer("backoff", kind in ENOUGH[wanted], told, known=kind not in UNTOLD)


def _watches(field: str, watches: Seen, count: int, words: str) -> Answer:
    """One that broke just before the end may still come."""
    lost, awaited = watches["lost"], watches["awaited"]
    told = f"{count} of {lost} watches that broke were {words}"
    return _answer(field, count + awaited >= lost, told, known=lost > awaited or count > 0)


def _restarts(most: int, count: int | None) -> Answer:
    if count is None:
        told = "nobody can tell: it is in no pod that we watch, or what another fault ended cannot be told apart"
        return Answer("maxRestarts", Judgement.INCONCLUSIVE, told)
    return _answer("maxRestarts", count <= most, f"started again {count} times by itself")


def _answer(field: str, holds: bool, told: str, *, known: bool = True) -> Answer:
    if not known:
        return Answer(field, Judgement.INCONCLUSIVE, f"there was no occasion: {told}", occasion=False)
    return Answer(field, Judgement.PASSED if holds else Judgement.FAILED, told)
