"""The sample system `tenanted`: what its keeper keeps in another namespace, and what it may do there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import keeper
from examples.systems import render_tenanted
from examples.systems.render_tenanted import TENANT

WANTED = render_tenanted.wanted("python:3.13-slim")


class Recorded:
    """A connection to an API server that does whatever is asked."""

    status = 200

    def __init__(self, asked: list[str], *_: Any, **__: Any) -> None:
        self._asked = asked

    def request(self, method: str, path: str, *_: Any) -> None:
        self._asked.append(f"{method} {path.partition('?')[0]}")

    def getresponse(self) -> Recorded:
        return self

    def read(self) -> bytes:
        return b"{}"

    def close(self) -> None:
        """Nothing was opened."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a keeper in the namespace shop asks of the API server."""
    told: list[str] = []
    (tmp_path / "namespace").write_text("shop")
    (tmp_path / "token").write_text("secret")
    monkeypatch.setattr(keeper, "ACCOUNT", tmp_path)
    monkeypatch.setattr("ssl.create_default_context", lambda **_: None)
    monkeypatch.setattr("http.client.HTTPSConnection", lambda *a, **k: Recorded(told, *a, **k))
    for name in ("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.setenv(name, "1")
    return told


def test_what_names_a_namespace_is_kept_there_and_the_rest_at_home(asked: list[str]) -> None:
    api = keeper.Api()
    for body in WANTED:
        api.apply(body)
    api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "release"}})
    api.get("Lease", "keeper")
    assert asked == [
        f"PATCH /api/v1/namespaces/{TENANT}",
        f"PATCH /api/v1/namespaces/{TENANT}/configmaps/plan",
        f"PATCH /api/v1/namespaces/{TENANT}/secrets/password",
        f"PATCH /apis/apps/v1/namespaces/{TENANT}/deployments/web",
        f"PATCH /api/v1/namespaces/{TENANT}/services/web",
        "PATCH /api/v1/namespaces/shop/configmaps/release",
        "GET /apis/coordination.k8s.io/v1/namespaces/shop/leases/keeper",
    ]


def test_the_keeper_may_apply_what_it_keeps_and_nothing_else_beyond_its_namespace() -> None:
    system = render_tenanted.system("", "python:3.13-slim")
    (role,) = (body for body in system if body["kind"] == "ClusterRole")
    allowed = {(r["apiGroups"][0], r["resources"][0], name) for r in role["rules"] for name in r["resourceNames"]}
    kept = {
        (
            body["apiVersion"].rpartition("/")[0],
            keeper.PLACES[body["kind"]].rpartition("/")[2],
            body["metadata"]["name"],
        )
        for body in WANTED
    }
    assert allowed == kept
    assert all(rule["verbs"] == ["create", "patch"] for rule in role["rules"])
