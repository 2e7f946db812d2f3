"""PodDelete: pods go by a request to the API, made in the account's name: a deletion, or an eviction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp

from bounceback.engine.model import PodInfo
from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import PODS
from bounceback.kube.watching import Backoff
from bounceback.types.instants import Instant
from bounceback.vehicles.errors import BUDGET, DeletionRefused, Refused, refusal

AT_ONCE: Final = 20
ATTEMPTS: Final = 4
"""How often one deletion is asked for while the server has trouble of its own: the UID makes asking again harmless."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of requests; pods that were gone already, or replaced, are in neither."""

    going: list[tuple[PodInfo, Instant]]  # and when the API server said so
    kept: dict[str, str]  # by UID: what its PodDisruptionBudget says; it may say otherwise later


async def delete_pods(
    acting: Kube, pods: Sequence[PodInfo], grace: int | None, *, by_leave: bool = False, dry_run: bool = False
) -> Asked:
    """Have them go. `by_leave`: evicted, as far as their PodDisruptionBudgets allow.

    `grace` is in seconds; None: each pod's own. Raises DeletionRefused, with those that go all the same.
    """
    slots = asyncio.Semaphore(AT_ONCE)

    async def one(pod: PodInfo) -> Instant | KubeError | None:
        async with slots:
            return await _ask(acting, pod, grace, by_leave=by_leave, dry_run=dry_run)

    answers = list(zip(pods, await asyncio.gather(*(one(pod) for pod in pods)), strict=True))
    going = [(pod, at) for pod, at in answers if isinstance(at, Instant)]
    failed = [(pod, error) for pod, error in answers if isinstance(error, KubeError)]
    kept = {pod.uid: error.message for pod, error in failed if keeps(error)}
    failed = [(pod, error) for pod, error in failed if pod.uid not in kept]
    if failed:
        pod, error = failed[0]
        what = f"{'an eviction' if by_leave else 'a deletion'} of pod {pod.name}"
        refused = refusal(error, f"the account of namespace {pod.namespace}", what)
        reason = refused.reason if refused else "NotDeleted"
        message = refused.message if refused else f"{what} failed: {error}"
        raise DeletionRefused(reason, f"{message} ({len(failed)} of {len(pods)} pods)", going)
    return Asked(going, kept)


async def try_eviction(acting: Kube, pods: Sequence[PodInfo], grace: int | None) -> None:
    """By dry runs, each pod by itself. Raises Refused where a budget forbids one, or the account may not do it."""
    asked = await delete_pods(acting, pods, grace, by_leave=True, dry_run=True)
    if kept := [pod for pod in pods if pod.uid in asked.kept]:
        raise Refused("", BUDGET, budget_forbids(kept[0].name, len(kept), len(pods), asked.kept[kept[0].uid]))


def budget_forbids(pod: str, kept: int, pods: int, message: str) -> str:
    return (
        f"a PodDisruptionBudget forbids the eviction of pod {pod} ({kept} of {pods} pods): {message.strip()} "
        "Have more replicas, or a budget that allows it"
    )


def eviction(namespace: str, pod: str, uid: str, grace: int | None) -> Json:
    """Of that very pod, never of one of its name that came after it (409 then)."""
    options: Json = {"preconditions": {"uid": uid}}
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    metadata = {"name": pod, "namespace": namespace}
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": options}


def keeps(error: KubeError) -> bool:
    """It is a budget's answer (429 with the cause DisruptionBudget), and not the server's own trouble."""
    causes = error.details.get("causes") or []
    return error.status == 429 and any(each.get("reason") == "DisruptionBudget" for each in causes)


async def _ask(
    acting: Kube, pod: PodInfo, grace: int | None, *, by_leave: bool, dry_run: bool
) -> Instant | KubeError | None:
    """When it was told to go; None: it had been gone, or its name is another pod's; the error that lasts."""
    backoff = Backoff()
    answered = True  # whether each of our requests so far was answered: if not, one of them may have done it
    trouble = KubeError(0, "NoAnswer", "")
    for _ in range(ATTEMPTS):
        try:
            if by_leave:
                body = eviction(pod.namespace, pod.name, pod.uid, grace)
                await acting.create(PODS, pod.namespace, body, name=pod.name, subresource="eviction", dry_run=dry_run)
            else:
                await acting.delete(PODS, pod.namespace, pod.name, uid=pod.uid, grace=grace, dry_run=dry_run)
            return Instant.now()
        except KubeError as error:
            if error.gone or error.conflict:
                return None if answered else Instant.now()
            if not error.passing or keeps(error):
                return error
            trouble = error
        except (aiohttp.ClientError, TimeoutError) as error:
            answered, trouble = False, KubeError(0, "NoAnswer", str(error) or type(error).__name__)
        await backoff.pause()
    return trouble
