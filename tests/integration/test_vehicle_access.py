"""What the account may do is asked before anything is touched, and the answer tells the way out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml

from bounceback.kube import Kube, Resource
from bounceback.kube.resources import SERVICE_ACCOUNTS
from bounceback.vehicles.access import (
    AGENT_NEEDS,
    DELETE_NEEDS,
    PEER_NEEDS,
    access_manifest,
    check_access,
)
from bounceback.vehicles.errors import Refused
from tests.conftest import ACCOUNT, KINDS, OPERATOR, RBAC, apply, until_known

ALL = AGENT_NEEDS | DELETE_NEEDS | PEER_NEEDS


async def test_what_the_manifest_grants_is_enough(acting: Kube, namespace: str) -> None:
    await check_access(acting, namespace, ACCOUNT, needs=ALL)


async def test_an_account_without_rights_is_told_which(kube: Kube, namespace: str) -> None:
    await kube.create(SERVICE_ACCOUNTS, namespace, {"metadata": {"name": "poor"}})
    with pytest.raises(Refused) as refused:
        await check_access(kube.acting_as(namespace, "poor"), namespace, "poor", needs=DELETE_NEEDS)
    assert refused.value.field == "spec.serviceAccountName"
    assert refused.value.reason == "Forbidden"
    assert "poor" in refused.value.message
    assert "delete pods, get pods, list pods, watch pods" in refused.value.message
    assert f"bounceback access {namespace} --account poor | kubectl apply -f -" in refused.value.message


async def test_an_account_that_is_not_there_is_named(kube: Kube, namespace: str) -> None:
    await kube.delete(SERVICE_ACCOUNTS, namespace, ACCOUNT)
    with pytest.raises(Refused) as refused:
        await check_access(kube.acting_as(namespace, ACCOUNT), namespace, ACCOUNT, needs=ALL)
    assert refused.value.reason == "AccountNotFound"
    assert f"service account {ACCOUNT} does not exist in namespace {namespace}" in refused.value.message


async def test_an_operator_that_may_not_speak_for_the_account_says_so(
    kubeconfig: str, kube: Kube, namespace: str, home: str, tmp_path: Path
) -> None:
    async with Kube.connected(await _as_operator(kubeconfig, kube, home, tmp_path)) as operator:
        await check_access(operator.acting_as(namespace, ACCOUNT), namespace, ACCOUNT, needs=ALL)
        await kube.delete(Resource(RBAC, "rolebindings"), namespace, "bounceback-impersonation")
        async with asyncio.timeout(60):
            while True:  # the authorizer learns of it by a watch
                try:
                    await check_access(operator.acting_as(namespace, ACCOUNT), namespace, ACCOUNT, needs=ALL)
                except Refused as refused:
                    assert refused.reason == "Forbidden"
                    assert f"the operator may not act as service account {ACCOUNT}" in refused.message
                    assert f"bounceback access {namespace}" in refused.message
                    break
                await asyncio.sleep(0.1)


async def test_the_manifest_can_be_applied_again_and_stays_in_its_namespace(kube: Kube, namespace: str) -> None:
    manifest = access_manifest(namespace, "other", "bounceback-system", OPERATOR)
    await apply(kube, manifest)
    await apply(kube, manifest)
    assert {item["kind"] for item in manifest} == set(KINDS)
    assert {item["metadata"]["namespace"] for item in manifest} == {namespace}
    other = kube.acting_as(namespace, "other")
    await until_known(other, namespace)
    await check_access(other, namespace, "other", needs=ALL)


async def _as_operator(kubeconfig: str, kube: Kube, home: str, folder: Path) -> str:
    """A kubeconfig with nothing but the token of a service account without any rights of its own."""
    await kube.create(SERVICE_ACCOUNTS, home, {"metadata": {"name": OPERATOR}})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}}
    token = (await kube.create(SERVICE_ACCOUNTS, home, body, name=OPERATOR, subresource="token"))["status"]["token"]
    config = yaml.safe_load(Path(kubeconfig).read_text())  # noqa: ASYNC240 - a small local file
    for user in config["users"]:
        user["user"] = {"token": token}
    path = folder / "operator.kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return str(path)
