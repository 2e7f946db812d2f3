"""The examples are what they say: valid, complete, and with a sample system whose flaws are real."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import web
from answers import Answers, Server
from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.types.outcome import Verdict
from examples.systems import render

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/experiment.yaml"))
IDS = [path.name for path in EXAMPLES]
EXPECTED = "bounceback.dev/expected-verdict."
KUBERNETES = "1.36"


def load(path: Path) -> Json:
    body: Json = yaml.safe_load(path.read_text())
    return body


def expected(experiment: Json) -> dict[str, str]:
    annotations: dict[str, str] = experiment["metadata"]["annotations"]
    return {key.removeprefix(EXPECTED): value for key, value in annotations.items() if key.startswith(EXPECTED)}


@pytest.mark.parametrize("folder", EXAMPLES, ids=IDS)
def test_an_example_is_valid_and_brings_the_checks_that_it_names(folder: Path) -> None:
    spec = FaultExperimentSpec.model_validate(load(folder / "experiment.yaml")["spec"])
    check = load(folder / "check.yaml")
    RecoveryCheckSpec.model_validate(check["spec"])
    assert [c.name for c in spec.checks] == [check["metadata"]["name"]]


@pytest.mark.parametrize("folder", EXAMPLES, ids=IDS)
def test_an_example_names_its_requirement_and_its_verdict_for_each_system(folder: Path) -> None:
    assert re.match(r"([A-F]\d+(\.\d+)?|G)-[a-z-]+$", folder.name)
    verdicts = expected(load(folder / "experiment.yaml"))
    sound = [verdict for variant, verdict in verdicts.items() if not render.VARIANTS[variant][0]]
    assert sound == [Verdict.PASSED], "one system that keeps its promises, and passes"
    assert verdicts.keys() <= render.VARIANTS.keys()
    assert set(verdicts.values()) <= set(Verdict)
    readme = (folder / "README.md").read_text()
    for variant, verdict in verdicts.items():
        assert f"| `examples/systems/{variant}` | {verdict} |" in readme


@pytest.mark.parametrize("folder", EXAMPLES, ids=IDS)
def test_the_page_of_examples_leads_to_each_of_them(folder: Path) -> None:
    assert f"(../examples/{folder.name}/)" in (ROOT / "docs" / "examples.md").read_text()


def test_the_check_that_watches_by_itself_is_valid_and_on_the_page() -> None:
    check = load(ROOT / "examples" / "F2-watched" / "check.yaml")
    assert RecoveryCheckSpec.model_validate(check["spec"]).mode == "Continuous"
    assert "(../examples/F2-watched/)" in (ROOT / "docs" / "examples.md").read_text()


@pytest.mark.parametrize("variant", render.VARIANTS)
def test_some_example_fails_each_system_that_breaks_a_promise(variant: str) -> None:
    flaw, _ = render.VARIANTS[variant]
    verdicts = {expected(load(folder / "experiment.yaml")).get(variant) for folder in EXAMPLES}
    assert (Verdict.FAILED in verdicts) == bool(flaw)


def test_the_systems_are_what_the_generator_writes() -> None:
    for path, text in render.files().items():
        assert path.read_text() == text, f"{path} is not what `make generate` writes"


@pytest.mark.parametrize("variant", render.VARIANTS)
def test_the_systems_are_valid_and_ask_for_no_privilege(variant: str) -> None:
    for body in yaml.safe_load_all((ROOT / "examples" / "systems" / variant / "system.yaml").read_text()):
        kubernetes_validate.validate(body, KUBERNETES, strict=True)
        if body["kind"] == "Deployment":
            pod = body["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


class Silent(Answers):
    """A store that answers only when it is told to."""

    heard = threading.Event()

    def do_GET(self) -> None:
        if self.heard.wait(5):
            self.answer(200, {"count": 7})


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[web.Store]:
    """The web's side of a store that is silent at first."""
    Silent.heard.clear()
    server = Server(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever).start()
    monkeypatch.setattr(web, "STORE", f"127.0.0.1:{server.server_port}")
    monkeypatch.setattr(web, "PATIENCE_SECONDS", 0.1)
    yield web.Store()
    Silent.heard.set()
    server.shutdown()
    server.server_close()


def silence(store: web.Store) -> None:
    """Each connection waits in vain once; then the store answers again."""
    for _ in range(web.CONNECTIONS):
        with pytest.raises(web.StoreError):
            store.ask("GET", "/")
    Silent.heard.set()
    for connection in store.idle.queue:
        connection.timeout = 20.0  # an answer that comes may take longer than we waited in vain


def test_the_correct_web_comes_back_at_once_when_the_store_answers_again(store: web.Store) -> None:
    silence(store)
    for _ in range(web.CONNECTIONS):
        assert json.loads(store.ask("GET", "/")) == {"count": 7}


def test_the_broken_web_never_does(store: web.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FLAW", "dead-connections")
    silence(store)
    for _ in range(3 * web.CONNECTIONS):
        with pytest.raises(web.StoreError):
            store.ask("GET", "/")


@pytest.mark.parametrize(("flaw", "kept"), [("", 0), ("open-notes", 2 * web.CONNECTIONS)])
def test_the_leaky_web_keeps_something_open_for_each_failure(
    store: web.Store, monkeypatch: pytest.MonkeyPatch, flaw: str, kept: int
) -> None:
    monkeypatch.setattr(web, "FLAW", flaw)
    monkeypatch.setattr(web, "notes", [])
    store.answered = True
    silence(store)
    assert json.loads(store.ask("GET", "/")) == {"count": 7}, "it comes back all the same"
    assert sum(note.fileno() >= 0 for note in web.notes) == kept
    assert b"\nshop_open_descriptors " in web.gauges()
    for note in web.notes:
        note.close()


def test_the_hasty_web_promises_what_it_has_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        monkeypatch.setattr(web, "store", web.Store())
        monkeypatch.setattr(web, "STORE", f"127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setattr(web, "FLAW", "early-answer")
        web.take_order("1")
        assert web.unwritten.get_nowait() == "1"
