"""The proxy before a cluster looks again at the files that its kubeconfig names."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from bounceback.cli.proxy_cluster import ClusterProxy
from bounceback.proxy.api.gate import Upstream
from bounceback.proxy.certificates import Authority


def written(file: Path, name: str) -> None:
    file.write_bytes(Authority.made(name).certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ClusterProxy, list[Upstream]]:
    """And where it went to since."""
    written(tmp_path / "ca.crt", "before")
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1", "certificate-authority": "ca.crt"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(document), encoding="utf-8")
    options = argparse.Namespace(
        kubeconfig=str(tmp_path / "config"),
        context=None,
        write_kubeconfig=str(tmp_path / "out"),
        api_listen="127.0.0.1:0",
        client=[],
    )
    made = ClusterProxy(options)
    went: list[Upstream] = []
    monkeypatch.setattr(made._gate, "go_to", lambda upstream, *, anew: went.append(upstream))
    return made, went


def test_an_authority_that_is_renewed_is_taken_up(proxy: tuple[ClusterProxy, list[Upstream]], tmp_path: Path) -> None:
    made, went = proxy
    made.look()
    assert went == []
    written(tmp_path / "ca.crt", "after")
    made.look()
    made.look()
    (upstream,) = went
    assert upstream.tls is not None
    (trusted,) = upstream.tls.get_ca_certs()
    assert "after" in str(trusted["subject"])


def test_one_that_is_none_is_told_and_the_one_before_stays(
    proxy: tuple[ClusterProxy, list[Upstream]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, went = proxy
    (tmp_path / "ca.crt").write_text("no certificate", encoding="utf-8")
    made.look()
    assert went == []
    assert "what was there before stays" in capsys.readouterr().err
