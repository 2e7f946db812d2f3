"""The examples of the API proxy are what they say, and leave no fault untried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import controller
import pytest
import yaml

from bounceback.cli.proxy_file import Protocol, ProxyFile, file_of
from bounceback.faults import api_fault, auth_fault, watch_fault
from bounceback.types.api_rule import Event
from bounceback.types.outcome import Verdict

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "examples").glob("*/faults.yaml"))
IDS = [path.parent.name for path in FILES]
CODES = {400, 401, 403, 404, 409, 410, 422, 429, 500, 502, 503, 504}


def verdicts(path: Path) -> dict[str, str]:
    """By the words for the controller."""
    found = re.findall(r"^# (\w+): (controller\.py.*)$", path.read_text(), re.MULTILINE)
    return {words: verdict for verdict, words in found}


def read(path: Path) -> ProxyFile:
    found, problems = file_of(yaml.safe_load(path.read_text()), {"api": Protocol.KUBERNETES})
    assert found is not None, problems
    return found


def kinds() -> list[tuple[str, Json]]:
    """All faults of all examples: apiFault or authFault, and its fields."""
    faults = [fault for path in FILES for fault in yaml.safe_load(path.read_text())["faults"]]
    return [(kind, fault[kind]) for fault in faults for kind in ("apiFault", "authFault") if kind in fault]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_an_example_is_valid_and_says_how_a_client_must_take_it(path: Path) -> None:
    file = read(path)
    assert len(file.faults) == 1
    assert file.client_behavior is not None


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_one_controller_passes_and_one_with_a_flaw_fails(path: Path) -> None:
    assert re.match(r"[A-G]\d+(\.\d+)?-[a-z-]+$", path.parent.name)
    (sound, passed), (broken, failed) = verdicts(path).items()
    assert (passed, failed) == (Verdict.PASSED, Verdict.FAILED)
    start, _, flaw = broken.rpartition(" --flaw ")
    assert start == sound
    assert flaw in controller.FLAWS


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_its_page_and_the_page_of_examples_say_the_same(path: Path) -> None:
    name, readme = path.parent.name, (path.parent / "README.md").read_text()
    for words, verdict in verdicts(path).items():
        assert f"| `{words}` | {verdict} |" in readme
    assert f"--fault examples/{name}/faults.yaml" in readme
    page = (ROOT / "docs" / "examples.md").read_text()
    (row,) = re.findall(rf"^\| \[{re.escape(name)}\]\(\.\./examples/{re.escape(name)}/\) \|.*$", page, re.MULTILINE)
    assert row.endswith(f"| `{list(verdicts(path))[1].rpartition(' ')[2]}` |")


@pytest.mark.parametrize("flaw", controller.FLAWS)
def test_each_flaw_is_found_out_by_some_example_and_explained(flaw: str) -> None:
    assert any(words.endswith(f"--flaw {flaw}") for path in FILES for words in verdicts(path))
    assert f"| `{flaw}` |" in (ROOT / "docs" / "examples.md").read_text()


def test_each_code_is_tried() -> None:
    answers = [fields["answer"]["code"] for _, fields in kinds() if "answer" in fields]
    assert set(answers) >= CODES


def test_each_fault_is_tried() -> None:
    tried = {field for _, fields in kinds() for field in fields}
    assert tried >= {*api_fault.FIELDS, *auth_fault.FIELDS}
    watches = [fields["watch"] for _, fields in kinds() if "watch" in fields]
    assert {field for watch in watches for field in watch} == set(watch_fault.FIELDS)
    assert {watch["events"]["do"] for watch in watches if "events" in watch} == set(map(str, Event))
