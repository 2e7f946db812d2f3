"""Prober pods at a real cluster: made once, heard by whoever comes, told to end; what is left of one that is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bounceback.api.status import CheckCopy, FaultExperimentStatus
from bounceback.api.workload_status import WorkloadStatus, WorkState
from bounceback.controller.office import Office
from bounceback.controller.outpost import ProberOutpost
from bounceback.controller.working import Working
from bounceback.engine.samples import History
from bounceback.engine.state import Seen, State, Work
from bounceback.engine.working import lookout_name, prober_name, with_work
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS, NAMESPACES, PODS
from bounceback.recovery.watching import Watching
from bounceback.types.instants import Instant
from bounceback.types.outcome import Judgement, Phase
from bounceback.vehicles.access import access_manifest
from tests.commands import PROJECT
from tests.conftest import ACCOUNT, OPERATOR, apply
from tests.unit.engine_values import at, check, experiment
from tests.workload import pod

pytestmark = pytest.mark.cluster

PATIENCE = 120
"""Seconds for what takes five on an idle machine."""
STORE = (PROJECT / "examples" / "F1-workload" / "little_store.py").read_text().replace('"127.0.0.1"', '"0.0.0.0"')


class Prober:
    """One check's prober, as any number of operators come to see to it. What owns the pod is a ConfigMap here."""

    def __init__(self, office: Office, acting: Kube, owner: Json, url: str) -> None:
        """Operations are on the store there; without one, on ConfigMaps."""
        self.office, self.acting, self.owner = office, acting, owner
        self.namespace = owner["metadata"]["namespace"]
        http = {"url": url, "write": {"path": "/items/{value}"}, "list": {"path": "/items"}}
        system = {"http": http} if url else {"kubernetes": {"namespace": self.namespace}}
        load = {"open": {"perSecond": 50}}
        asked = {"model": "Set", **system, "load": load, "settleSeconds": 0, "readBackSeconds": 10}
        copy = check(workload=asked)
        self.check = CheckCopy(name="healthy", uid=owner["metadata"]["uid"], generation=1, spec=copy.spec)
        self.name = prober_name(owner["metadata"]["uid"], self.check.uid)

    def status(self, **changes: Any) -> FaultExperimentStatus:
        values = {"checks": [self.check], "phase": Phase.STEADY, "deadline_at": time.time() + 600, **changes}
        return FaultExperimentStatus(run_uid=self.owner["metadata"]["uid"], **values)

    def running(self) -> FaultExperimentStatus:
        """As it stands once operations have begun."""
        assert self.check.spec.workload is not None
        state = {"model": self.check.spec.workload.model, "state": WorkState.RUNNING}
        return self.status(phase=Phase.ACTIVE, workloads=[WorkloadStatus(check="healthy", **state)])

    @asynccontextmanager
    async def operator(self, status: FaultExperimentStatus) -> AsyncIterator[Working]:
        """One that sees to it until it is killed."""
        working = Working(self.office, self.acting, self.owner, self.owner["metadata"]["uid"], ACCOUNT, lambda: None)
        task = asyncio.create_task(working.work(status))
        try:
            yield working
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def told(self, work: Work) -> WorkloadStatus:
        return with_work(State(self.status()), Seen(work=(work,)), at(0)).status.workloads[0]


async def until(working: Working, holds: Callable[[Work], bool]) -> Work:
    async with asyncio.timeout(PATIENCE):
        while not working.seen or not holds(working.seen[0]):
            await asyncio.sleep(0.1)
    return working.seen[0]


async def served(kube: Kube, namespace: str, name: str, *words: str) -> str:
    """The address of a store that serves there."""
    body = pod(name, "python3", "-c", STORE, *words)
    await kube.create(PODS, namespace, body)
    async with asyncio.timeout(PATIENCE):
        while True:
            status = (await kube.get(PODS, namespace, name)).get("status") or {}
            if status.get("phase") == "Running" and status.get("podIP"):
                return f"http://{status['podIP']}:8080"
            await asyncio.sleep(0.2)


async def test_a_prober_outlives_its_operator_and_what_it_tells_is_true(
    kube: Kube, office: Office, namespace: str
) -> None:
    """In a namespace where Pod Security is `restricted`, in its account's name."""
    restricted = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    await kube.patch(NAMESPACES, None, namespace, restricted)
    acting = kube.acting_as(namespace, ACCOUNT)
    refused = await _owned(kube, office, acting, namespace, "http://nobody")
    async with refused.operator(refused.status()) as working:
        work = await until(working, lambda work: work.over)
    assert f"service account {ACCOUNT} of namespace {namespace} may not make the prober pod" in work.refused
    await apply(kube, access_manifest(namespace, ACCOUNT, namespace, OPERATOR, objects=["pods", "configmaps"]))
    alone = await served(kube, namespace, "alone")
    sound = await served(kube, namespace, "sound")
    forgetful = await served(kube, namespace, "forgetful", "--flaw", "forgetful", "--one-in", "10")
    plays: list[Awaitable[None]] = []
    for play, url in (
        (_taken_over, alone),
        (_found_out, forgetful),
        (_killed, sound),
        (_refused, sound),
        (_orphan, sound),
        (_on_objects, ""),
    ):
        plays.append(play(await _owned(kube, office, acting, namespace, url)))
    async with asyncio.timeout(3 * PATIENCE):
        await asyncio.gather(*plays)


async def _owned(kube: Kube, office: Office, acting: Kube, namespace: str, url: str) -> Prober:
    owner = await kube.create(CONFIG_MAPS, namespace, {"metadata": {"generateName": "run-"}})
    return Prober(office, acting, {"apiVersion": "v1", "kind": "ConfigMap", **owner}, url)


async def _on_objects(prober: Prober) -> None:
    """As the experiment's account, and with its rights."""
    async with prober.operator(prober.status()) as working:
        await until(working, lambda work: len(work.seconds) >= 2)
        await working.end(prober.running())
        told = prober.told(await until(working, lambda work: work.over))
    assert (told.state, told.result) == (WorkState.ACCOUNTED, Judgement.PASSED), told.message
    assert told.acknowledged and told.acknowledged >= 20


async def _taken_over(prober: Prober) -> None:
    async with prober.operator(prober.status()) as first:
        await until(first, lambda work: len(work.seconds) >= 2)
    made = await prober.acting.get(PODS, prober.namespace, prober.name)
    async with prober.operator(prober.running()) as second:
        work = await until(
            second, lambda work: work.offset is not None and sum(each.acknowledged for each in work.seconds) >= 150
        )
        assert [each.number for each in work.seconds[:3]] == [0, 1, 2], "its log is read from the start"
        done = sum(each.acknowledged for each in work.seconds)
        assert done <= 50 * (len(work.seconds) + 1), "what a second is late with, the next one has, and no more"
        await second.end(prober.running())
        work = await until(second, lambda work: work.over)
        told = prober.told(work)
        assert (told.state, told.result) == (WorkState.ACCOUNTED, Judgement.PASSED), told.message
        assert told.acknowledged + told.reads > 150 and told.read_back == told.acknowledged
        again = await prober.acting.get(PODS, prober.namespace, prober.name)
        assert again["metadata"]["uid"] == made["metadata"]["uid"], "there was never another"
        await second.remove(prober.status())
        await second.remove(prober.status())
    await _gone(prober)


async def _found_out(prober: Prober) -> None:
    async with prober.operator(prober.status()) as working:
        await until(working, lambda work: len(work.seconds) >= 2)
        await working.end(prober.status())
        told = prober.told(await until(working, lambda work: work.over))
    assert told.result is Judgement.FAILED
    assert "Lost: " in told.message


async def _killed(prober: Prober) -> None:
    """And not made anew by the next operator: what the first had written is known to nobody."""
    async with prober.operator(prober.status()) as working:
        await until(working, lambda work: len(work.seconds) >= 1)
        await prober.acting.delete(PODS, prober.namespace, prober.name)
        told = prober.told(await until(working, lambda work: work.over))
    assert (told.state, told.result) == (WorkState.LOST, Judgement.INCONCLUSIVE)
    await _gone(prober)  # not only its container
    async with prober.operator(prober.running()) as working:
        assert "not there any more" in (await until(working, lambda work: work.over)).lost


async def _refused(prober: Prober) -> None:
    """A system that cannot be read is not written to."""
    unreadable = prober.check.spec.workload
    assert unreadable is not None and unreadable.http is not None and unreadable.http.list is not None
    nowhere = unreadable.http.list.model_copy(update={"path": "/nowhere/at/all"})
    http = unreadable.http.model_copy(update={"list": nowhere, "url": unreadable.http.url.replace("8080", "8081")})
    workload = unreadable.model_copy(update={"http": http, "read_back_seconds": 1})
    spec = prober.check.spec.model_copy(update={"workload": workload})
    prober.check = prober.check.model_copy(update={"spec": spec})
    async with prober.operator(prober.status()) as working:
        assert "GET /nowhere" in (await until(working, lambda work: work.over)).refused


async def _orphan(prober: Prober) -> None:
    """It goes with its experiment, though no operator is there."""
    async with prober.operator(prober.status()) as working:
        await until(working, lambda work: len(work.seconds) >= 1)
    await prober.office.kube.delete(CONFIG_MAPS, prober.namespace, prober.owner["metadata"]["name"])
    await _gone(prober)


async def test_probes_look_from_a_pod_and_its_going_is_a_gap(kube: Kube, office: Office, namespace: str) -> None:
    """A second operator goes on from what the first wrote down, and hears what was seen meanwhile."""
    acting = kube.acting_as(namespace, ACCOUNT)
    await apply(kube, access_manifest(namespace, ACCOUNT, namespace, OPERATOR, objects=["pods"]))
    url = await served(kube, namespace, "seen")
    owner = {"apiVersion": "v1", "kind": "ConfigMap"}
    owner |= await kube.create(CONFIG_MAPS, namespace, {"metadata": {"generateName": "run-"}})
    look = {"periodMilliseconds": 200, "timeoutMilliseconds": 1000, "vantage": "Pod"}
    there = {"name": "there", "http": {"url": f"{url}/items"}, **look}
    nowhere = {"name": "nowhere", "http": {"url": f"{url}/items/7"}, **look}
    spec = check(probes=[there, nowhere]).spec

    def operator(restored: Json | None) -> Watching:
        outpost = ProberOutpost(office, acting, owner, "run", experiment())
        asked = [("healthy", spec)]
        return Watching(acting, namespace, asked, restored, lambda: None, outpost=outpost)

    async with asyncio.timeout(3 * PATIENCE):
        async with operator(None) as first:
            good = await _seen(first, "there", 10)
            bad = await _seen(first, "nowhere", 10)
            assert good.healthy_samples >= 5
            assert bad.healthy_samples == 0 and "status 404, expected 200" in bad.messages
            stored, since = first.snapshot(), Instant.now()
        await asyncio.sleep(5)
        async with operator(stored) as second:
            assert second.problems() == []
            good = await _seen(second, "there", 30)
            nobody = Instant.now().since(since)
            assert all(gap.width < nobody - 1 for gap in good.gaps), "what it saw meanwhile was in its log"
            deleted = Instant.now()
            await acting.delete(PODS, namespace, lookout_name("run"))
            while not any(gap.width > 1 and gap.latest.since(deleted) > 0 for gap in good.gaps):
                await asyncio.sleep(0.1)  # nobody looks until there is another
                good = second.histories("healthy")["there"]
        await ProberOutpost(office, acting, owner, "run", experiment()).remove(
            FaultExperimentStatus(checks=[CheckCopy(name="healthy", uid="c", generation=1, spec=spec)])
        )


async def _seen(watching: Watching, name: str, samples: int) -> History:
    while (history := watching.histories("healthy")[name]).samples < samples:
        await asyncio.sleep(0.1)
    return history


async def _gone(prober: Prober) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await prober.acting.get(PODS, prober.namespace, prober.name)
            except KubeError as error:
                assert error.gone
                return
            await asyncio.sleep(0.5)
