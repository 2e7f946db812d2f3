"""The API server goes and comes back: who goes through the API proxy comes back by itself, as without it."""

from __future__ import annotations

from pathlib import Path

import kubernetes
import pytest

from tests.commands import Commands, until
from tests.conftest import run_dev
from tests.integration.through import (
    config_map,
    is_noted,
    operating,
    pending,
    scheduling,
    through,
)

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_clients_come_back_after_the_api_server(commands: Commands, tmp_path: Path) -> None:
    """Watches that are open, a leader, and a client that asks again and again."""
    name = Path(commands.kubeconfig).parent.name
    if not commands.programs:
        pytest.skip("this cluster's API server is not ours to stop")
    with commands.namespace("bb-restart") as place, through(commands, tmp_path) as proxied:
        with scheduling(proxied, place, tmp_path, "bb-restarted"), operating(proxied, place, tmp_path):
            work(commands, place, "before")
            core = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(proxied.commands.kubeconfig))
            run_dev("dev", "stop-apiserver", "--name", name)
            try:
                until(lambda: not answers(core, place), "an end")
                version = proxied.commands.ask("kubectl", "get", "--raw", "/version", "--request-timeout=3s")
                assert version.code == 1, version.out
            finally:
                run_dev("dev", "start-apiserver", "--name", name)
            until(lambda: answers(core, place), "an answer")
            until(lambda: commands.ask("kubectl", "get", "--raw", "/readyz").code == 0, "the API server")
            work(commands, place, "after")
        assert proxied.counters["answeredByUs"] == 0
        until(lambda: proxied.counters["open"] <= 1, "connections that are let go")


def answers(core: kubernetes.client.CoreV1Api, place: str) -> bool:
    try:
        core.list_namespaced_config_map(place, _request_timeout=5)
    except Exception:  # noqa: BLE001 - whatever it is
        return False
    return True


def work(commands: Commands, place: str, word: str) -> None:
    """The scheduler and the operator each do what they are there for."""
    rolled, noted = pending("rolled", "bb-restarted"), config_map("noted", word=word)
    rolled["spec"]["template"]["metadata"]["annotations"] = {"word": word}
    noted["metadata"]["labels"] = {"noted": "please"}
    commands.apply(place, rolled, noted)
    commands.kubectl("rollout", "status", "deployment/rolled", "-n", place, "--timeout=90s")
    until(lambda: is_noted(commands, place, word), "its note", 90)
