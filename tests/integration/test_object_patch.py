"""Objects are changed and put right at a real API server: once, exactly, and never over what others wrote."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.controller.prepare_objects import PreparingObjects
from bounceback.controller.settings import Settings
from bounceback.faults import ObjectFault
from bounceback.kube import Kube, KubeError
from bounceback.kube.client import Json
from bounceback.kube.kinds import Kinds
from bounceback.kube.resources import CONFIG_MAPS, NAMESPACES, SECRETS
from bounceback.types.objects import Change
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.object_patch import ObjectPatch
from tests.conftest import ACCOUNT, OPERATOR, apply

OBJECTS = ["configmaps", "secrets", "roles.rbac.authorization.k8s.io", "rolebindings.rbac.authorization.k8s.io"]
MODE = {"fieldChanged": {"path": "/data/mode", "value": "broken"}}


@pytest.fixture
async def patch(kube: Kube, home: str, namespace: str) -> ObjectPatch:
    """As the account, which may change what is listed above."""
    await apply(kube, access_manifest(namespace, ACCOUNT, home, OPERATOR, objects=OBJECTS))
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
    assert (await patch.undo(change)).healed


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
    with pytest.raises(Refused) as refused:
        await preparing.needs()
        await preparing.chosen("spec.faults[0]", spec.faults[0])
    assert (refused.value.reason, refused.value.field) == (reason, f"spec.targets[0].objects.{field}".rstrip("."))
