"""With no fault: client libraries, operators and client-go's programs through the API proxy, and each kind of user."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import kubernetes
import pykube
import pytest
import yaml
from kubernetes import aio

from tests.commands import Commands, Json, until
from tests.integration.through import (
    Through,
    account,
    config_map,
    counting,
    exec_plugin,
    is_noted,
    kubeconfig_as,
    made,
    operating,
    pending,
    scheduling,
    through,
)

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def proxied(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Through]:
    with through(commands, tmp_path_factory.mktemp("proxy")) as running:
        yield running
        assert running.counters["answeredByUs"] == 0


@pytest.fixture(scope="module")
def place(commands: Commands) -> Iterator[str]:
    with commands.namespace("bb-library") as name:
        made(commands, name, counting("talking"))
        yield name


def test_the_python_client(proxied: Through, place: str) -> None:
    from kubernetes.stream import stream

    with kubernetes.config.new_client_from_config(proxied.commands.kubeconfig) as connection:
        core = kubernetes.client.CoreV1Api(connection)
        core.create_namespaced_config_map(place, cast(Any, config_map("sync", x="1")))
        core.patch_namespaced_config_map("sync", place, {"data": {"x": "2"}})
        assert core.read_namespaced_config_map("sync", place).data == {"x": "2"}
        watch = kubernetes.watch.Watch()
        told = watch.stream(core.list_namespaced_config_map, place, timeout_seconds=30)
        assert "sync" in {next(told)["object"].metadata.name for _ in range(2)}
        watch.stop()
        followed = kubernetes.watch.Watch().stream(core.read_namespaced_pod_log, "talking", place, follow=True)
        assert [next(followed) for _ in range(3)] == ["line 1", "line 2", "line 3"]
        line = ["sh", "-c", "echo hello"]
        assert stream(core.connect_get_namespaced_pod_exec, "talking", place, command=line, stdout=True) == "hello\n"
        core.delete_namespaced_config_map("sync", place)


async def test_the_async_python_client(proxied: Through, place: str) -> None:
    async with await aio.config.new_client_from_config(proxied.commands.kubeconfig) as connection:
        core = aio.client.CoreV1Api(connection)
        await core.create_namespaced_config_map(place, cast(Any, config_map("async", x="1")))
        names = set()
        async with aio.watch.Watch() as watch, asyncio.timeout(30):
            async for event in watch.stream(core.list_namespaced_config_map, place):
                names.add(event["object"].metadata.name)
                if "async" in names:
                    break
        both = await asyncio.gather(*(core.read_namespaced_config_map("async", place) for _ in range(40)))
        assert {(each.data or {})["x"] for each in both} == {"1"}
        await core.delete_namespaced_config_map("async", place)
    configuration = await aio.config.new_client_from_config(proxied.commands.kubeconfig)
    async with aio.stream.WsApiClient(configuration.configuration) as connection, configuration:
        core = aio.client.CoreV1Api(connection)
        answer = await core.connect_get_namespaced_pod_exec("talking", place, command=["echo", "hello"], stdout=True)
        assert answer == "hello\n"


def test_pykube(proxied: Through, place: str) -> None:
    api = pykube.HTTPClient(pykube.KubeConfig.from_file(proxied.commands.kubeconfig))
    pykube.ConfigMap(api, {**config_map("py", x="1"), "metadata": {"name": "py", "namespace": place}}).create()
    found = pykube.ConfigMap.objects(api).filter(namespace=place).get_by_name("py")
    found.patch({"data": {"x": "2"}})
    event = next(
        iter(pykube.ConfigMap.objects(api).filter(namespace=place, field_selector={"metadata.name": "py"}).watch())
    )
    assert (event.type, event.object.obj["data"]) == ("ADDED", {"x": "2"})
    found.delete()


def test_an_operator_of_kopf(proxied: Through, commands: Commands, place: str, tmp_path: Path) -> None:
    with operating(proxied, place, tmp_path):
        for word in ("one", "two"):
            noted = config_map("noted", word=word)
            noted["metadata"]["labels"] = {"noted": "please"}
            commands.apply(place, noted)
            until(partial(is_noted, commands, place, word), "its note")


def test_a_scheduler_keeps_a_deployment_rolling(
    proxied: Through, commands: Commands, place: str, tmp_path: Path
) -> None:
    """client-go: informers, leader election, bindings, events; what it does not schedule, nobody does."""
    with scheduling(proxied, place, tmp_path, "bb-scheduler"):
        rolled = pending("rolled", "bb-scheduler")
        for round_ in ("1", "2"):
            rolled["spec"]["template"]["metadata"]["annotations"] = {"round": round_}
            commands.apply(place, rolled)
            commands.kubectl("rollout", "status", "deployment/rolled", "-n", place, "--timeout=60s")
        assert proxied.asked("create", "pods/binding") >= 4
        assert commands.get("lease", "bb-scheduler", "-n", place)["spec"]["holderIdentity"]
        assert proxied.counters["behavior"]["watches"]["lost"] == 0
    commands.kubectl("delete", "deployment", "rolled", "-n", place)


USERS: dict[str, Callable[[Path, str], Json]] = {
    "token": lambda _, token: {"token": token},
    "token file beside the kubeconfig": lambda folder, token: _token_file(folder, token),
    "exec plug-in beside the kubeconfig": lambda folder, token: exec_plugin(folder, token),
    "impersonation": lambda _, token: {"token": token, "as": "system:serviceaccount:default:default"},
}


@pytest.mark.parametrize("kind", list(USERS))
def test_users_stay_who_they_are(commands: Commands, place: str, tmp_path: Path, kind: str) -> None:
    """However they show it, and wherever the kubeconfig that clients get is written."""
    name = f"user-{list(USERS).index(kind)}"
    token = account(commands, place, name, "admin")
    commands.kubectl(
        "create",
        "clusterrolebinding",
        f"{place}-{name}",
        "--clusterrole=cluster-admin",
        f"--serviceaccount={place}:{name}",
    )
    try:
        beside, elsewhere = tmp_path / "beside", tmp_path / "elsewhere"
        beside.mkdir()
        elsewhere.mkdir()
        there = kubeconfig_as(commands, beside / "config", USERS[kind](beside, token))
        with through(there, elsewhere) as proxied:
            assert stat.S_IMODE(Path(proxied.commands.kubeconfig).stat().st_mode) == 0o600
            who = [
                json.loads(each.kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]["username"]
                for each in (there, proxied.commands)
            ]
            assert who[0] == who[1]
            assert who[0].startswith("system:serviceaccount:")
    finally:
        commands.kubectl("delete", "clusterrolebinding", f"{place}-{name}")


def test_a_certificate_passes_for_the_one_of_the_proxys_own(
    proxied: Through, commands: Commands, tmp_path: Path
) -> None:
    """The user's key stays with the proxy; who has no certificate of its own is not let in."""

    def whoami(each: Commands) -> Json:
        return dict(json.loads(each.kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"])

    assert {k: v for k, v in whoami(proxied.commands).items() if k != "extra"} == {
        k: v for k, v in whoami(commands).items() if k != "extra"
    }
    given = yaml.safe_load(Path(commands.kubeconfig).read_text(encoding="utf-8"))["users"][0]["user"]
    handed = yaml.safe_load(Path(proxied.commands.kubeconfig).read_text(encoding="utf-8"))["users"][0]["user"]
    assert not set(map(str, given.values())) & set(map(str, handed.values()))
    nobody = kubeconfig_as(proxied.commands, tmp_path / "nobody", {})
    assert nobody.ask("kubectl", "get", "namespaces").code != 0


def _token_file(folder: Path, token: str) -> Json:
    (folder / "token").write_text(token, encoding="utf-8")
    return {"tokenFile": "token"}
