"""With no fault nobody notices the API proxy: real clients of all kinds against a real API server through it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Commands, until
from tests.integration.through import (
    BUSYBOX,
    Through,
    config_map,
    counting,
    kubectl,
    made,
    said,
    shell,
    started,
    through,
)

pytestmark = pytest.mark.cluster
SERVED = "mkdir -p /tmp/w && echo hello > /tmp/w/index.html && exec httpd -f -p 8080 -h /tmp/w"
READING = "while read x; do echo got $x; done"


@pytest.fixture(scope="module")
def proxied(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Through]:
    with through(commands, tmp_path_factory.mktemp("proxy")) as running:
        yield running
        assert running.counters["answeredByUs"] == 0


@pytest.fixture(scope="module")
def place(commands: Commands) -> Iterator[str]:
    """A namespace with pods that talk, serve and listen."""
    with commands.namespace("bb-through") as name:
        served = shell("served", SERVED)
        reader = shell("reader", READING)
        reader["spec"]["containers"][0]["stdin"] = True
        made(commands, name, counting("talking"), served, reader)
        yield name


@pytest.fixture
def client(proxied: Through) -> Commands:
    return proxied.commands


def test_kubectl_applies_waits_and_deletes(client: Commands, place: str) -> None:
    client.apply(place, config_map("a", x="1"))
    client.apply(place, config_map("a", x="2"))
    assert client.get("configmap", "a", "-n", place)["data"] == {"x": "2"}
    client.kubectl(
        "patch", "configmap", "a", "-n", place, "--type=json", '-p=[{"op":"add","path":"/data/y","value":"3"}]'
    )
    client.kubectl("wait", "-n", place, "configmap/a", "--for=jsonpath={.data.y}=3", "--timeout=10s")
    client.kubectl(
        "apply", "--server-side", "--force-conflicts", "-n", place, "-f", "-", stdin=json.dumps(config_map("a", z="4"))
    )
    client.kubectl("delete", "configmap", "a", "-n", place)
    assert "NotFound" in client.ask("kubectl", "get", "configmap", "a", "-n", place).err


def test_a_deployment_rolls_and_is_waited_for(client: Commands, place: str) -> None:
    client.kubectl("create", "deployment", "rolling", "-n", place, f"--image={BUSYBOX}", "--", "sleep", "1000")
    client.kubectl("rollout", "status", "deployment/rolling", "-n", place, "--timeout=90s")
    client.kubectl("delete", "deployment", "rolling", "-n", place)


def test_a_watch_tells_what_happens(client: Commands, proxied: Through, place: str, tmp_path: Path) -> None:
    def told() -> set[tuple[str, str]]:
        rows = (line.split() for line in said(tmp_path, "watch").splitlines())
        return {(row[0], row[1]) for row in rows}

    watches = proxied.asked("watch", "configmaps")
    with started(
        kubectl(client, "get", "configmaps", "-n", place, "-w", "--output-watch-events"),
        tmp_path,
        "watch",
    ):
        until(lambda: proxied.asked("watch", "configmaps") > watches, "a watch")
        client.apply(place, config_map("seen"))
        client.kubectl("delete", "configmap", "seen", "-n", place)
        until(lambda: {("ADDED", "seen"), ("DELETED", "seen")} <= told(), "both events")


def test_logs_are_followed(client: Commands, place: str, tmp_path: Path) -> None:
    with started(kubectl(client, "logs", "-f", "talking", "-n", place), tmp_path, "logs"):
        until(lambda: "line 5\n" in said(tmp_path, "logs"), "its lines")
        now = said(tmp_path, "logs").count("\n")
        until(lambda: said(tmp_path, "logs").count("\n") > now + 5, "more of them")


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_exec_with_input_output_and_exit_code(client: Commands, place: str, websockets: str) -> None:
    """WebSocket and SPDY; a megabyte goes in and comes out."""
    data = "0123456789abcde\n" * 65536
    line = kubectl(client, "exec", "-i", "talking", "-n", place, "--", "sh", "-c", "cat; echo done >&2; exit 7")
    done = subprocess.run(line, input=data, text=True, capture_output=True, env=_remote(websockets), timeout=60)
    assert (done.returncode, done.stdout == data) == (7, True)
    assert done.stderr.startswith("done\n")


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_attach(client: Commands, place: str, tmp_path: Path, websockets: str) -> None:
    word = f"word-{websockets}"
    line = kubectl(client, "attach", "-i", "reader", "-n", place)
    with started(line, tmp_path, "attach", KUBECTL_REMOTE_COMMAND_WEBSOCKETS=websockets) as process:
        assert process.stdin is not None
        process.stdin.write(f"{word}\n")
        process.stdin.flush()
        until(lambda: f"got {word}" in said(tmp_path, "attach"), "the echo")


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_port_forward(client: Commands, place: str, tmp_path: Path, websockets: str) -> None:
    port = _free_port()
    line = kubectl(client, "port-forward", "pod/served", f"{port}:8080", "-n", place)
    with started(line, tmp_path, "forward", KUBECTL_PORT_FORWARD_WEBSOCKETS=websockets):
        until(lambda: "Forwarding from" in said(tmp_path, "forward"), "a port")
        for _ in range(5):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/index.html", timeout=20) as answer:
                assert answer.read() == b"hello\n"


@pytest.mark.parametrize("websockets", ["true", "false"])
def test_files_are_copied_both_ways(client: Commands, place: str, tmp_path: Path, websockets: str) -> None:
    """kubectl cp is exec of tar, which busybox has."""
    original, back = tmp_path / "original", tmp_path / "back"
    original.write_bytes(bytes(range(256)) * 8192)
    for line in (("cp", str(original), f"{place}/talking:/tmp/copy"), ("cp", f"{place}/talking:/tmp/copy", str(back))):
        done = subprocess.run(
            kubectl(client, *line), capture_output=True, text=True, env=_remote(websockets), timeout=60
        )
        assert done.returncode == 0, done.stderr
    assert back.read_bytes() == original.read_bytes()


def test_large_lists(client: Commands, commands: Commands, place: str) -> None:
    """In pages, and whole: 12 MB."""
    names = [f"large-{n}" for n in range(60)]
    client.kubectl(
        "create",
        "-n",
        place,
        "-f",
        "-",
        stdin=json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": [config_map(name, filling="x" * 200_000) for name in names]}
        ),
    )
    path = f"/api/v1/namespaces/{place}/configmaps"
    whole = client.kubectl("get", "--raw", path)
    assert len(whole) > 12_000_000
    # But for the version that the whole store has come to: others write into it.
    assert json.loads(whole)["items"] == json.loads(commands.kubectl("get", "--raw", path))["items"]
    paged = client.kubectl("get", "configmaps", "-n", place, "--chunk-size=7", "-o", "name")
    assert {f"configmap/{name}" for name in names} <= set(paged.split())


def test_discovery_explain_and_openapi(client: Commands, commands: Commands) -> None:
    for words in (
        ("api-resources", "-o", "name"),
        ("explain", "deployment.spec"),
        ("version", "-o", "json"),
        ("api-versions",),
    ):
        assert client.kubectl(*words) == commands.kubectl(*words)


def test_helm_installs_and_uninstalls(client: Commands, place: str, tmp_path: Path) -> None:
    chart = tmp_path / "tiny"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: tiny\nversion: 0.1.0\n", encoding="utf-8")
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "tiny"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "tiny"}},
            "template": {"metadata": {"labels": {"app": "tiny"}}, "spec": counting("tiny")["spec"]},
        },
    }
    (chart / "templates" / "all.yaml").write_text(json.dumps(deployment), encoding="utf-8")
    client.helm("install", "tiny", str(chart), "-n", place, "--wait", "--timeout=90s")
    client.helm("upgrade", "tiny", str(chart), "-n", place, "--wait", "--timeout=90s")
    assert "tiny" in client.helm("list", "-n", place)
    client.helm("uninstall", "tiny", "-n", place, "--wait")
    assert "NotFound" in client.ask("kubectl", "get", "deployment", "tiny", "-n", place).err


def _remote(websockets: str) -> dict[str, str]:
    return {**os.environ, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
