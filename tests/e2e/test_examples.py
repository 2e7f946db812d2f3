"""Every example against every variant of its sample system, with the operator as the chart installs it."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import BoundedSemaphore

import pytest
import yaml

import dev.cli
from dev.state import clusters_folder
from tests.commands import PROJECT, SYSTEM, Commands, Json, until
from tests.conftest import run_dev
from tests.e2e.arming import arming
from tests.e2e.beyond import placed
from tests.e2e.shops import shop

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("release")]

EXPECTED = "bounceback.dev/expected-verdict."
EXIT_CODES = {"Passed": 0, "Failed": 1}
NETEM_NODE = "node-uml"
UNSUPPORTED = 3  # what `dev up` says where this machine has no second kernel
SOUND = "web"
SECONDS = {"A6-node-drain": 8, "A6-node-not-ready": 65}
"""What takes less than the example's own time and shows the same; a node is Unknown after 41 to 56 s."""
PYTHON = ("python3", "-c")
AT_ONCE = 3
"""Most of a run is waiting; with more, what keeps its promises was late on a machine of two processors."""
LONGEST_CHAIN = 6
SET_UP_AT_ONCE = 2
"""That of a system is work, and would make the others' probes late."""


@dataclass(frozen=True)
class Scenario:
    example: str
    system: str
    verdict: str
    by_relay: bool = False  # though netem would be better

    def __str__(self) -> str:
        return f"{self.example}-{self.system}{'-by-relay' if self.by_relay else ''}"

    @property
    def changes_objects(self) -> bool:
        text = (PROJECT / "examples" / self.example / "experiment.yaml").read_text()
        check = PROJECT / "examples" / self.example / "check.yaml"
        return "objectFault" in text or "repair:" in text or "\n  workload:" in check.read_text()

    @property
    def is_hungry(self) -> bool:
        folder = PROJECT / "examples" / self.example
        return (
            "cpuPressure" in (folder / "experiment.yaml").read_text() or "herd:" in (folder / "check.yaml").read_text()
        )

    @property
    def needs_netem(self) -> bool:
        text = (PROJECT / "examples" / self.example / "experiment.yaml").read_text()
        return not self.by_relay and ("networkDelay" in text or "mechanism: Netem" in text)


def scenarios(on_nodes: bool) -> Iterator[Scenario]:
    """As the examples' annotations say."""
    for path in sorted((PROJECT / "examples").glob("*/experiment.yaml")):
        policy = path.parent / "policy.yaml"
        if on_nodes != (policy.exists() and "nodes" in yaml.safe_load(policy.read_text())["spec"]["allow"]):
            continue
        annotations = yaml.safe_load(path.read_text())["metadata"]["annotations"]
        for key, verdict in annotations.items():
            if key.startswith(EXPECTED):
                yield Scenario(path.parent.name, key.removeprefix(EXPECTED), verdict)
                # Not the broken one: it never opens another connection once those that it has are reset.
                if "networkDelay" in path.read_text() and verdict == "Passed":
                    yield Scenario(path.parent.name, key.removeprefix(EXPECTED), verdict, by_relay=True)


@dataclass(frozen=True)
class Outcome:
    code: int  # of `bounceback run --wait`
    told: str  # by it
    experiment: Json


def run(commands: Commands, name: str, namespace: str, seconds: int | None = None) -> Outcome:
    """Its faults as long as it says, or so many seconds."""
    folder = PROJECT / "examples" / name
    with tempfile.TemporaryDirectory() as away:
        if (folder / "policy.yaml").exists():  # it names the namespace that it is for, and what is there
            folder = _placed(folder, Path(away), namespace, seconds)
            commands.kubectl("apply", "-f", str(folder / "policy.yaml"))
        files = map(str, sorted(folder.glob("*.yaml")))
        result = commands.bounceback("run", "--namespace", namespace, "--wait", *files)

    def let_go() -> Json | None:
        (experiment,) = commands.get("faultexperiments", "-n", namespace)["items"]
        return None if experiment["metadata"].get("finalizers") else experiment

    return Outcome(result.code, result.out + result.err, until(let_go, "the finished experiment is held no more"))


def _placed(folder: Path, away: Path, namespace: str, seconds: int | None) -> Path:
    for path in folder.glob("*.yaml"):
        body = placed(yaml.safe_load(path.read_text()), namespace)
        for fault in body["spec"].get("faults", ()):
            fault["durationSeconds"] = seconds or fault["durationSeconds"]
        (away / path.name).write_text(yaml.safe_dump(body, sort_keys=False))
    return away


def chains(wanted: Sequence[Scenario]) -> list[list[Scenario]]:
    """Which of them one system serves, one after the other: what is said to have come back is as good as new."""
    together: dict[tuple[str, bool], list[Scenario]] = {}
    found: list[list[Scenario]] = []
    for scenario in wanted:
        kind = (scenario.system, scenario.changes_objects)
        if scenario.verdict != "Passed" or scenario.is_hungry or scenario.needs_netem:
            found.append([scenario])
        elif len(together.get(kind, ())) % LONGEST_CHAIN:
            together[kind].append(scenario)
        else:
            together[kind] = [scenario]
            found.append(together[kind])
    return found


@pytest.fixture(scope="module")
def wanted(request: pytest.FixtureRequest) -> list[Scenario]:
    """The scenarios that this session was asked for."""
    items = [item for item in request.session.items if item.path == request.path]
    found = [item.callspec.params.get("scenario") for item in items if isinstance(item, pytest.Function)]
    return [scenario for scenario in found if isinstance(scenario, Scenario)]


@pytest.fixture(scope="module")
def netem_node(wanted: list[Scenario], commands: Commands, kubeconfig: str) -> str:
    """A node whose kernel has netem, where one is needed; "" where there is none."""
    if not any(scenario.needs_netem for scenario in wanted) or clusters_folder() not in Path(kubeconfig).parents:
        return ""
    name = Path(kubeconfig).parent.name
    with contextlib.redirect_stdout(sys.stderr):
        code = dev.cli.main(["up", "--name", name, "--nodes", "2"])
    if code == UNSUPPORTED:
        return ""
    assert code == 0
    commands.kubectl("cordon", NETEM_NODE)  # nothing else is to be scheduled there
    run_dev("dev", "load-image", "--name", name, run_dev("dev.image", "build"))
    return NETEM_NODE


@pytest.fixture(scope="module")
def release(commands: Commands, netem_node: str) -> Iterator[str]:
    """The operator, by the chart; it arms pods that ask for it, as some systems do, and answers for admission.

    After the image was loaded into all nodes: it asks them, and a kubelet that has begun to pull does not use what is
    loaded meanwhile.
    """
    with arming(commands, ",admissionFaults.enabled=true"):
        yield SYSTEM


@pytest.fixture(scope="module")
def outcomes(wanted: list[Scenario], commands: Commands, netem_node: str) -> Iterator[dict[Scenario, Future[Outcome]]]:
    """What becomes of each of them, some at a time."""

    setting_up, alone = BoundedSemaphore(SET_UP_AT_ONCE), BoundedSemaphore()
    told: dict[Scenario, Future[Outcome]] = {
        scenario: Future() for scenario in wanted if netem_node or not scenario.needs_netem
    }

    def serve(waiting: deque[Scenario]) -> None:
        """By one system, until one of them did not come back there."""
        system, objects_too = waiting[0].system, waiting[0].changes_objects
        node = netem_node if waiting[0].needs_netem else ""
        with contextlib.ExitStack() as stack:
            with setting_up if not node else contextlib.nullcontext():
                namespace = stack.enter_context(shop(commands, system, node=node, objects_too=objects_too))
            while waiting:
                outcome = run(commands, waiting[0].example, namespace)
                told[waiting.popleft()].set_result(outcome)
                if outcome.code:
                    break
                commands.kubectl("delete", "-n", namespace, "faultexperiments,recoverychecks", "--all")

    def play(chain: Sequence[Scenario]) -> None:
        waiting = deque(chain)
        with alone if chain[0].is_hungry else contextlib.nullcontext():  # two would take half of a small machine
            while waiting:
                try:
                    serve(waiting)
                except BaseException as error:
                    if not waiting:
                        raise
                    told[waiting.popleft()].set_exception(error)

    # A second kernel is slow: one at a time.
    with ThreadPoolExecutor(AT_ONCE) as here, ThreadPoolExecutor(1) as there:
        jobs = [(there if chain[0].needs_netem else here).submit(play, chain) for chain in chains(list(told))]
        yield told
        for job in jobs:
            job.result()


@pytest.mark.parametrize("scenario", list(scenarios(on_nodes=False)), ids=str)
def test_an_example_finds_out_what_it_says(outcomes: dict[Scenario, Future[Outcome]], scenario: Scenario) -> None:
    if scenario not in outcomes:
        pytest.skip("no node has netem, and this machine cannot have a second kernel")
    found_out(scenario, outcomes[scenario].result())


@pytest.mark.parametrize("alone", [each for each in scenarios(on_nodes=True) if each.verdict == "Failed"], ids=str)
def test_an_example_on_a_node_finds_out_what_it_says(commands: Commands, release: str, alone: Scenario) -> None:
    """Last, and one at a time: what is done to the node everybody here feels. Who keeps its promises is hit the same
    way by tests/survival/test_nodes.py, or is beside it: another shop, which loses nothing.
    """
    with shop(commands, alone.system, nodes_too=True) as namespace, shop(commands, SOUND) as beside:
        try:
            outcome = run(commands, alone.example, namespace, SECONDS[alone.example])
            found_out(alone, outcome)
            assert outcome.experiment["status"]["axes"]["recovery"] == "Passed", "it is back, and has forgotten"
            assert lost(commands, beside) == 0 < lost(commands, namespace)
        finally:
            commands.kubectl("delete", "--ignore-not-found", "-f", f"examples/{alone.example}/policy.yaml")


def lost(commands: Commands, namespace: str) -> int:
    """Orders that were acknowledged, and are not in the store."""
    asking = "import urllib.request as u; print(u.urlopen('http://localhost:8080/audit').read().decode())"
    return int(json.loads(commands.kubectl("exec", "-n", namespace, "deploy/shopper", "--", *PYTHON, asking))["lost"])


def found_out(scenario: Scenario, outcome: Outcome) -> None:
    print(outcome.told)
    status = outcome.experiment["status"]
    assert (status["verdict"], outcome.code) == (scenario.verdict, EXIT_CODES[scenario.verdict])
    assert status["axes"]["injection"] == "Proven"
    assert status["axes"]["cleanup"] == "Clean"
    evidence = status["evidence"]
    assert evidence["state"] == "Kept", evidence
    assert evidence["kinds"][0]["lines"] > len(status["injections"]), "also what was said of them"
