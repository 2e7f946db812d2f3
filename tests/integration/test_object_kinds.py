"""Each kind of objectFault on an object of a real API server: done, others change something, undone. No controller is
waited for but the one that counts a quota."""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from bounceback.engine import restoring
from bounceback.engine.restoring import Patch
from bounceback.faults.object_fault import FIELDS, ObjectFault
from bounceback.kube import Kube, KubeError, Resource
from bounceback.kube.client import JSON_PATCH
from bounceback.kube.kinds import Kinds
from bounceback.types.objects import Change, Json, ObjectKey
from bounceback.vehicles.object_patch import ObjectPatch, Undone
from tests.commands import Commands

RUN = "0b5c1c1e-0000-4000-8000-000000000000"
CRDS = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", namespaced=False)
WEBHOOKS = Resource("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", namespaced=False)
GROUP = f"bb-{secrets.token_hex(4)}.example.com"
THINGS = Resource(f"{GROUP}/v1", "things")
CONFIG_MAP = ("v1", "ConfigMap")
CONTAINER = {"name": "app", "image": "registry.invalid/app:1", "resources": {"requests": {"cpu": "100m"}}}
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [CONTAINER]}}
SELECTOR = {"matchLabels": {"app": "web"}}
DEPLOYMENT = {"replicas": 2, "paused": True, "selector": SELECTOR, "template": TEMPLATE}
MARKED: Json = {"metadata": {"annotations": {"others": "were-here"}}}
LEASE = {"holderIdentity": "web-1", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"}


@dataclass(frozen=True)
class Played:
    """One kind on one object: what it is, and what others change of it meanwhile."""

    fault: Json
    api_version: str
    kind: str
    fields: Json
    theirs: Json = field(default_factory=lambda: MARKED)

    def __str__(self) -> str:
        return f"{next(iter(self.fault))} of a {self.kind}"


def config(**fields: Any) -> tuple[str, str, Json]:
    return (*CONFIG_MAP, fields)


DEPLOYED = ("apps/v1", "Deployment", {"spec": DEPLOYMENT})
BINDING = (
    "rbac.authorization.k8s.io/v1",
    "RoleBinding",
    {
        "subjects": [
            {"kind": "ServiceAccount", "name": "web", "namespace": "shop"},
            {"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"},
        ],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "none"},
    },
)
SERVICE = ("v1", "Service", {"spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}})
THING = (f"{GROUP}/v1", "Thing", {"spec": {"size": 3, "mode": {"fast": True}}})
SIDE_CAR = {"name": "log", "image": "registry.invalid/log:1"}
PLAYED = [
    Played({"scaledToZero": {}}, *DEPLOYED, {"spec": {"minReadySeconds": 3}}),
    Played({"crashLoop": {}}, *DEPLOYED, {"spec": {"template": {"metadata": {"labels": {"more": "yes"}}}}}),
    Played({"badImage": {}}, *DEPLOYED, {"spec": {"replicas": 5}}),
    Played({"fieldChanged": {"path": "/spec/size", "value": 4}}, *THING, {"spec": {"mode": {"slow": 1}}}),
    Played({"fieldChanged": {"path": "/spec/mode/loud", "value": {"a": [1]}}}, *THING, {"spec": {"size": 9}}),
    Played(
        {"fieldChanged": {"path": "/spec/template/spec/containers/0/resources/requests/cpu", "value": "1000m"}},
        *DEPLOYED,
    ),
    Played({"fieldRemoved": {"path": "/spec/mode"}}, *THING),
    Played({"dataDrift": {"set": {"a": "x"}, "remove": ["b"]}}, *config(data={"a": "1", "b": "2"}),
           {"data": {"c": "3"}}),
    Played({"dataDrift": {"remove": ["a"]}}, *config(data={"a": "1"})),
    Played({"dataDrift": {"set": {"p": "wrong"}}}, "v1", "Secret", {"data": {"p": "c2VjcmV0", "q": ""}},
           {"data": {"q": "eA=="}}),
    Played({"labelsChanged": {"set": {"app": "x", "new": "y"}}}, *config(), {"metadata": {"labels": {"theirs": "1"}}}),
    Played({"labelsChanged": {"remove": ["app"]}}, *config()),
    Played({"ownerReferencesRemoved": {}}, *config()),
    Played({"stuckFinalizer": {}}, *config()),
    Played({"blockingBudget": {}}, "policy/v1", "PodDisruptionBudget",
           {"spec": {"minAvailable": 1, "selector": SELECTOR}}),
    Played({"quotaExhausted": {}}, "v1", "ResourceQuota", {"spec": {"hard": {"pods": "9", "services": "9"}}}),
    Played({"subjectsCleared": {}}, *BINDING),
    Played({"subjectsCleared": {"names": ["ann"]}}, *BINDING),
    Played({"serviceDown": {}}, *SERVICE, {"spec": {"publishNotReadyAddresses": True}}),
    Played({"leaseTaken": {}}, "coordination.k8s.io/v1", "Lease", {"spec": LEASE}),
    Played({"webhookFailurePolicyChanged": {"failurePolicy": "Fail"}}, WEBHOOKS.api_version,
           "ValidatingWebhookConfiguration", {}),
]  # fmt: skip
MADE = [
    Played({"blockingBudget": {}}, *DEPLOYED),
    Played({"quotaExhausted": {"resources": ["count/jobs.batch"]}}, *DEPLOYED),
    Played({"denyAllTraffic": {}}, *SERVICE),
]
DELETED = [
    Played({"deleted": {}}, "v1", "Secret", {"data": {"p": "c2VjcmV0"}, "type": "example.com/kept"}),
    Played({"deleted": {}}, *SERVICE),
    Played({"deleted": {"dependents": "Keep"}}, *DEPLOYED),
    Played({"deleted": {}}, *BINDING),
    Played({"deleted": {}}, *THING),
    Played({"leaseDeleted": {}}, "coordination.k8s.io/v1", "Lease", {"spec": LEASE}),
]


@pytest.fixture(scope="module")
def shop(commands: Commands) -> Iterator[str]:
    """A namespace, and a kind of objects that only this module knows."""
    text = json.dumps(thing_definition())
    with commands.namespace("bb-test") as name:
        commands.kubectl("create", "-f", "-", stdin=text)
        try:
            commands.kubectl("wait", "crd", f"things.{GROUP}", "--for=condition=Established", "--timeout=60s")
            yield name
        finally:
            commands.kubectl("delete", "crd", f"things.{GROUP}")


def thing_definition() -> Json:
    mode = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    spec = {"type": "object", "properties": {"size": {"type": "integer"}, "mode": mode}}
    schema = {"type": "object", "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": CRDS.api_version,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }


class Hands(ObjectPatch):
    """What the operator does to objects, and what others do to them meanwhile."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        super().__init__(kube, Kinds(kube), "the account")
        self.kube = kube
        self.namespace = namespace
        self.elsewhere: list[str] = []  # what is not in the namespace, and does not go with it

    async def made(self, played: Played) -> Json:
        """The object that it is played on, as the API server has it."""
        of_namespace = played.api_version != WEBHOOKS.api_version
        resource = await self._kinds.resource(played.api_version, played.kind, namespaced=of_namespace)
        namespace = self.namespace if resource.namespaced else None
        kind = {"apiVersion": played.api_version, "kind": played.kind}
        body = {**kind, "metadata": {"generateName": "it-", "labels": {"app": "web"}}, **copy.deepcopy(played.fields)}
        if "ownerReferencesRemoved" in played.fault:
            owner = await self.kube.create(resource, namespace, {"metadata": {"generateName": "owner-"}})
            named = {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
            body["metadata"]["ownerReferences"] = [{"apiVersion": "v1", "kind": "ConfigMap", **named}]
        if played.kind == "ValidatingWebhookConfiguration":
            body["webhooks"] = [webhook()]
        named = await self.kube.create(resource, namespace, body)
        key = ObjectKey(played.api_version, played.kind, namespace or "", named["metadata"]["name"])
        self.elsewhere += [] if namespace else [key.name]
        return await self.here(key, counted=played.kind == "ResourceQuota")

    async def here(self, key: ObjectKey, *, counted: bool = False) -> Json:
        """As a target is handed to a fault; `counted`: once its controller has said what is used."""
        async with asyncio.timeout(60):
            while True:
                body = await self.read(key)
                assert body is not None
                if not counted or (body.get("status") or {}).get("used"):
                    return {"apiVersion": key.api_version, "kind": key.kind, **body}
                await asyncio.sleep(0.1)

    async def others(self, key: ObjectKey, change: Json) -> Json:
        return await self.kube.patch(await self.resource(key), key.namespace or None, key.name, change)

    async def done(self, fault: Json, target: Json) -> Change:
        """The change, tried and made as the operator does it."""
        change = Change.from_json(copy.deepcopy((await self.planned(fault, target)).to_json()))
        assert await self.apply(change)
        return change

    async def planned(self, fault: Json, target: Json) -> Change:
        """Once more where a controller wrote the target's status meanwhile."""
        while True:
            try:
                (planned,) = ObjectFault.model_validate(fault).changes(target, RUN, "bounceback")
                return await self.rehearse(planned)
            except KubeError as error:
                if not error.conflict:
                    raise
                target = await self.here(ObjectKey.of(target))

    async def gone(self, key: ObjectKey) -> None:
        """Whose dependents are to be kept waits until they are let go."""
        async with asyncio.timeout(60):
            while await self.read(key) is not None:
                await asyncio.sleep(0.1)


@pytest.fixture
async def hands(kube: Kube, shop: str) -> AsyncIterator[Hands]:
    hands = Hands(kube, shop)
    yield hands
    for name in hands.elsewhere:
        await kube.delete(WEBHOOKS, None, name)


def webhook() -> Json:
    """One that is asked about nothing."""
    return {
        "name": "nobody.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/"},
        "failurePolicy": "Ignore",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [{"apiGroups": [GROUP], "apiVersions": ["v1"], "resources": ["nothing"], "operations": ["CREATE"]}],
    }


def ours(body: Json) -> Json:
    metadata = {key: value for key, value in body["metadata"].items() if key not in restoring.OWNED_METADATA}
    return {**{key: value for key, value in body.items() if key not in restoring.OWNED}, "metadata": metadata}


def with_theirs(body: Json, theirs: Json) -> Json:
    """RFC 7386, for what is used here: nothing is removed."""
    merged = dict(body)
    for key, value in theirs.items():
        merged[key] = with_theirs(merged.get(key) or {}, value) if isinstance(value, dict) else value
    return merged


def test_every_kind_is_played() -> None:
    assert {next(iter(each.fault)) for each in (*PLAYED, *MADE, *DELETED)} | {"frozen"} == set(FIELDS)


@pytest.mark.parametrize("played", PLAYED, ids=str)
async def test_a_change_is_taken_back_and_what_others_changed_stays(hands: Hands, played: Played) -> None:
    before = await hands.made(played)
    change = await hands.done(played.fault, before)
    assert restoring.in_force(change, await hands.read(change.key))
    assert await hands.apply(change), "done twice is done once"
    await hands.others(change.key, played.theirs)
    if change.kept is not None:
        assert await hands.hold(change, await hands.here(change.key))
    undone = await hands.undo(change)
    assert undone == Undone()
    assert ours(await hands.here(change.key)) == with_theirs(ours(before), played.theirs)
    assert await hands.undo(change) == Undone(healed=change.kept is None), "and then there is nothing to do"


@pytest.mark.parametrize("played", MADE, ids=str)
async def test_what_is_made_beside_a_target_goes_again(hands: Hands, played: Played) -> None:
    change = await hands.done(played.fault, await hands.made(played))
    made = await hands.here(change.key)
    await hands.others(change.key, MARKED)
    assert await hands.apply(change), "done twice is done once"
    assert await hands.undo(change) == Undone()
    assert await hands.read(change.key) in (None, {**made, **(await hands.read(change.key) or {})})
    assert restoring.healed(change, None) and not restoring.healed(change, made)


@pytest.mark.parametrize("played", DELETED, ids=str)
async def test_what_is_deleted_is_made_again_as_it_was(hands: Hands, played: Played) -> None:
    before = await hands.made(played)
    change = await hands.done(played.fault, before)
    await hands.gone(change.key)
    assert await hands.undo(change) == Undone()
    after = await hands.here(change.key)
    assert ours(after) == ours(before)
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert await hands.undo(change) == Undone(), "it was our undo that made it again, and then there is nothing to do"


async def test_what_others_make_again_is_theirs(hands: Hands) -> None:
    change = await hands.done({"deleted": {}}, await hands.made(Played({}, *config(data={"a": "1"}))))
    again = {"metadata": {"name": change.key.name}, "data": {"a": "2"}}
    await hands.kube.create(await hands.resource(change.key), hands.namespace, again)
    assert restoring.healed(change, await hands.read(change.key))
    assert await hands.undo(change) == Undone(healed=True)
    assert (await hands.here(change.key))["data"] == {"a": "2"}


async def test_who_puts_it_right_before_us_has_healed_it(hands: Hands) -> None:
    change = await hands.done({"scaledToZero": {}}, await hands.made(Played({}, *DEPLOYED)))
    assert not restoring.healed(change, await hands.read(change.key))
    await hands.others(change.key, {"spec": {"replicas": 2}})
    assert restoring.healed(change, await hands.read(change.key))
    assert await hands.undo(change) == Undone(healed=True)
    await hands.others(change.key, {"spec": {"replicas": 7}})
    assert await hands.undo(change) == Undone(healed=True, left_alone=("/spec/replicas",))


async def test_what_is_frozen_is_set_back_and_then_free(hands: Hands) -> None:
    change = await hands.done({"frozen": {"paths": ["/data"]}}, await hands.made(Played({}, *config(data={"a": "1"}))))
    assert not await hands.hold(change, await hands.here(change.key)), "nobody changed it"
    await hands.others(change.key, {"data": {"a": "2", "b": "3"}, **MARKED})
    assert await hands.hold(change, await hands.here(change.key))
    now = await hands.here(change.key)
    assert (now["data"], now["metadata"]["annotations"]) == ({"a": "1"}, {"others": "were-here"})
    await hands.others(change.key, {"data": None})
    assert await hands.hold(change, await hands.here(change.key))
    await hands.others(change.key, {"data": {"a": "4"}})
    assert await hands.undo(change) == Undone()
    assert (await hands.here(change.key))["data"] == {"a": "4"}


async def test_a_lease_that_is_taken_stays_taken(hands: Hands) -> None:
    before = await hands.made(Played({}, "coordination.k8s.io/v1", "Lease", {"spec": LEASE}))
    change = await hands.done({"leaseTaken": {"holder": "mallory"}}, before)
    assert await hands.hold(change, await hands.here(change.key)), "it is renewed: its time was long ago"
    renewed = (await hands.here(change.key))["spec"]
    assert (renewed["holderIdentity"], renewed["leaseTransitions"]) == ("mallory", 1)
    assert renewed["renewTime"] > "2026-01-01T00:00:01"
    await hands.others(change.key, {"spec": {"holderIdentity": "web-2", "leaseTransitions": 2}})
    assert await hands.hold(change, await hands.here(change.key))
    assert (await hands.here(change.key))["spec"]["holderIdentity"] == "mallory"
    assert await hands.undo(change) == Undone()
    assert ours(await hands.here(change.key)) == ours(before)


async def test_who_wins_the_election_after_us_keeps_the_lease(hands: Hands) -> None:
    before = await hands.made(Played({}, "coordination.k8s.io/v1", "Lease", {"spec": LEASE}))
    change = await hands.done({"leaseTaken": {}}, before)
    won = {**LEASE, "holderIdentity": "web-2", "leaseTransitions": 1}
    await hands.others(change.key, {"spec": won})
    assert (await hands.undo(change)).left_alone == ("/spec",)
    assert (await hands.here(change.key))["spec"] == won


async def test_with_a_stuck_finalizer_a_deletion_waits_for_the_undo(hands: Hands) -> None:
    change = await hands.done({"stuckFinalizer": {}}, await hands.made(Played({}, *config())))
    await hands.kube.delete(await hands.resource(change.key), hands.namespace, change.key.name)
    assert (await hands.here(change.key))["metadata"]["deletionTimestamp"]
    await hands.undo(change)
    assert await hands.read(change.key) is None


async def test_a_patch_that_was_overtaken_is_refused_with_a_conflict(hands: Hands) -> None:
    change = await hands.done(
        {"dataDrift": {"set": {"a": "2"}}}, await hands.made(Played({}, *config(data={"a": "1"})))
    )
    late = restoring.undo(change, await hands.read(change.key))
    assert isinstance(late, Patch)
    await hands.others(change.key, {"data": {"a": "3"}})
    resource = await hands.resource(change.key)
    with pytest.raises(KubeError) as refused:
        await hands.kube.patch(resource, hands.namespace, change.key.name, list(late.ops), content_type=JSON_PATCH)
    assert refused.value.conflict
    assert (await hands.undo(change)).left_alone == ("/data/a",)
    assert (await hands.here(change.key))["data"] == {"a": "3"}


async def test_what_the_schema_does_not_know_is_refused_before_anything_is_touched(hands: Hands) -> None:
    target = await hands.made(Played({}, *THING))
    (change,) = ObjectFault.model_validate({"fieldChanged": {"path": "/spec/colour", "value": "red"}}).changes(
        target, RUN
    )
    with pytest.raises(ValueError, match="would not have /spec/colour of Thing"):
        await hands.rehearse(change)
    assert await hands.here(change.key) == target
