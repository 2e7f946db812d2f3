"""Objects that are changed are put right, whatever becomes of the operator."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterable

import pytest

from bounceback.kube import Kube, Resource
from bounceback.kube.client import Json
from bounceback.kube.resources import CONFIG_MAPS, EVENTS, EXPERIMENTS, PODS, SECRETS
from bounceback.types.outcome import Phase
from bounceback.vehicles.access import access_manifest
from tests.conftest import ACCOUNT, OPERATOR, RBAC, apply
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, held_no_more, make_check, reached, until
from tests.workload import SERVE, pod, running

DEPLOYMENTS = Resource("apps/v1", "deployments")
PATIENT = 120  # seconds: several programs start at once here, on a machine that may have other work
ACTS_AS = {"BOUNCEBACK_SERVICE_ACCOUNT": OPERATOR}


@pytest.fixture
async def place(kube: Kube, home: str, namespace: str, resources: None) -> str:
    """The namespace, with a check, a Deployment, and what the account and the rollback pod need to change it."""
    await apply(kube, access_manifest(namespace, ACCOUNT, home, OPERATOR, objects=["deployments.apps", "secrets"]))
    await apply(kube, [_account(home), *_granted(home, home, OWN), *_granted(namespace, home, READS)])
    (server,) = await running(kube, namespace, [pod("server", "python3", "-c", SERVE)])
    await make_check(kube, namespace, server.ips[0])
    template = pod("web", "python3", "-c", SERVE)
    body = {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": template["spec"]},
        },
    }
    await kube.create(DEPLOYMENTS, namespace, body)
    return namespace


OWN = [
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "patch"]},
]
READS = [{"apiGroups": ["bounceback.dev"], "resources": ["faultexperiments"], "verbs": ["get"]}]


def _account(home: str) -> Json:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": OPERATOR, "namespace": home}}


def _granted(namespace: str, home: str, rules: list[Json]) -> list[Json]:
    """What the chart grants the operator's account, as far as the rollback pod uses it."""
    metadata = {"name": "rollback", "namespace": namespace}
    subjects = [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": home}]
    role = {"apiGroup": RBAC.partition("/")[0], "kind": "Role", "name": "rollback"}
    return [
        {"apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": rules},
        {"apiVersion": RBAC, "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": subjects},
    ]


async def make_experiment(kube: Kube, namespace: str, name: str, fault: Json, targets: Json, seconds: int) -> Json:
    spec = {
        "targets": [{"name": "it", "objects": targets}],
        "faults": [{"name": "changed", "target": "it", "objectFault": fault, "durationSeconds": seconds}],
        "checks": [{"name": "reachable"}],
        "steadyState": {"holdSeconds": 1, "timeoutSeconds": 30},
    }
    kinds = {"apiVersion": "bounceback.dev/v1alpha1", "kind": "FaultExperiment"}
    return await kube.create(EXPERIMENTS, namespace, {**kinds, "metadata": {"name": name}, "spec": spec})


WEB = {"apiVersion": "apps/v1", "kind": "Deployment", "names": ["web"]}


async def replicas(kube: Kube, namespace: str) -> int:
    return int((await kube.get(DEPLOYMENTS, namespace, "web"))["spec"]["replicas"])


async def left_at_home(kube: Kube, home: str) -> list[str]:
    found = []
    for resource in (PODS, SECRETS, CONFIG_MAPS):
        listed, _ = await kube.list(resource, home, labels="bounceback.dev/experiment-uid")
        found += [f"{resource.plural}/{each['metadata']['name']}" for each in listed]
    return found


async def test_the_operator_is_killed_in_the_middle_and_goes_on(
    kube: Kube, home: str, place: str, make_operator: Callable[..., OperatorProcess]
) -> None:
    """The fault lasts as long as it was to, is undone once, leaves alone what others changed, and leaves nothing."""
    first = make_operator("operator-0", more=ACTS_AS)
    first.start()
    await make_experiment(kube, place, "killed", {"scaledToZero": {}}, WEB, 8)
    await until(kube, place, "killed", reached(Phase.ACTIVE), PATIENT)
    first.kill()
    assert await replicas(kube, place) == 0
    await kube.patch(DEPLOYMENTS, place, "web", {"metadata": {"labels": {"others": "too"}}})
    second = make_operator("operator-0", more=ACTS_AS)
    second.start()
    status = await finished(kube, place, "killed", PATIENT)
    (injection,) = status["injections"]
    assert status["verdict"] in ("Passed", "Inconclusive"), status
    assert {finding["reason"] for finding in status["findings"]} <= {"ObservationGap"}
    assert (injection["state"], injection["hits"], injection["healed"]["by"]) == ("Cleared", 1, "Undo")
    assert injection["healed"]["milliseconds"] >= 8000
    assert status["axes"]["cleanup"] == "Clean"
    now = await kube.get(DEPLOYMENTS, place, "web")
    assert (now["spec"]["replicas"], now["metadata"]["labels"]) == (1, {"others": "too"})
    await held_no_more(kube, place, "killed")
    async with asyncio.timeout(PATIENT):  # a pod is given 30 s to end
        while await left_at_home(kube, home):
            await asyncio.sleep(0.2)


async def test_what_waits_its_turn_has_it_though_the_operator_is_killed_meanwhile(
    kube: Kube, home: str, place: str, make_operator: Callable[..., OperatorProcess]
) -> None:
    """A Secret is gone; when it is back a Deployment is scaled to zero; while it is, another pod is deleted."""
    first = make_operator("operator-0", more=ACTS_AS)
    first.start()
    await kube.create(SECRETS, place, {"metadata": {"name": "key"}, "stringData": {"password": "x"}})
    (victim,) = await running(kube, place, [pod("victim", "python3", "-c", SERVE, labels={"role": "victim"})])
    spec = {
        "targets": [
            {"name": "key", "objects": {"apiVersion": "v1", "kind": "Secret", "names": ["key"]}},
            {"name": "web", "objects": WEB},
            {"name": "victim", "pods": {"selector": {"matchLabels": {"role": "victim"}}}},
        ],
        "faults": [
            {"name": "gone", "target": "key", "objectFault": {"deleted": {}}, "durationSeconds": 3},
            {
                "name": "zero",
                "target": "web",
                "objectFault": {"scaledToZero": {}},
                "durationSeconds": 3,
                "startWhen": {"cleared": "gone"},
            },
            {"name": "kill", "target": "victim", "podDelete": {}, "startWhen": {"inForce": "zero"}},
        ],
        "checks": [{"name": "reachable"}],
        "steadyState": {"holdSeconds": 1, "timeoutSeconds": 30},
    }
    kinds = {"apiVersion": "bounceback.dev/v1alpha1", "kind": "FaultExperiment"}
    await kube.create(EXPERIMENTS, place, {**kinds, "metadata": {"name": "in-turn"}, "spec": spec})
    await until(kube, place, "in-turn", reached(Phase.ACTIVE), PATIENT)
    first.kill()
    second = make_operator("operator-0", more=ACTS_AS)
    second.start()
    status = await finished(kube, place, "in-turn", PATIENT)
    assert {finding["reason"] for finding in status["findings"]} <= {"ObservationGap"}, status["findings"]
    assert (status["axes"]["injection"], status["axes"]["cleanup"]) == ("Proven", "Clean")
    began = {each["fault"]: each["inForceAt"]["utc"] for each in status["injections"]}
    ended = {each["fault"]: each["clearedAt"]["utc"] for each in status["injections"]}
    assert ended["gone"] <= began["zero"] <= began["kill"]
    assert (await replicas(kube, place), await _there(kube, place, victim.uid)) == (1, False)
    assert await _held(kube, place, ["key"]) == {"key": "x"}


async def _there(kube: Kube, namespace: str, uid: str) -> bool:
    found, _ = await kube.list(PODS, namespace)
    return uid in {each["metadata"]["uid"] for each in found}


async def test_the_operator_is_killed_for_good_and_the_rollback_pod_undoes(
    kube: Kube, home: str, place: str, make_operator: Callable[..., OperatorProcess]
) -> None:
    """A later operator tells the truth: it was the undo, not the system, and when."""
    first = make_operator("operator-0", more=ACTS_AS)
    first.start()
    await make_experiment(kube, place, "orphaned", {"scaledToZero": {}, "healing": "Required"}, WEB, 15)
    await until(kube, place, "orphaned", reached(Phase.ACTIVE), PATIENT)
    first.kill()
    assert await replicas(kube, place) == 0
    began = time.monotonic()
    while await replicas(kube, place) == 0:
        assert time.monotonic() - began < PATIENT, "nobody has put it right"
        await asyncio.sleep(0.2)
    second = make_operator("operator-0", more=ACTS_AS)
    second.start()
    status = await finished(kube, place, "orphaned", PATIENT)
    (injection,) = status["injections"]
    assert (injection["reason"], injection["healed"]["by"]) == ("RolledBack", "Undo"), injection
    assert "NotHealed" in {finding["reason"] for finding in status["findings"]}
    assert status["axes"]["cleanup"] == "Clean"
    await held_no_more(kube, place, "orphaned")


async def test_the_rollback_pod_is_drained_and_undoes_at_once(
    kube: Kube, home: str, place: str, make_operator: Callable[..., OperatorProcess]
) -> None:
    """It cannot know that the operator lives. That the fault was short is not hidden."""
    make_operator(more=ACTS_AS).start()
    await make_experiment(kube, place, "drained", {"scaledToZero": {}}, WEB, 60)
    await until(kube, place, "drained", reached(Phase.ACTIVE), PATIENT)
    (rollback,), _ = await kube.list(PODS, home, labels="bounceback.dev/role=rollback")
    await kube.delete(PODS, home, rollback["metadata"]["name"])
    status = await finished(kube, place, "drained", PATIENT)
    (injection,) = status["injections"]
    assert (injection["reason"], injection["healed"]["by"]) == ("RolledBack", "Undo"), injection
    assert (status["verdict"], status["axes"]["cleanup"]) == ("Inconclusive", "Clean")
    assert {finding["reason"] for finding in status["findings"]} == {"FaultTooShort"}
    assert await replicas(kube, place) == 1


async def test_what_is_cancelled_deleted_frozen_or_healed_ends_truly_and_tells_no_secret(
    kube: Kube, home: str, place: str, make_operator: Callable[..., OperatorProcess]
) -> None:
    """Four Secrets are gone at once; three experiments are ended, and of one somebody makes the Secret anew."""
    operator = make_operator(more=ACTS_AS)
    operator.start()
    names = ("cancelled", "deleted", "frozen", "healed")
    for name in names:
        await kube.create(SECRETS, place, {"metadata": {"name": name}, "stringData": {"password": f"hush-{name}"}})
        targets = {"apiVersion": "v1", "kind": "Secret", "names": [name]}
        await make_experiment(kube, place, name, {"deleted": {}, "healing": "Required"}, targets, 600)
    for name in names:
        await until(kube, place, name, reached(Phase.ACTIVE), PATIENT)
    assert not await _held(kube, place, names)
    await kube.create(SECRETS, place, {"metadata": {"name": "healed"}, "stringData": {"password": "new"}})
    status = await finished(kube, place, "healed", PATIENT)
    (injection,) = status["injections"]
    assert (status["verdict"], injection["healed"]["by"], injection["reason"]) == ("Passed", "System", "Healed"), status
    await kube.patch(EXPERIMENTS, place, "cancelled", {"spec": {"cancel": True}})
    await kube.delete(EXPERIMENTS, place, "deleted")
    assert (await finished(kube, place, "cancelled", PATIENT))["axes"]["cleanup"] == "Clean"
    await kube.create(CONFIG_MAPS, home, {"metadata": {"name": "bounceback-freeze"}, "data": {"reason": "a test"}})
    assert (await finished(kube, place, "frozen", PATIENT))["axes"]["cleanup"] == "Clean"
    async with asyncio.timeout(PATIENT):
        while len(await _held(kube, place, names)) < len(names):
            await asyncio.sleep(0.1)
    as_before = {name: f"hush-{name}" for name in ("cancelled", "deleted", "frozen")}
    assert await _held(kube, place, names) == {**as_before, "healed": "new"}
    events, _ = await kube.list(EVENTS, place)
    experiments, _ = await kube.list(EXPERIMENTS, place)
    told = json.dumps([*events, *experiments]) + operator.log()
    assert "hush" not in told
    assert base64.b64encode(b"hush-").decode()[:6] not in told


async def _held(kube: Kube, namespace: str, names: Iterable[str]) -> dict[str, str]:
    """What those of the Secrets hold that are there."""
    found, _ = await kube.list(SECRETS, namespace)
    wanted = [each for each in found if each["metadata"]["name"] in set(names)]
    return {each["metadata"]["name"]: base64.b64decode(each["data"]["password"]).decode() for each in wanted}
