"""What is forked from a process that has our command line loaded is as what is started."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from bounceback.kube import Kube
from tests.commands import PRELOADED, until

PROXY = ("--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:1")
LISTENING_SECONDS = 30


def kubeconfig(path: Path, port: int) -> str:
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path.write_text(json.dumps(body))
    return str(path)


def test_it_ends_as_a_command_ends() -> None:
    done = PRELOADED.run(["version"], os.environ)
    assert (done.returncode, done.stdout[:11], done.stderr) == (0, "bounceback ", "")
    refused = PRELOADED.run(["lint", "/nowhere"], os.environ)
    assert (refused.returncode, "No such file" in refused.stdout + refused.stderr) == (2, True)


@pytest.mark.parametrize("port", [1, 2])
def test_it_has_the_environment_that_it_was_given(tmp_path: Path, port: int) -> None:
    done = PRELOADED.run(["status"], {**os.environ, "KUBECONFIG": kubeconfig(tmp_path / "config", port)})
    assert done.returncode != 0
    assert f"127.0.0.1:{port}" in done.stderr or f"port={port}" in done.stderr, done.stderr


def test_a_signal_ends_it_and_it_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as file:
        command = PRELOADED.start(["proxy", *PROXY], os.environ, file.fileno(), file.fileno())
    until(log.read_text, "it listens", LISTENING_SECONDS)
    assert command.poll() is None
    assert os.getsid(command.pid) == command.pid
    command.send_signal(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL == command.poll()
    assert PRELOADED.run(["version"], os.environ).returncode == 0


@pytest.mark.parametrize("port", [1, 2])
async def test_a_connection_goes_by_the_kubeconfig_that_is_named_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int
) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig(tmp_path / "config", port))
    async with Kube.connected() as kube:
        assert kube._configuration.host == f"https://127.0.0.1:{port}"
