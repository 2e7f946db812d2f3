"""Webhook configurations: of the whole cluster, so only as a policy allows, and put right whatever becomes of us."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bounceback.kube import Kube, KubeError
from bounceback.kube.client import APPLY_PATCH, JSON_PATCH, Json
from bounceback.kube.resources import POLICIES, VALIDATING_WEBHOOKS
from bounceback.types.objects import ADMISSION
from bounceback.types.outcome import Phase
from bounceback.vehicles.cluster_access import cluster_access_manifest
from bounceback.vehicles.errors import FORBIDDEN
from tests.conftest import ACCOUNT
from tests.survival.operators import OperatorProcess
from tests.survival.runs import finished, held_no_more, reached, until
from tests.survival.test_nodes import OF_CLUSTER, forget
from tests.survival.test_objects import ACTS_AS, PATIENT, left_at_home, make_experiment, place

__all__ = ["place"]
KIND = "ValidatingWebhookConfiguration"
IGNORED: Json = {"webhookFailurePolicyChanged": {"failurePolicy": "Ignore"}}
NOBODYS: Json = {
    "name": "things.example.com",
    "admissionReviewVersions": ["v1"],
    "clientConfig": {"url": "https://127.0.0.1:1/"},
    "rules": [{"apiGroups": ["example.com"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["things"]}],
    "sideEffects": "None",
}


@pytest.fixture
async def webhook(kube: Kube) -> AsyncIterator[str]:
    """A configuration about which nobody is asked."""
    name = f"webhook-{secrets.token_hex(4)}"
    await kube.create(VALIDATING_WEBHOOKS, None, {"metadata": {"name": name}, "webhooks": [NOBODYS]})
    try:
        yield name
    finally:
        await kube.delete(VALIDATING_WEBHOOKS, None, name)


@pytest.fixture
async def granted(kube: Kube, place: str, webhook: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Grants the right to change it, when asked."""
    resource = f"{VALIDATING_WEBHOOKS.plural}.{ADMISSION.partition('/')[0]}"
    manifest = cluster_access_manifest(place, ACCOUNT, [(resource, webhook)])

    async def grant() -> None:
        for body in manifest:
            name = body["metadata"]["name"]
            await kube.patch(OF_CLUSTER[body["kind"]], None, name, body, content_type=APPLY_PATCH, force=True)

    yield grant
    for body in reversed(manifest):
        try:
            await kube.delete(OF_CLUSTER[body["kind"]], None, body["metadata"]["name"])
        except KubeError as error:
            if not error.gone:
                raise


async def allow(kube: Kube, namespace: str, webhook: str) -> str:
    allowed = {"kind": KIND, "names": [webhook], "faults": ["webhookFailurePolicyChanged"]}
    spec = {"experiments": {"namespaces": {"names": [namespace]}}, "allow": {"objects": [allowed]}}
    kinds = {"apiVersion": "bounceback.dev/v1alpha1", "kind": "FaultPolicy"}
    await kube.create(POLICIES, None, {**kinds, "metadata": {"name": webhook}, "spec": spec})
    return webhook


async def failure_policy(kube: Kube, webhook: str) -> str:
    (entry,) = (await kube.get(VALIDATING_WEBHOOKS, None, webhook))["webhooks"]
    return str(entry["failurePolicy"])


async def test_a_webhook_is_touched_only_as_a_policy_allows_and_put_right_without_an_operator(
    kube: Kube,
    home: str,
    place: str,
    webhook: str,
    granted: Callable[[], Awaitable[None]],
    make_operator: Callable[..., OperatorProcess],
) -> None:
    first = make_operator("operator-0", more=ACTS_AS)
    first.start()
    targets = {"apiVersion": ADMISSION, "kind": KIND, "names": [webhook]}

    async def aborted(name: str, reason: str, words: str) -> None:
        await make_experiment(kube, place, name, IGNORED, targets, 5)
        status = await finished(kube, place, name, PATIENT)
        assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", reason), status
        assert words in status["ending"]["message"] and not status.get("injections")
        await held_no_more(kube, place, name)

    await aborted("not-allowed", "NotAllowed", f"allows webhookFailurePolicyChanged on {KIND} {webhook}")
    policy = await allow(kube, place, webhook)
    try:
        await aborted("no-rights", FORBIDDEN, f"--cluster-objects {VALIDATING_WEBHOOKS.plural}.")
        await granted()
        theirs = {"service": {"name": "x", "namespace": home}}
        await change(kube, webhook, "replace", "/webhooks/0/clientConfig", theirs)
        await aborted("ours", "OwnRights", "it belongs to Bounceback")
        await change(kube, webhook, "replace", "/webhooks/0/clientConfig", NOBODYS["clientConfig"])

        await make_experiment(kube, place, "withdrawn", IGNORED, targets, 600)
        seen = await until(kube, place, "withdrawn", reached(Phase.ACTIVE), PATIENT)
        assert await failure_policy(kube, webhook) == "Ignore", seen["status"]
        await change(kube, webhook, "add", "/webhooks/0/timeoutSeconds", 3)
    finally:
        await forget(kube, policy)
    status = await finished(kube, place, "withdrawn", PATIENT)
    assert (status["verdict"], status["ending"]["reason"]) == ("Aborted", "NotAllowed"), status
    assert "what was allowed is withdrawn" in status["ending"]["message"]
    assert (status["axes"]["injection"], status["axes"]["cleanup"]) == ("Unproven", "Clean")
    (entry,) = (await kube.get(VALIDATING_WEBHOOKS, None, webhook))["webhooks"]
    assert (entry["failurePolicy"], entry["timeoutSeconds"]) == ("Fail", 3), "what others changed is theirs"
    await held_no_more(kube, place, "withdrawn")

    await allow(kube, place, webhook)
    try:
        await make_experiment(kube, place, "orphaned", IGNORED, targets, 15)
        await until(kube, place, "orphaned", reached(Phase.ACTIVE), PATIENT)
        first.kill()
        assert await failure_policy(kube, webhook) == "Ignore"
        began = time.monotonic()
        while await failure_policy(kube, webhook) == "Ignore":
            assert time.monotonic() - began < PATIENT, "nobody has put it right"
            await asyncio.sleep(0.2)
        make_operator("operator-0", more=ACTS_AS).start()
        status = await finished(kube, place, "orphaned", PATIENT)
    finally:
        await forget(kube, policy)
    (injection,) = status["injections"]
    assert (injection["reason"], injection["healed"]["by"]) == ("RolledBack", "Undo"), injection
    assert status["axes"]["cleanup"] == "Clean"
    await held_no_more(kube, place, "orphaned")
    async with asyncio.timeout(PATIENT):
        while await left_at_home(kube, home):
            await asyncio.sleep(0.2)


async def change(kube: Kube, webhook: str, op: str, path: str, value: object) -> None:
    ops = [{"op": op, "path": path, "value": value}]
    await kube.patch(VALIDATING_WEBHOOKS, None, webhook, ops, content_type=JSON_PATCH)
