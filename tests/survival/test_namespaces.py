"""A namespace is deleted with all that is in it, and is as it was afterwards, whoever is there to see to that."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.client import APPLY_PATCH, Json
from bounceback.kube.resources import CONFIG_MAPS, NAMESPACES, PODS, POLICIES, SECRETS, SERVICE_ACCOUNTS, SERVICES
from bounceback.types.outcome import Phase
from bounceback.vehicles.cluster_access import cluster_access_manifest
from bounceback.vehicles.namespace_access import contents_role, policy_name
from tests.conftest import ACCOUNT, RBAC, drop_namespace, make_namespace
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, held_no_more, reached, until
from tests.survival.test_objects import ACTS_AS, DEPLOYMENTS, PATIENT, left_at_home, make_experiment, place
from tests.workload import SERVE, pod

__all__ = ["place"]
ADMISSION = "admissionregistration.k8s.io/v1"
KINDS = {
    "ClusterRole": Resource(RBAC, "clusterroles", namespaced=False),
    "ClusterRoleBinding": Resource(RBAC, "clusterrolebindings", namespaced=False),
    "RoleBinding": Resource(RBAC, "rolebindings"),
    "ValidatingAdmissionPolicy": Resource(ADMISSION, "validatingadmissionpolicies", namespaced=False),
    "ValidatingAdmissionPolicyBinding": Resource(ADMISSION, "validatingadmissionpolicybindings", namespaced=False),
}
ROLES = Resource(RBAC, "roles")
DELETED: Json = {"deleted": {}, "healing": "Required"}


def targets(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "names": [name]}


@pytest.fixture
async def tenant(kube: Kube, place: str) -> AsyncIterator[str]:
    """A namespace with a workload in it, which experiments of `place` may delete."""
    name = f"tenant-{secrets.token_hex(4)}"
    await make_namespace(kube, name, {"team": "shop"})
    manifest = cluster_access_manifest(place, ACCOUNT, [("namespaces", name)])
    for body in manifest:
        metadata = body["metadata"]
        await kube.patch(
            KINDS[body["kind"]], metadata.get("namespace"), metadata["name"], body, content_type=APPLY_PATCH, force=True
        )
    await furnish(kube, name)
    await known(kube, place, confined=True)
    allowed = {"kind": "Namespace", "names": [name], "faults": ["deleted"]}
    spec = {"experiments": {"namespaces": {"names": [place]}}, "allow": {"objects": [allowed]}}
    kinds = {"apiVersion": "bounceback.dev/v1alpha1", "kind": "FaultPolicy"}
    await kube.create(POLICIES, None, {**kinds, "metadata": {"name": name}, "spec": spec})
    try:
        yield name
    finally:
        await kube.delete(POLICIES, None, name)
        await drop_namespace(kube, name)
        for body in manifest:
            if not body["metadata"].get("namespace"):
                await kube.delete(KINDS[body["kind"]], None, body["metadata"]["name"])


async def known(kube: Kube, place: str, *, confined: bool) -> None:
    """The API server learns of policies, as of rights, by a watch."""
    acting, other = kube.acting_as(place, ACCOUNT), {"metadata": {"name": "other"}}
    async with asyncio.timeout(60):
        while await is_refused(acting.create(NAMESPACES, None, other, dry_run=True)) != confined:
            await asyncio.sleep(0.2)


async def is_refused(request: Awaitable[object]) -> bool:
    try:
        await request
    except KubeError as error:
        if error.passing:
            raise
        return True
    return False


async def furnish(kube: Kube, name: str) -> None:
    """Some of each sort: what others refer to, what grants rights, what runs, what its controller makes again."""
    await kube.create(CONFIG_MAPS, name, {"metadata": {"name": "settings"}, "data": {"colour": "green"}})
    await kube.create(SECRETS, name, {"metadata": {"name": "password"}, "stringData": {"password": "correct horse"}})
    await kube.create(SERVICE_ACCOUNTS, name, {"metadata": {"name": "web"}})
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["deletecollection"]}]
    await kube.create(ROLES, name, {"metadata": {"name": "web"}, "rules": rules})
    reference = {"apiGroup": RBAC.partition("/")[0], "kind": "Role", "name": "web"}
    subjects = [{"kind": "ServiceAccount", "name": "web", "namespace": name}]
    binding = {"metadata": {"name": "web"}, "roleRef": reference, "subjects": subjects}
    await kube.create(KINDS["RoleBinding"], name, binding)
    ports = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    await kube.create(SERVICES, name, {"metadata": {"name": "web"}, "spec": ports})
    template = pod("web", "python3", "-c", SERVE)["spec"] | {"serviceAccountName": "web"}
    body = {
        "metadata": {"name": "web", "annotations": {"example.com/owner": "us"}},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": template},
        },
    }
    await kube.create(DEPLOYMENTS, name, body)
    await serving(kube, name)


async def serving(kube: Kube, name: str) -> None:
    async with asyncio.timeout(PATIENT):
        while True:
            pods, _ = await kube.list(PODS, name)
            if any((each["status"].get("phase")) == "Running" for each in pods):
                return
            await asyncio.sleep(0.2)


async def as_it_is(kube: Kube, name: str) -> dict[str, Any]:
    """What must be the same afterwards."""
    kept = (CONFIG_MAPS, SECRETS, SERVICE_ACCOUNTS, ROLES, KINDS["RoleBinding"], SERVICES, DEPLOYMENTS)
    found: dict[str, Any] = {"labels": (await kube.get(NAMESPACES, None, name))["metadata"]["labels"]}
    for resource in kept:
        for body in (await kube.list(resource, name))[0]:
            metadata = {key: body["metadata"].get(key) for key in ("labels",)}
            notes = body["metadata"].get("annotations") or {}
            metadata["annotations"] = notes.get("example.com/owner")
            body.pop("status", None)
            found[f"{resource.plural}/{body['metadata']['name']}"] = body | {"metadata": metadata}
    return found


async def uid_of(kube: Kube, name: str) -> str:
    """ "": it is not there, or going."""
    try:
        metadata = (await kube.get(NAMESPACES, None, name))["metadata"]
    except KubeError as error:
        if not error.gone:
            raise
        return ""
    return "" if metadata.get("deletionTimestamp") else str(metadata["uid"])


async def test_nobody_makes_it_again_but_the_rollback_pod(
    kube: Kube, home: str, place: str, tenant: str, make_operator: Callable[..., OperatorProcess]
) -> None:
    """The operator is killed as soon as the namespace is gone, and stays away."""
    before, uid = await as_it_is(kube, tenant), await uid_of(kube, tenant)
    first = make_operator("operator-0", more=ACTS_AS)
    first.start()
    await make_experiment(kube, place, "orphaned", DELETED, targets(tenant), 10)
    seen = await until(kube, place, "orphaned", reached(Phase.ACTIVE), PATIENT)
    assert await uid_of(kube, tenant) == "", seen["status"]
    first.kill()
    async with asyncio.timeout(PATIENT):
        while await uid_of(kube, tenant) in ("", uid) or await left_out(kube, tenant, before):
            await asyncio.sleep(0.5)
    make_operator("operator-0", more=ACTS_AS).start()
    status = await finished(kube, place, "orphaned", PATIENT)
    (injection,) = status["injections"]
    assert (injection["state"], injection["healed"]["by"]) == ("Cleared", "Undo"), injection
    assert injection["hits"] == 9, "the namespace, and what we make again"
    assert "NotHealed" in {finding["reason"] for finding in status["findings"]}
    assert status["axes"]["cleanup"] == "Clean"
    await serving(kube, tenant)
    assert await as_it_is(kube, tenant) == before
    await held_no_more(kube, place, "orphaned")
    async with asyncio.timeout(PATIENT):
        while await left_at_home(kube, home):
            await asyncio.sleep(0.2)


async def left_out(kube: Kube, name: str, before: dict[str, Any]) -> set[str]:
    return set(before) - set(await as_it_is(kube, name))


async def test_the_system_makes_it_again_and_that_is_told(
    kube: Kube, home: str, place: str, tenant: str, make_operator: Callable[..., OperatorProcess]
) -> None:
    """The namespace and all that was in it are back: healed. Then the namespace alone: the rest is for our undo."""
    make_operator("operator-0", more=ACTS_AS).start()
    role = (await kube.get(KINDS["RoleBinding"], tenant, contents_role(place, ACCOUNT)))["roleRef"]
    await make_experiment(kube, place, "healed", DELETED, targets(tenant), 120)
    await until(kube, place, "healed", reached(Phase.ACTIVE), PATIENT)
    await made_again(kube, tenant)
    await furnish(kube, tenant)
    status = await finished(kube, place, "healed", PATIENT)
    (injection,) = status["injections"]
    assert (injection["state"], injection["healed"]["by"]) == ("Cleared", "System"), injection
    assert 0 < injection["healed"]["milliseconds"] < 120_000
    assert {finding["reason"] for finding in status["findings"]} <= {"ObservationGap"}
    again = (await kube.get(KINDS["RoleBinding"], tenant, contents_role(place, ACCOUNT)))["roleRef"]
    assert again == role, "the way in is for us to make again"
    await held_no_more(kube, place, "healed")

    await make_experiment(kube, place, "half", DELETED, targets(tenant), 10)
    await until(kube, place, "half", reached(Phase.ACTIVE), PATIENT)
    await made_again(kube, tenant)
    status = await finished(kube, place, "half", PATIENT)
    (injection,) = status["injections"]
    assert injection["healed"]["by"] == "Undo", injection
    assert {"NotHealed"} <= {finding["reason"] for finding in status["findings"]}
    await kube.get(CONFIG_MAPS, tenant, "settings")
    await held_no_more(kube, place, "half")


async def made_again(kube: Kube, name: str) -> None:
    async with asyncio.timeout(PATIENT):
        while True:
            try:
                await make_namespace(kube, name, {"team": "shop"})
            except KubeError as error:
                if not (error.exists or error.conflict):
                    raise
                await asyncio.sleep(0.2)
            else:
                return


async def test_what_could_not_be_undone_is_refused(
    kube: Kube, home: str, place: str, tenant: str, make_operator: Callable[..., OperatorProcess]
) -> None:
    """Before anything is touched."""
    make_operator("operator-0", more=ACTS_AS).start()
    uid = await uid_of(kube, tenant)

    async def aborted(name: str, reason: str, words: str) -> None:
        await make_experiment(kube, place, name, DELETED, targets(tenant), 5)
        status = await finished(kube, place, name, PATIENT)
        assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", reason), status
        assert words in status["ending"]["message"] and not status.get("injections")
        await held_no_more(kube, place, name)
        assert await uid_of(kube, tenant) == uid

    await kube.create(CONFIG_MAPS, tenant, {"metadata": {"name": "held", "finalizers": ["example.com/held"]}})
    try:
        await aborted("finalizer", "NotBroughtBack", "ConfigMap held is in it: it has finalizers (example.com/held)")
    finally:
        await kube.patch(CONFIG_MAPS, tenant, "held", {"metadata": {"finalizers": None}})
        await kube.delete(CONFIG_MAPS, tenant, "held")
    policy = policy_name(place, ACCOUNT)
    binding = KINDS["ValidatingAdmissionPolicyBinding"]
    await kube.patch(binding, None, policy, {"spec": {"validationActions": ["Warn"]}})
    await known(kube, place, confined=False)
    await aborted("unconfined", "NotConfined", "may make other namespaces")
    await kube.delete(KINDS["RoleBinding"], tenant, contents_role(place, ACCOUNT))
    async with asyncio.timeout(60):
        while not await is_refused(kube.acting_as(place, ACCOUNT).list(CONFIG_MAPS, tenant)):
            await asyncio.sleep(0.2)
    await aborted("no-rights", "Forbidden", f"--cluster-objects namespaces/{tenant}")
