"""`bounceback lint`: what is wrong, where it stands, and what must be, without a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.problems import dotted, parse
from bounceback.cli.documents import UnreadableError
from bounceback.cli.documents import parse as documents
from bounceback.cli.linting import Linted, Severity, lint
from bounceback.cli.main import main
from tests.spec_case import CHECK, EXPERIMENT, Json

EXAMPLES = Path(__file__).parents[2] / "examples"


def manifest(kind: str, name: str, spec: Json, **metadata: str) -> Json:
    return {
        "apiVersion": "bounceback.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": spec,
    }


def linted(tmp_path: Path, *objects: Json) -> Linted:
    file = tmp_path / "given.yaml"
    file.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return lint([str(file)])


def words(found: Linted) -> str:
    return "\n".join(map(str, found.remarks))


CHECKED = manifest("RecoveryCheck", "web-healthy", CHECK)
RUN = manifest("FaultExperiment", "web-slow", EXPERIMENT)


def test_a_good_pair_has_no_remarks(tmp_path: Path) -> None:
    found = linted(tmp_path, CHECKED, RUN)
    assert not found.remarks
    assert [each.name for each, _ in found.experiments] == ["web-slow"]
    assert [each.name for each, _ in found.checks] == ["web-healthy"]


def test_a_problem_is_shown_at_its_line_and_field(tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    file.write_text(
        "apiVersion: bounceback.dev/v1alpha1\n"
        "kind: FaultExperiment\n"
        "metadata: {name: web-slow}\n"
        "spec:\n"
        "  targets:\n"
        "  - name: web\n"
        "    pods: {selector: {matchLabels: {app: web}}}\n"
        "  faults:\n"
        "  - name: slow\n"
        "    target: web\n"
        "    networkDelay:\n"
        "      delayMilliseconds: 200\n"
        "      jitterMilliseconds: 300\n"
        "  checks: [{name: web-healthy}]\n"
    )
    [error] = lint([str(file)]).errors
    assert str(error) == (
        f"{file}:13:7: error: spec.faults[0].networkDelay.jitterMilliseconds: "
        "jitterMilliseconds must not exceed delayMilliseconds"
    )


def test_every_problem_of_every_file_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1\nb: 2\n")
    found = lint([str(broken), str(tmp_path / "absent.yaml")])
    assert "broken.yaml:2:2: error: not YAML" in words(found)
    assert "absent.yaml:1:1: error: cannot be read: No such file or directory" in words(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"kind": "FaultExperimen"},
            "kind: must be FaultExperiment or RecoveryCheck or FaultPolicy; found 'FaultExperimen'",
        ),
        ({"apiVersion": "bounceback.dev/v2"}, "apiVersion: must be bounceback.dev/v1alpha1"),
        ({"metadata": {}}, "metadata.name: must be given, or generateName"),
        ({"metadata": {"name": "Web"}}, "metadata.name: must be text of 1 to 253 characters: lower-case"),
        ({"metadata": None}, "metadata: must be given"),
        ({"spec": []}, "spec: must be a mapping with serviceAccountName"),
        ({"specs": {}}, "specs: there is no such field; allowed: apiVersion, kind, metadata, spec, status"),
    ],
)
def test_what_surrounds_the_spec_is_checked_too(tmp_path: Path, change: Json, message: str) -> None:
    assert message in words(linted(tmp_path, {**RUN, **change}))


def test_a_missing_spec_is_told(tmp_path: Path) -> None:
    assert "spec: must be given" in words(linted(tmp_path, {k: v for k, v in RUN.items() if k != "spec"}))


def test_objects_of_others_are_left_alone(tmp_path: Path) -> None:
    found = linted(tmp_path, CHECKED, RUN, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}})
    assert found.others == ["Deployment web"]
    assert not found.remarks


def test_what_is_no_object_is_an_error(tmp_path: Path) -> None:
    assert "must be a Kubernetes object" in words(linted(tmp_path, {"hello": "world"}))


def test_a_folder_stands_for_the_files_in_it(tmp_path: Path) -> None:
    for name, content in (("b.yaml", RUN), ("a.yml", CHECKED)):
        (tmp_path / name).write_text(yaml.safe_dump(content))
    (tmp_path / "README.md").write_text("no YAML: [")
    found = lint([str(tmp_path)])
    assert [each.name for each in found.objects] == ["web-healthy", "web-slow"]
    assert not found.remarks


def test_the_items_of_a_list_are_documents(tmp_path: Path) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": [CHECKED, RUN]}
    assert len(linted(tmp_path, listed).objects) == 2


def test_requests_that_hit_less_than_they_say_are_a_warning(tmp_path: Path) -> None:
    evictions = {"verbs": ["create"], "resources": ["pods/eviction"], "names": ["a"]}  # these have one in their path
    made = {"verbs": ["create", "update"], "names": ["a"]}
    requests = [{"apiGroups": ["v1"], "resources": ["pods"]}, made, evictions]
    faults = [{"name": "cut", "target": "web", "durationSeconds": 5, "apiFault": {"cut": {}, "requests": requests}}]
    found = linted(tmp_path, CHECKED, {**RUN, "spec": {**RUN["spec"], "faults": faults}})
    assert not found.errors
    assert [warning.severity for warning in found.remarks] == [Severity.WARNING] * 2
    assert 'requests[0].apiGroups: v1 is a version, not a group: that of pods is ""' in str(found.remarks[0])
    assert "requests[1].names: a create has no name in its path" in str(found.remarks[1])


def test_a_check_that_is_elsewhere_is_a_warning(tmp_path: Path) -> None:
    found = linted(tmp_path, RUN)
    assert not found.errors
    [warning] = found.remarks
    assert warning.severity is Severity.WARNING
    assert "spec.checks[0].name: RecoveryCheck web-healthy is not in these files" in warning.text


def test_delays_that_add_up_are_a_warning(tmp_path: Path) -> None:
    fault = {"name": "slow", "target": "web", "networkDelay": {"delayMilliseconds": 100}, "durationSeconds": 20}
    for start, warned in ((0, True), (20, False)):
        other = {**fault, "name": "slower", "startAfterSeconds": start}
        found = linted(
            tmp_path, CHECKED, manifest("FaultExperiment", "web-slow", {**EXPERIMENT, "faults": [fault, other]})
        )
        assert not found.errors
        told = "spec.faults[1]: slow and slower delay the same packets of target web: 100 ms and 100 ms add up to 200"
        assert (told in words(found)) is warned


def test_a_check_of_another_namespace_is_another_check(tmp_path: Path) -> None:
    other = manifest("RecoveryCheck", "web-healthy", CHECK, namespace="other")
    assert "is not in these files" in words(linted(tmp_path, other, RUN))


def test_one_name_twice_is_an_error(tmp_path: Path) -> None:
    assert "metadata.name: RecoveryCheck web-healthy is given twice; first in" in words(
        linted(tmp_path, CHECKED, CHECKED)
    )


def test_a_bound_on_a_probe_that_the_check_lacks_is_an_error(tmp_path: Path) -> None:
    bound = {**EXPERIMENT, "abortWhen": [{"check": "web-healthy", "probe": "hom", "failingSeconds": 5}]}
    found = linted(tmp_path, CHECKED, manifest("FaultExperiment", "web-slow", bound))
    assert "spec.abortWhen[0].probe: must be one of the probes of web-healthy: home" in words(found)


WORK: Json = {
    "model": "Set",
    "http": {"url": "http://web", "write": {"path": "/items/{value}"}, "list": {"path": "/items"}},
    "load": {"open": {"perSecond": 20}},
}


@pytest.mark.parametrize(
    ("workload", "performance", "message"),
    [
        ({}, {"throughputPercent": 90, "withinSeconds": 10}, ""),
        ({"baselineSeconds": 60}, None, "must be above the 60 s of the workload's baselineSeconds in web-healthy"),
        ({"seconds": 20}, None, "the workload of web-healthy may end before the faults do: its seconds are 20"),
        ({}, {"throughputPercent": 90, "withinSeconds": 3600}, "asks for performance.withinSeconds 3600"),
        ({"http": {**WORK["http"], "list": None}}, None, "spec.workload.http: must have list or read with model Set"),
    ],
)
def test_a_workload_has_the_time_that_it_takes(tmp_path: Path, workload: Json, performance: Any, message: str) -> None:
    asked = {"performance": performance} if performance else {}
    check = manifest("RecoveryCheck", "web-healthy", {**CHECK, "workload": {**WORK, **workload}, **asked})
    found = linted(tmp_path, check, RUN)
    assert message in words(found) if message else not found.remarks


def test_failsafe_without_an_error_state_is_an_error(tmp_path: Path) -> None:
    spec = {**EXPERIMENT, "expect": "FailSafe"}
    found = linted(tmp_path, CHECKED, manifest("FaultExperiment", "web-slow", spec))
    assert "spec.expect: FailSafe needs a check that declares errorState; none of web-healthy does" in words(found)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"containers": []}, "spec.repair.job.template.containers: must name at least one"),
        ({"containers": [{}], "restartPolicy": "OnFailure"}, "spec.repair.job.template.restartPolicy: must be Never"),
    ],
)
def test_a_repair_runs_once_and_does_something(tmp_path: Path, template: Any, message: str) -> None:
    spec = {**EXPERIMENT, "expect": "Manual", "repair": {"job": {"template": template}}}
    assert message in words(linted(tmp_path, CHECKED, manifest("FaultExperiment", "web-slow", spec)))


def test_manual_without_what_it_is_judged_by_is_an_error(tmp_path: Path) -> None:
    spec = {**EXPERIMENT, "expect": "Manual", "repair": {"byHand": {"instruction": "Renew it."}}}
    found = words(linted(tmp_path, CHECKED, manifest("FaultExperiment", "web-slow", spec)))
    for section in ("detection", "errorState"):
        assert f"spec.expect: Manual needs a check that declares {section}; none of web-healthy does" in found


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("object.status.readyReplicas = 2", "must be CEL"),
        ("objects.size() > 0", "there is no variable objects; there are object"),
        ("object.metadata.name ==", "must be CEL"),
    ],
)
def test_an_expression_is_held_to_its_language_and_its_names(tmp_path: Path, expression: str, message: str) -> None:
    look = {"apiVersion": "v1", "kind": "Pod", "name": "web", "expression": expression}
    found = linted(tmp_path, manifest("RecoveryCheck", "web", {"probes": [{"name": "up", "kubernetes": look}]}))
    assert "spec.probes[0].kubernetes.expression" in words(found)
    assert message in words(found)


def test_an_invariant_sees_before_and_after_only(tmp_path: Path) -> None:
    spec = {
        **CHECK,
        "observations": [{"name": "orders", "http": {"url": "http://web/orders"}}],
        "invariants": [{"name": "kept", "expression": "then.orders.count >= before.orders.count"}],
    }
    assert "spec.invariants[0].expression: must be CEL: there is no variable then; there are after, before" in words(
        linted(tmp_path, manifest("RecoveryCheck", "web", spec))
    )


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a: 1\na: 2\n", "f:2:1", "field a is given twice"),
        ("- 1\n", "f:1:1", "must be a Kubernetes object"),
        ("a: *nothing\n", "f:1:4", "not YAML"),
        ("a: &a [*a]\n", "f:1:1", "at most"),
        ("a: !!python/object/apply:os.system [true]\n", "f:1:4", "not YAML"),
    ],
)
def test_files_that_cannot_be_read_say_where(text: str, place: str, message: str) -> None:
    with pytest.raises(UnreadableError) as error:
        list(documents(text, "f"))
    assert str(error.value).startswith(place)
    assert message in str(error.value)


def test_a_file_that_grows_by_aliases_is_refused() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
    with pytest.raises(UnreadableError, match="at most 200,000 fields"):
        list(documents(bomb, "f"))


def test_dates_are_text_as_they_are_for_kubernetes() -> None:
    [document] = documents("kind: Odd\ndate: 2026-11-21\n", "f")
    assert document.data["date"] == "2026-11-21"


def test_a_path_reads_as_kubectl_writes_it() -> None:
    assert dotted(("spec", "faults", 0, "networkDelay")) == "spec.faults[0].networkDelay"


def test_problems_speak_our_words_and_not_the_librarys() -> None:
    wrong = {"targets": "web", "faults": [{"name": 3}], "checks": [{"nam": "x"}], "cancel": 1, "seed": 1.5}
    _, problems = parse(FaultExperimentSpec, wrong)
    told = "\n".join(map(str, problems))
    for word in ("Input should", "pydantic", "Value error", "Extra inputs", "Field required", "type=", "string_type"):
        assert word not in told
    assert 'spec.targets: must be a list of 1 to 10 entries; found "web"' in told
    assert "spec.checks[0].nam: there is no such field; did you mean name? allowed: name" in told


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "given.yaml"
    file.write_text(yaml.safe_dump_all([CHECKED, RUN]))
    assert main(["lint", str(file)]) == 0
    assert "2 of ours in order" in capsys.readouterr().out
    file.write_text(yaml.safe_dump({**RUN, "spec": {}}))
    assert main(["lint", str(file)]) == 2
    assert "spec.targets: must be given: a list of 1 to 10 entries" in capsys.readouterr().err


def test_standard_input_is_read(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "bounceback.cli.main", "lint", "-"]
    result = subprocess.run(
        line, input=yaml.safe_dump({**RUN, "spec": {}}), capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "standard input:" in result.stderr


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*/experiment.yaml")), ids=lambda file: file.parent.name)
def test_the_examples_are_in_order(file: Path) -> None:
    found = lint([str(each) for each in sorted(file.parent.glob("*.yaml"))])
    assert not found.remarks
