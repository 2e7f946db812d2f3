"""What is asked of kind and Docker, told by stand-ins for the two that write down how they were called."""

import os
from pathlib import Path

import pytest

from dev import nodes
from dev.progress import UnsupportedError
from dev.state import Cluster

STAND_IN = """#!/bin/sh
echo "$(basename $0) $*" >> "$CALLS"
case "$(basename $0) $1 $2" in
  "docker version --format") echo 27.0;;
  "kind get nodes") grep -q "create cluster" "$CALLS" && ! grep -q "delete cluster" "$CALLS" && echo one-control-plane;;
esac
true
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that has a line for each call; kind and Docker are there, and nothing else asks for another cluster."""
    for name in ("kind", "docker"):
        (tmp_path / name).write_text(STAND_IN)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("BOUNCEBACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BOUNCEBACK_USE_KUBECONFIG", raising=False)
    (tmp_path / "calls").touch()
    return tmp_path / "calls"


def test_kind_makes_the_cluster_once_and_removes_it(calls: Path) -> None:
    one = Cluster("one")
    assert nodes.up(one, "auto", 1, 0.0) == nodes.up(one, "auto", 1, 0.0)
    assert calls.read_text().count("kind create cluster --name=one") == 1
    nodes.down(one)
    assert "kind delete cluster --name=one" in calls.read_text()
    assert not one.folder.exists()


def test_a_node_of_kind_has_this_machines_kernel(calls: Path) -> None:
    with pytest.raises(UnsupportedError, match="another kernel"):
        nodes.up(Cluster("one"), "auto", 2, 0.0)
    assert "kind create" in calls.read_text()


def test_commands_and_switches_go_to_the_control_planes_container(calls: Path) -> None:
    one = Cluster("one")
    nodes.up(one, "auto", 1, 0.0)
    assert nodes.execute(one, "node-1", ["true"]) == 0
    nodes.switch(one, "node-1", "stop", "kubelet")
    asked = calls.read_text()
    assert "docker exec --interactive --env=KUBECONFIG=/etc/kubernetes/admin.conf one-control-plane true" in asked
    assert "docker exec one-control-plane systemctl stop kubelet" in asked
