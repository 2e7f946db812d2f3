from __future__ import annotations

from typing import Any

import pytest

from bounceback.vehicles.access import AGENT_NEEDS, DELETE_NEEDS, PEER_NEEDS, access_manifest, missing


def rule(groups: list[str], resources: list[str], verbs: list[str], **more: Any) -> dict[str, Any]:
    return {"apiGroups": groups, "resources": resources, "verbs": verbs, **more}


@pytest.mark.parametrize(
    ("rules", "need", "covered"),
    [
        ([rule([""], ["pods"], ["list"])], "list pods", True),
        ([rule([""], ["pods"], ["list"])], "list pods/log", False),
        ([rule([""], ["pods"], ["list"])], "watch pods", False),
        ([rule(["*"], ["*"], ["*"])], "create pods/exec", True),
        ([rule([""], ["*/exec"], ["create"])], "create pods/exec", True),
        ([rule([""], ["pods/exec"], ["create"], resourceNames=["web-0"])], "create pods/exec", False),
        ([rule(["apps"], ["deployments"], ["get"])], "get deployments.apps", True),
        ([rule([""], ["deployments"], ["get"])], "get deployments.apps", False),
        ([rule(["discovery.k8s.io"], ["endpointslices"], ["*"])], "list endpointslices.discovery.k8s.io", True),
        ([], "list pods", False),
    ],
)
def test_rules_cover_needs_as_the_authorizer_reads_them(rules: list[Any], need: str, covered: bool) -> None:
    assert missing(rules, [need]) == ([] if covered else [need])


def test_the_manifest_grants_all_that_is_ever_needed_and_no_more_to_the_operator() -> None:
    manifest = access_manifest("shop", "bounceback", "bounceback-system", "bounceback")
    account, experiments, bound, impersonation, speaker, evidence, keeper = manifest
    assert missing(experiments["rules"], AGENT_NEEDS | DELETE_NEEDS | PEER_NEEDS) == []
    assert bound["subjects"] == [{"kind": "ServiceAccount", "name": "bounceback", "namespace": "shop"}]
    assert impersonation["rules"] == [
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"], "resourceNames": ["bounceback"]}
    ]
    assert speaker["subjects"][0]["namespace"] == "bounceback-system"
    assert evidence["rules"] == [rule([""], ["configmaps"], ["create", "get", "list", "delete"])]
    assert keeper["subjects"] == speaker["subjects"], "the account of experiments cannot forge evidence"
    assert account["automountServiceAccountToken"] is False


def test_only_the_authorities_that_are_named_may_be_read() -> None:
    def of_secrets(*authorities: str) -> list[Any]:
        manifest = access_manifest("shop", "bounceback", "bounceback-system", "bounceback", authorities)
        return [r for part in manifest for r in part.get("rules", ()) if "secrets" in r["resources"]]

    assert of_secrets() == []
    assert of_secrets("shop-ca") == [rule([""], ["secrets"], ["get"], resourceNames=["shop-ca"])]


def test_the_accounts_of_one_namespace_do_not_overwrite_each_other() -> None:
    names = [
        {(item["kind"], item["metadata"]["name"]) for item in access_manifest("shop", account, "system", "operator")}
        for account in ("bounceback", "other")
    ]
    assert not names[0] & names[1]
