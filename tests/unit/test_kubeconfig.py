"""Paths in a kubeconfig are relative to it, as for client-go (clientcmd.ResolveLocalPaths), wherever we are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bounceback.cli import kubeconfig


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ({"tokenFile": "token"}, {"tokenFile": "{}/token"}),
        ({"tokenFile": "/run/token"}, {"tokenFile": "/run/token"}),
        ({"exec": {"command": "./bin/plugin"}}, {"exec": {"command": "{}/bin/plugin"}}),
        ({"exec": {"command": "plugin"}}, {"exec": {"command": "plugin"}}),
    ],
)
def test_paths_are_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any], wanted: dict[str, Any]
) -> None:
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    found = kubeconfig.load("config", None).doc["users"][0]["user"]
    assert found == yaml.safe_load(yaml.safe_dump(wanted).replace("{}", str(tmp_path)))


def test_in_a_pod_the_token_is_the_file_that_the_kubelet_refreshes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("token", "ca.crt", "namespace"):
        (tmp_path / name).write_text(f"the {name}", encoding="utf-8")
    monkeypatch.setattr(kubeconfig, "ACCOUNT", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    found = kubeconfig.load(None, None)
    assert found.doc["users"] == [{"name": "self", "user": {"tokenFile": str(tmp_path / "token")}}]
    assert found.user["tokenFile"] == str(tmp_path / "token")
    assert "the token" not in str(found.doc)
