"""The operator may die, sleep or be doubled at any time: runs end truly, and nothing stays behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from bounceback.engine.model import PodInfo
from bounceback.kube import Kube
from bounceback.kube.client import Json
from bounceback.kube.resources import EXPERIMENTS, SECRETS, SERVICES
from bounceback.types.outcome import Phase
from bounceback.types.told import Line, Told
from dev.state import Cluster
from tests.survival.operators import OperatorProcess
from tests.survival.repairs import repair_once_though_killed
from tests.survival.runs import (
    agents_of,
    finished,
    held_no_more,
    in_run,
    make_experiment,
    network_state,
    partition,
    reached,
    until,
)
from tests.survival.together import together

pytestmark = pytest.mark.asyncio(loop_scope="module")

Shop = tuple[list[PodInfo], PodInfo]
TRUE_ENDS = ("Passed", "Inconclusive")  # Inconclusive only for a gap in our own observation, and it must say so


async def times_in_force(kube: Kube, namespace: str, callers: list[PodInfo]) -> list[int]:
    """How often each caller's agents applied something, by their own logs."""
    from bounceback.kube.resources import PODS

    counts = []
    for caller in callers:
        count = 0
        for container in await agents_of(kube, namespace, caller.name):
            async for text in kube.log_lines(PODS, namespace, caller.name, container, follow=False):
                line = Line.from_json(text)
                count += line is not None and line.told is Told.IN_FORCE
        counts.append(count)
    return counts


@pytest.mark.parametrize(
    "phase", [each for each in Phase if each not in (Phase.REPAIRING, Phase.REPEATING, Phase.FINISHED)]
)
@together
async def test_a_killed_operator_finishes_the_run_with_a_true_verdict(
    kube: Kube,
    cluster: Cluster,
    namespace: str,
    shop: Shop,
    make_operator: Callable[..., OperatorProcess],
    phase: Phase,
) -> None:
    callers, server = shop
    before = network_state(callers)
    first = make_operator("operator-0")
    first.start()
    await make_experiment(kube, namespace, "killed", partition(server))
    await until(kube, namespace, "killed", reached(phase))
    first.kill()
    second = make_operator("operator-0")  # as the kubelet starts a container again: the lease is its own still
    second.start()
    status = await finished(kube, namespace, "killed", 120)
    assert status["verdict"] in TRUE_ENDS, status
    reasons = {finding["reason"] for finding in status["findings"]}
    assert reasons <= {"ObservationGap"}, status["findings"]
    assert status["axes"]["injection"] == "Proven"
    assert status["axes"]["cleanup"] == "Clean"
    assert await times_in_force(kube, namespace, callers) == [1, 1]
    assert network_state(callers) == before


@pytest.mark.parametrize("way", ["job", "byHand"])
@together
async def test_what_repairs_runs_once_though_the_operator_is_killed(
    kube: Kube, namespace: str, make_operator: Callable[..., OperatorProcess], way: str
) -> None:
    await repair_once_though_killed(kube, namespace, make_operator, way)


@together
async def test_repeated_runs_go_on_where_a_killed_operator_left_them(
    kube: Kube, home: str, namespace: str, shop: Shop, make_operator: Callable[..., OperatorProcess]
) -> None:
    callers, server = shop
    before = network_state(callers)
    operator = make_operator("operator-0")
    operator.start()
    await make_experiment(kube, namespace, "repeated", partition(server, seconds=2), runs={"count": 2, "seed": 7})
    for number, phase in ((1, Phase.REPEATING), (2, Phase.ACTIVE)):
        await until(kube, namespace, "repeated", in_run(number, phase))
        operator.kill()
        operator = make_operator("operator-0")
        operator.start()
    status = await finished(kube, namespace, "repeated", 240)
    assert status["verdict"] in TRUE_ENDS, status
    runs = status["runs"]
    assert [run["number"] for run in runs["listed"]] == [1, 2]
    assert len({run["seed"] for run in runs["listed"]}) == 2 and runs["listed"][0]["seed"] == 7
    assert all(run["verdict"] in TRUE_ENDS and run["reason"] in ("", "ObservationGap") for run in runs["listed"])
    assert runs["passed"] + runs["undecided"] == 2
    assert await times_in_force(kube, namespace, callers) == [2, 2], "each run once"
    assert network_state(callers) == before
    await held_no_more(kube, namespace, "repeated")
    secrets, _ = await kube.list(SECRETS, home, labels="bounceback.dev/experiment-uid")
    assert not secrets, "the journal of each run goes with it"


def started(state: str) -> Callable[[Json], bool]:
    return lambda status: [start["state"] for start in status.get("starts") or ()] == [state]


@together
async def test_a_reference_run_knows_what_came_and_went_while_no_operator_was_there(
    kube: Kube, home: str, namespace: str, shop: Shop, make_operator: Callable[..., OperatorProcess]
) -> None:
    """It did so in the run without faults, and not in the one with them: that is a difference, and the only one."""
    _, server = shop
    labels = {"role": "seen"}
    compared = {"apiVersion": "v1", "kind": "Service", "selector": {"matchLabels": labels}}

    async def serve(name: str) -> None:
        body = {"metadata": {"name": name, "labels": labels}, "spec": {"ports": [{"port": 80}]}}
        await kube.create(SERVICES, namespace, body)

    await serve("there")
    operator = make_operator("operator-0")
    operator.start()
    reference = {"objects": [compared], "settleSeconds": 1}
    await make_experiment(kube, namespace, "compared", partition(server, seconds=4), reference=reference)
    for phase in (Phase.ACTIVE, Phase.REPEATING):
        seen = await until(kube, namespace, "compared", reached(phase))
        assert not seen["status"]["reference"].get("over") and not seen["status"].get("injections")
        operator.kill()
        if phase is Phase.ACTIVE:
            await serve("brief")
            await kube.delete(SERVICES, namespace, "brief")
        operator = make_operator("operator-0")
        operator.start()
    status = await finished(kube, namespace, "compared", 240)
    told = "reference run/Service brief: 1 came and 1 went in the reference run, 0 came and 0 went now"
    assert (status["verdict"], [each["message"] for each in status["findings"]]) == ("Failed", [told])
    assert status["axes"]["injection"] == "Proven"
    await held_no_more(kube, namespace, "compared")
    secrets, _ = await kube.list(SECRETS, home, labels="bounceback.dev/experiment-uid")
    assert not secrets, "what runs were held against goes with the last of them"


@together
async def test_a_fault_that_waits_begins_though_the_operator_is_killed_while_it_does(
    kube: Kube, namespace: str, shop: Shop, make_operator: Callable[..., OperatorProcess]
) -> None:
    """Killed while it waits, and again as soon as it is written down that it waits no more."""
    callers, server = shop
    before = network_state(callers)
    waits = partition(server, seconds=3, name="again", startWhen={"cleared": "cut", "withinSeconds": 100})
    operator = make_operator("operator-0")
    operator.start()
    await make_experiment(kube, namespace, "waited", partition(server), waits)
    for holds in (reached(Phase.ACTIVE), started("Reached")):
        await until(kube, namespace, "waited", holds)
        operator.kill()
        operator = make_operator("operator-0")
        operator.start()
    status = await finished(kube, namespace, "waited", 180)
    assert status["verdict"] in TRUE_ENDS, status
    assert {finding["reason"] for finding in status["findings"]} <= {"ObservationGap"}, status["findings"]
    assert status["axes"]["injection"] == "Proven"
    assert await times_in_force(kube, namespace, callers) == [2, 2], "each fault once"
    assert network_state(callers) == before


@together
async def test_what_never_comes_starts_nothing_and_proves_nothing(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    callers, server = shop
    before = network_state(callers)
    never = {"failing": {"check": "reachable", "forSeconds": 60}, "withinSeconds": 5}
    waits = partition(server, name="again", startWhen=never)
    await make_experiment(kube, namespace, "in-vain", partition(server, seconds=2), waits)
    status = await finished(kube, namespace, "in-vain")
    assert (status["verdict"], status["axes"]["injection"]) == ("Inconclusive", "Unproven"), status
    assert status["findings"][0]["reason"] == "NotStarted"
    assert status["axes"]["cleanup"] == "Clean"
    assert await times_in_force(kube, namespace, callers) == [1, 1]
    assert network_state(callers) == before


@together
async def test_who_cancels_repeated_runs_ends_all_of_them(
    kube: Kube, namespace: str, shop: Shop, operator: OperatorProcess
) -> None:
    callers, server = shop
    before = network_state(callers)
    await make_experiment(kube, namespace, "cancelled", partition(server, seconds=2), runs={"count": 5})
    await until(kube, namespace, "cancelled", in_run(2, Phase.ACTIVE))
    await kube.patch(EXPERIMENTS, namespace, "cancelled", {"spec": {"cancel": True}})
    status = await finished(kube, namespace, "cancelled")
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "Cancelled"), status
    assert [run["verdict"] for run in status["runs"]["listed"]] == ["Passed", "Aborted"]
    assert status["runs"]["rate"]["percent"] == 100
    assert await times_in_force(kube, namespace, callers) == [2, 2]
    assert network_state(callers) == before


@together
async def test_faults_end_by_their_deadline_without_any_operator(
    kube: Kube, cluster: Cluster, namespace: str, shop: Shop, make_operator: Callable[[], OperatorProcess]
) -> None:
    callers, server = shop
    before = network_state(callers)
    process = make_operator()
    process.start()
    await make_experiment(kube, namespace, "orphaned", partition(server, seconds=8))
    await until(kube, namespace, "orphaned", reached(Phase.ACTIVE))
    process.kill()
    began = time.monotonic()
    assert network_state(callers) != before, "it was not there in the first place"
    while network_state(callers) != before:
        assert time.monotonic() - began < 20, "the fault outlived its deadline"
        await asyncio.sleep(0.2)


@together
async def test_two_replicas_run_each_experiment_once(
    kube: Kube, namespace: str, shop: Shop, make_operator: Callable[[], OperatorProcess]
) -> None:
    callers, server = shop
    for process in (make_operator(), make_operator()):
        process.start()
    await make_experiment(kube, namespace, "doubled", partition(server, seconds=3))
    status = await finished(kube, namespace, "doubled")
    assert status["verdict"] == "Passed", status
    assert await times_in_force(kube, namespace, callers) == [1, 1]


@together
async def test_a_leader_that_slept_through_its_lease_injects_nothing_more(
    kube: Kube, namespace: str, shop: Shop, make_operator: Callable[[], OperatorProcess]
) -> None:
    callers, server = shop
    sleeper, other = make_operator(), make_operator()
    sleeper.start()
    await make_experiment(kube, namespace, "slept", partition(server, seconds=3), steadyState={"holdSeconds": 4})
    await until(kube, namespace, "slept", reached(Phase.STEADY))
    sleeper.suspend()
    other.start()
    await finished(kube, namespace, "slept", 120)
    await held_no_more(kube, namespace, "slept")  # its evidence is kept by then, too
    status = (await kube.get(EXPERIMENTS, namespace, "slept"))["status"]
    sleeper.go_on()
    async with asyncio.timeout(60):
        while "not leading any more" not in sleeper.log():
            await asyncio.sleep(0.1)
    await asyncio.sleep(2)
    assert status["verdict"] in TRUE_ENDS, status
    assert await times_in_force(kube, namespace, callers) == [1, 1]
    now = (await kube.get(EXPERIMENTS, namespace, "slept"))["status"]
    assert now == status, "the sleeper wrote after it woke up"
