"""Every example of the API proxy, with the controller that keeps its promises and with one that does not."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import controller
import pytest
import yaml

from tests.commands import PROJECT, Commands, Json, Result, until

pytestmark = pytest.mark.cluster

CONTROLLERS = PROJECT / "examples" / "systems" / "controllers"
EXIT_CODES = {"Passed": 0, "Failed": 1}
AT_ONCE = 4
"""Most of each run is waiting."""
ACCOUNT = "series"
TOO_BUSY = "s late itself"
"""Of a verdict that is Inconclusive because the proxy did not get its turns on this machine."""


@dataclass(frozen=True)
class Scenario:
    example: str
    verdict: str
    words: tuple[str, ...]  # for the controller

    def __str__(self) -> str:
        return "-".join((self.example, *(word.lstrip("-") for word in self.words)))

    @property
    def file(self) -> Path:
        return PROJECT / "examples" / self.example / "faults.yaml"

    @property
    def needs_token(self) -> bool:
        return "token" in self.example


def scenarios() -> Iterator[Scenario]:
    """As the files' first lines say; nothing else of them is read here."""
    for path in sorted((PROJECT / "examples").glob("*/faults.yaml")):
        for verdict, words in re.findall(r"^# (\w+): controller\.py(.*)$", path.read_text(), re.MULTILINE):
            yield Scenario(path.parent.name, verdict, tuple(words.split()))


def namespaces(count: int) -> Json:
    """Each with a series, and an account that may make it."""
    series = yaml.safe_load((CONTROLLERS / "series.yaml").read_text())
    items: list[Json] = []
    mark = uuid.uuid4().hex[:6]
    for number in range(count):
        place = {"namespace": f"bb-series-{mark}-{number}"}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"}
        items += [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place["namespace"]}},
            {**series, "metadata": {**series["metadata"], **place}},
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ACCOUNT, **place}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "RoleBinding",
                "metadata": {"name": ACCOUNT, **place},
                "roleRef": role,
                "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, **place}],
            },
        ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def play(commands: Commands, scenario: Scenario, namespace: str, folder: Path) -> Result:
    """With its own proxy, as its README says."""
    kubeconfig = folder / f"{namespace}-in.yaml"
    kubeconfig.write_text(json.dumps(_as_account(commands, namespace) if scenario.needs_token else _admin(commands)))
    return commands.bounceback(
        *("proxy", "--kubeconfig", str(kubeconfig), "--write-kubeconfig", str(folder / f"{namespace}.yaml")),
        *("--fault", str(scenario.file), "--for", "60", "--"),
        *(sys.executable, str(CONTROLLERS / "controller.py"), "--namespace", namespace, *scenario.words),
    )


def _admin(commands: Commands) -> Json:
    document: Json = yaml.safe_load(Path(commands.kubeconfig).read_text())
    return document


def _as_account(commands: Commands, namespace: str) -> Json:
    """The same cluster as the account, whose tokens the plug-in of the examples gets."""
    document = _admin(commands)
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": str(CONTROLLERS / "token.sh"),
        "args": [commands.kubeconfig, namespace, ACCOUNT],
    }
    document["users"] = [{"name": user["name"], "user": {"exec": plugin}} for user in document["users"]]
    return document


@pytest.fixture(scope="module")
def wanted(request: pytest.FixtureRequest) -> list[Scenario]:
    """The scenarios that this session was asked for."""
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    found = [item.callspec.params["scenario"] for item in items if isinstance(item, pytest.Function)]
    return [scenario for scenario in found if isinstance(scenario, Scenario)]


@pytest.fixture(scope="module")
def outcomes(
    wanted: list[Scenario], commands: Commands, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Scenario, Future[Result]]]:
    """What becomes of each of them, some at a time."""
    folder = tmp_path_factory.mktemp("series")
    with places(commands, len(wanted)) as names, ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            scenario: pool.submit(play, commands, scenario, name, folder)
            for scenario, name in zip(wanted, names, strict=True)
        }


@contextmanager
def places(commands: Commands, count: int) -> Iterator[list[str]]:
    """So many namespaces, whose rights are known."""
    made = namespaces(count)
    names = [item["metadata"]["name"] for item in made["items"] if item["kind"] == "Namespace"]
    commands.kubectl("create", "-f", "-", stdin=json.dumps(made))
    who = f"--as=system:serviceaccount:{names[-1]}:{ACCOUNT}"
    until(lambda: commands.ask("kubectl", "auth", "can-i", "list", "cm", "-n", names[-1], who).code == 0, "its rights")
    yield names
    commands.kubectl("delete", "namespace", *names, "--wait=false")


@pytest.mark.parametrize("scenario", list(scenarios()), ids=str)
def test_an_example_finds_out_what_it_says(
    outcomes: dict[Scenario, Future[Result]], scenario: Scenario, commands: Commands, tmp_path: Path
) -> None:
    outcome = outcomes[scenario].result()
    if TOO_BUSY in outcome.err:  # what it may not judge then it does not: it is asked again, with less at once
        concurrent.futures.wait(outcomes.values())
        with places(commands, 1) as (name,):
            outcome = play(commands, scenario, name, tmp_path)
    assert outcome.code == EXIT_CODES[scenario.verdict], outcome.err + outcome.out
    assert scenario.verdict in outcome.err.splitlines()


def test_without_a_fault_every_controller_does_its_work(commands: Commands) -> None:
    """A flaw shows under a fault alone: who fails then fails for that."""

    def work(flaw: str, namespace: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, str(CONTROLLERS / "controller.py"), "--namespace", namespace]
        environment = {**os.environ, "KUBECONFIG": commands.kubeconfig}
        words = ["--flaw", flaw] if flaw else []
        return subprocess.run([*line, *words], env=environment, capture_output=True, text=True)

    flaws = ("", *controller.FLAWS)
    made = namespaces(len(flaws))
    names = [item["metadata"]["name"] for item in made["items"] if item["kind"] == "Namespace"]
    commands.kubectl("create", "-f", "-", stdin=json.dumps(made))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ended = dict(zip(flaws, pool.map(work, flaws, names), strict=True))
    commands.kubectl("delete", "namespace", *names, "--wait=false")
    assert {flaw: done.stderr for flaw, done in ended.items() if done.returncode} == {}
