"""Objects are changed and put right at a real API server: once, exactly, and never over what others wrote."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.controller.prepare_objects import PreparingObjects
from bounceback.controller.settings import Settings
from bounceback.engine.planning import Chosen
from bounceback.faults import ObjectFault
from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.client import Json
from bounceback.kube.kinds import Kinds
from bounceback.kube.resources import CONFIG_MAPS, LEASES, NAMESPACES, SECRETS
from bounceback.types.objects import Change
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.object_patch import ObjectPatch
from tests.conftest import ACCOUNT, OPERATOR, RBAC, apply, until_known

OBJECTS = [
    "leases.coordination.k8s.io",
    "configmaps",
    "secrets",
    "roles.rbac.authorization.k8s.io",
    "rolebindings.rbac.authorization.k8s.io",
]
MODE = {"fieldChanged": {"path": "/data/mode", "value": "broken"}}


@pytest.fixture
async def patch(kube: Kube, home: str, namespace: str) -> ObjectPatch:
    """As the account, which may change what is listed above."""
    await apply(kube, access_manifest(namespace, ACCOUNT, home, OPERATOR, objects=OBJECTS))
    await until_known(kube.acting_as(namespace, ACCOUNT), namespace, CONFIG_MAPS)
    return ObjectPatch(kube.acting_as(namespace, ACCOUNT), Kinds(kube), "the account")


async def settings(kube: Kube, namespace: str, name: str = "settings") -> Json:
    return await kube.create(
        CONFIG_MAPS, namespace, {"metadata": {"name": name}, "data": {"mode": "well", "more": "1"}}
    )


async def planned(patch: ObjectPatch, body: Json, fault: Json) -> Change:
    kind = {"apiVersion": body.get("apiVersion", "v1"), "kind": body.get("kind", "ConfigMap")}
    (change,) = ObjectFault.model_validate(fault).changes({**body, **kind}, "run-1", ACCOUNT)
    return await patch.rehearse(change)


async def data(kube: Kube, namespace: str) -> Any:
    return (await kube.get(CONFIG_MAPS, namespace, "settings"))["data"]


async def test_twice_is_once_both_ways(kube: Kube, namespace: str, patch: ObjectPatch) -> None:
    change = await planned(patch, await settings(kube, namespace), MODE)
    assert await data(kube, namespace) == {"mode": "well", "more": "1"}, "a rehearsal touches nothing"
    assert await patch.apply(change)
    version = (await kube.get(CONFIG_MAPS, namespace, "settings"))["metadata"]["resourceVersion"]
    assert await patch.apply(change)
    now = await kube.get(CONFIG_MAPS, namespace, "settings")
    assert now["metadata"]["resourceVersion"] == version, "it was written twice"
    first, second = await patch.undo(change), await patch.undo(change)
    assert (first.healed, second.healed) == (False, True)
    assert await data(kube, namespace) == {"mode": "well", "more": "1"}


async def test_what_others_wrote_in_between_is_theirs(kube: Kube, namespace: str, patch: ObjectPatch) -> None:
    """Before the change, while it lasts, and in the very field."""
    change = await planned(patch, await settings(kube, namespace), MODE)
    await kube.patch(CONFIG_MAPS, namespace, "settings", {"data": {"more": "2"}})
    assert await patch.apply(change)
    assert await data(kube, namespace) == {"mode": "broken", "more": "2"}
    await kube.patch(CONFIG_MAPS, namespace, "settings", {"data": {"more": "3", "new": "4"}})
    await patch.undo(change)
    assert await data(kube, namespace) == {"mode": "well", "more": "3", "new": "4"}
    again = await planned(patch, await kube.get(CONFIG_MAPS, namespace, "settings"), MODE)
    assert await patch.apply(again)
    await kube.patch(CONFIG_MAPS, namespace, "settings", {"data": {"mode": "another"}})
    await patch.undo(again)
    assert (await data(kube, namespace))["mode"] == "another"


async def test_what_others_changed_first_is_not_changed(kube: Kube, namespace: str, patch: ObjectPatch) -> None:
    change = await planned(patch, await settings(kube, namespace), MODE)
    await kube.patch(CONFIG_MAPS, namespace, "settings", {"data": {"mode": "another"}})
    with pytest.raises(Refused) as refused:
        await patch.apply(change)
    assert refused.value.reason == "ChangedMeanwhile"
    assert (await data(kube, namespace))["mode"] == "another"


async def test_another_object_of_that_name_is_not_touched(kube: Kube, namespace: str, patch: ObjectPatch) -> None:
    change = await planned(patch, await settings(kube, namespace), MODE)
    await kube.delete(CONFIG_MAPS, namespace, "settings")
    assert await patch.apply(change) is None
    await settings(kube, namespace)
    assert await patch.apply(change) is None
    await kube.patch(CONFIG_MAPS, namespace, "settings", {"data": {"mode": "broken"}})
    await patch.undo(change)
    assert (await data(kube, namespace))["mode"] == "broken", "that is another one's own value"


async def test_what_was_deleted_is_made_again(kube: Kube, namespace: str, patch: ObjectPatch) -> None:
    body = await kube.create(
        CONFIG_MAPS, namespace, {"metadata": {"name": "settings", "labels": {"app": "web"}}, "data": {"mode": "well"}}
    )
    change = await planned(patch, body, {"deleted": {}})
    assert await patch.apply(change)
    assert await patch.apply(change), "done already is fine"
    assert await patch.read(change.key) is None
    await patch.undo(change)
    now = await kube.get(CONFIG_MAPS, namespace, "settings")
    assert (now["data"], now["metadata"]["labels"]) == ({"mode": "well"}, {"app": "web"})
    assert not (await patch.undo(change)).healed, "whoever comes after us finds what we made again"
    await kube.delete(CONFIG_MAPS, namespace, "settings")
    await settings(kube, namespace)
    assert (await patch.undo(change)).healed


async def test_what_others_wrote_since_it_was_looked_at_is_not_deleted(
    kube: Kube, namespace: str, patch: ObjectPatch
) -> None:
    """It would come back as it was then; of a lease, which is renewed all the time, that is fine."""
    change = await planned(patch, await settings(kube, namespace), {"deleted": {}})
    await kube.patch(CONFIG_MAPS, namespace, "settings", {"data": {"more": "2"}})
    with pytest.raises(Refused) as refused:
        await patch.apply(change)
    assert refused.value.reason == "ChangedMeanwhile"
    assert (await data(kube, namespace))["more"] == "2"
    body = await kube.create(LEASES, namespace, {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "a"}})
    lease = {**body, "apiVersion": LEASES.api_version, "kind": "Lease"}
    change = await planned(patch, lease, {"leaseDeleted": {}})
    await kube.patch(LEASES, namespace, "leader", {"spec": {"leaseTransitions": 1}})
    assert await patch.apply(change)
    assert await patch.read(change.key) is None


async def test_where_the_namespace_goes_nothing_is_put_right(kube: Kube, namespace: str, patch: ObjectPatch) -> None:
    """Its account's rights go with it, and so do the objects."""
    held = {"metadata": {"name": "held", "finalizers": ["example.com/held"]}}
    await kube.create(CONFIG_MAPS, namespace, held)
    change = await planned(patch, await settings(kube, namespace), {"deleted": {}})
    await patch.apply(change)
    await kube.delete(NAMESPACES, None, namespace)
    again = ObjectPatch(kube, Kinds(kube), "the account")  # whose rights may be gone before the namespace is
    try:
        assert (await again.undo(change)).gone
    finally:
        await kube.patch(CONFIG_MAPS, namespace, "held", {"metadata": {"finalizers": None}})


async def test_what_a_secret_holds_is_in_no_message(kube: Kube, namespace: str, patch: ObjectPatch) -> None:
    body = await kube.create(
        SECRETS, namespace, {"metadata": {"name": "login"}, "stringData": {"password": "hush-4711"}}
    )
    wrong = {"fieldChanged": {"path": "/data/password", "value": "not base64: hush-4712"}}
    with pytest.raises((Refused, KubeError)) as refused:
        await planned(patch, {**body, "kind": "Secret"}, wrong)
    assert "hush" not in f"{refused.value!r} {refused.value}"


HELD = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "patch"]}
NOT_HELD = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["update"]}
"""What the account has itself, and what it has not."""
RIGHTS = {"Role": Resource(RBAC, "roles"), "RoleBinding": Resource(RBAC, "rolebindings")}
EMPTIED = {"fieldChanged": {"path": "/rules", "value": [HELD]}}


@pytest.mark.parametrize(
    ("kind", "fault"),
    [("Role", {"deleted": {}}), ("Role", EMPTIED), ("RoleBinding", {"deleted": {}})],
    ids=["a Role deleted", "a rule of a Role", "a RoleBinding deleted"],
)
async def test_rights_that_could_be_taken_but_not_given_back_are_not_taken(
    kube: Kube, home: str, namespace: str, patch: ObjectPatch, kind: str, fault: Json
) -> None:
    """RBAC's escalation check: whoever may delete a Role, or shorten it, may not make one with rights beyond theirs."""
    acting = kube.acting_as(namespace, ACCOUNT)
    roles, bindings = RIGHTS["Role"], RIGHTS["RoleBinding"]
    reader = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}
    await kube.create(roles, namespace, {"metadata": {"name": "reader"}, "rules": [HELD, NOT_HELD]})
    await kube.create(bindings, namespace, {"metadata": {"name": "reader"}, "roleRef": reader, "subjects": [user]})
    made = await kube.get(RIGHTS[kind], namespace, "reader")
    if "deleted" in fault:
        await acting.delete(RIGHTS[kind], namespace, "reader", dry_run=True)
    else:
        await acting.patch(RIGHTS[kind], namespace, "reader", {"rules": [HELD]}, dry_run=True)

    spec = FaultExperimentSpec.model_validate(
        {
            "targets": [{"name": "it", "objects": {"apiVersion": RBAC, "kind": kind, "names": ["reader"]}}],
            "faults": [{"name": "taken", "target": "it", "objectFault": fault}],
            "checks": [{"name": "healthy"}],
        }
    )
    settings = Settings.from_environment({"BOUNCEBACK_NAMESPACE": home, "BOUNCEBACK_SERVICE_ACCOUNT": OPERATOR})
    preparing = PreparingObjects(kube, settings, namespace, "run-1", spec)
    await preparing.needs()
    with pytest.raises(Refused) as refused:
        await preparing.chosen("spec.faults[0]", spec.faults[0])
    assert (refused.value.field, refused.value.reason) == ("spec.serviceAccountName", "Forbidden")
    assert f"{kind} reader anew, to put it back" in refused.value.message
    assert "attempting to grant RBAC permissions not currently held" in refused.value.message
    assert "escalate" in refused.value.message
    assert await kube.get(RIGHTS[kind], namespace, "reader") == made, "nothing was touched"

    # With the right to give them, the same is done and undone.
    more = [NOT_HELD]
    ours = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace}
    await kube.create(roles, namespace, {"metadata": {"name": "more"}, "rules": more})
    both = {"roleRef": {**reader, "name": "more"}, "subjects": [ours]}
    await kube.create(bindings, namespace, {"metadata": {"name": "more"}, **both})
    (change,) = (await chosen(preparing, spec))[0].changes
    assert await patch.apply(change)
    assert not (await patch.undo(change)).healed
    now = await kube.get(RIGHTS[kind], namespace, "reader")
    assert {key: now[key] for key in ("rules", "roleRef", "subjects") if key in now} == {
        key: made[key] for key in ("rules", "roleRef", "subjects") if key in made
    }


async def chosen(preparing: PreparingObjects, spec: FaultExperimentSpec) -> list[Chosen]:
    """Once the API server's authorizer knows of new rights, which takes it a moment."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await preparing.chosen("spec.faults[0]", spec.faults[0])
            except Refused:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("targets", "fault", "field", "reason"),
    [
        (
            {"apiVersion": "v1", "kind": "Node", "names": ["x"]},
            {"frozen": {"paths": ["/spec"]}},
            "kind",
            "ClusterScoped",
        ),
        ({"apiVersion": "v1", "kind": "Nothing", "names": ["x"]}, MODE, "kind", "KindUnknown"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "names": ["none"]}, MODE, "names[0]", "NoTargets"),
        (
            {"apiVersion": "v1", "kind": "ConfigMap", "selector": {"matchLabels": {"a": "b"}}},
            MODE,
            "selector",
            "NoTargets",
        ),
        (
            {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "names": ["bounceback-experiments"]},
            {"deleted": {}},
            "",
            "OwnRights",
        ),
        (
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "names": ["bounceback-impersonation"],
            },
            {"deleted": {}},
            "",
            "OwnRights",
        ),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_touched(
    kube: Kube, home: str, namespace: str, patch: ObjectPatch, targets: Json, fault: Json, field: str, reason: str
) -> None:
    spec = FaultExperimentSpec.model_validate(
        {
            "targets": [{"name": "it", "objects": targets}],
            "faults": [{"name": "changed", "target": "it", "objectFault": fault}],
            "checks": [{"name": "healthy"}],
        }
    )
    settings = Settings.from_environment({"BOUNCEBACK_NAMESPACE": home, "BOUNCEBACK_SERVICE_ACCOUNT": OPERATOR})
    preparing = PreparingObjects(kube, settings, namespace, "run-1", spec)
    async with asyncio.timeout(60):
        while True:
            with pytest.raises(Refused) as refused:
                await preparing.needs()
                await preparing.chosen("spec.faults[0]", spec.faults[0])
            if refused.value.reason != "Forbidden":  # the API server's authorizer knows of the account's rights
                break
            await asyncio.sleep(0.1)
    assert (refused.value.reason, refused.value.field) == (reason, f"spec.targets[0].objects.{field}".rstrip("."))
