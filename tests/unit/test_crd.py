"""The CRDs: generated, structural, within the API server's limits, and saying the same as the models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from bounceback.api import reference
from bounceback.api.crd import definition, files, main
from bounceback.api.kinds import KINDS, Kind
from bounceback.api.problems import parse
from bounceback.api.schema import SchemaError, structural
from bounceback.api.status import FaultExperimentStatus
from bounceback.types.fields import Model
from tests.spec_case import Case
from tests.spec_cases import CASES

Json = dict[str, Any]
CRDS = Path(__file__).parents[2] / "crds"
LIMIT = 220 * 1024
ONLY_WITH_STATUS = "once the run has started"
NAMED = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)


def root(kind: Kind) -> Json:
    schema: Json = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every part of a schema, with the way to it."""
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from nodes(schema[key], path + mark)


def test_what_is_committed_is_what_the_models_say(tmp_path: Path) -> None:
    main([str(tmp_path)])
    for name, text in files().items():
        assert (CRDS / name).read_text(encoding="utf-8") == text, "run `python -m bounceback.api.crd`"
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert {path.name for path in CRDS.glob("*.yaml")} == set(files())


def test_the_reference_is_what_the_models_say(tmp_path: Path) -> None:
    reference.main([str(tmp_path / "page.md")])
    committed = (CRDS.parent / "docs" / "reference.md").read_text(encoding="utf-8")
    assert committed == reference.page(), "run `python -m bounceback.api.reference`"
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == committed


@NAMED
def test_a_definition_is_small_enough_for_an_annotation(kind: Kind) -> None:
    """kubectl apply keeps it there as JSON without spaces; all annotations together may have 256 KiB."""
    whole = yaml.safe_load(files()[f"{kind.plural}.yaml"])
    assert len(json.dumps(whole, separators=(",", ":")).encode()) < LIMIT


@NAMED
def test_every_field_explains_itself(kind: Kind) -> None:
    silent = [
        path
        for path, node in nodes(root(kind))
        if path and not path.endswith(("[]", "{}", ".metadata")) and not node.get("description")
    ]
    assert not silent


@NAMED
def test_a_schema_is_structural(kind: Kind) -> None:
    forbidden = {"$ref", "$defs", "anyOf", "allOf", "oneOf", "title", "exclusiveMinimum", "exclusiveMaximum", "const"}
    for path, node in nodes(root(kind)):
        assert "type" in node or node.get("x-kubernetes-preserve-unknown-fields"), path
        assert not forbidden & set(node), path
        assert not ("properties" in node and "additionalProperties" in node), path
        assert node.get("default", 0) is not None, path


@NAMED
def test_every_list_map_number_and_text_of_a_spec_is_bounded(kind: Kind) -> None:
    for path, node in nodes(root(kind)["properties"]["spec"]):
        if "enum" in node or "type" not in node:
            continue
        needed = {
            "array": {"maxItems"},
            "string": {"maxLength"},
            "integer": {"minimum", "maximum"},
            "object": {"maxProperties"} if "additionalProperties" in node else set(),
            "boolean": set(),
        }[node["type"]]
        assert needed <= set(node), path


def test_a_field_whose_parts_have_defaults_gets_one_itself() -> None:
    spec = structural(KINDS[0].spec)["properties"]
    assert spec["steadyState"]["default"] == {}
    assert spec["steadyState"]["properties"]["holdSeconds"]["default"] == 5
    assert spec["deadlineSeconds"]["default"] == 3600
    assert "default" not in spec["faults"]["items"]["properties"]["podDelete"]


def test_lists_of_named_things_are_maps() -> None:
    spec = structural(KINDS[0].spec)["properties"]
    for name in ("targets", "faults", "checks"):
        assert spec[name]["x-kubernetes-list-type"] == "map"
        assert spec[name]["x-kubernetes-list-map-keys"] == ["name"]
    conditions = structural(FaultExperimentStatus)["properties"]["conditions"]
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]


def test_what_was_observed_is_kept_as_it_is() -> None:
    status = structural(FaultExperimentStatus)["properties"]
    assert status["observed"]["x-kubernetes-preserve-unknown-fields"] is True
    assert status["checks"]["items"]["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] is True


def test_a_status_carries_no_rules_that_could_stop_its_writer() -> None:
    for status in (kind.status for kind in KINDS if kind.status):
        assert not [p for p, n in nodes(structural(status, rules=False)) if "x-kubernetes-validations" in n]


def test_a_model_that_no_structural_schema_can_express_is_refused() -> None:
    class Odd(Model):
        either: int | str

    with pytest.raises(SchemaError, match=r"Odd\.either"):
        structural(Odd)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_the_models_refuse_what_the_api_server_refuses(case: Case) -> None:
    kind = next(kind for kind in KINDS if kind.kind == case.kind)
    _, problems = parse(kind.spec, case.spec)
    if not case.message:
        assert not problems
    else:
        assert any(case.message in problem.message for problem in problems), problems


def test_the_table_has_a_case_for_every_rule() -> None:
    said = "\n".join(case.message for case in CASES if case.message)
    for kind in KINDS:
        for path, node in nodes(root(kind)):
            for rule in node.get("x-kubernetes-validations", ()):
                if path:
                    assert any(_speaks_of(rule["message"], case) for case in CASES), (path, rule["message"], said)
                else:
                    assert ONLY_WITH_STATUS in rule["message"] or "cancel must stay true" in rule["message"]


def _speaks_of(message: str, case: Case) -> bool:
    return bool(case.message) and not case.schema_says and case.message in message


def test_names_columns_and_subresource() -> None:
    columns = {kind.kind: [column.name for column in kind.columns if not column.wide] for kind in KINDS}
    assert columns == {
        "FaultExperiment": ["Verdict", "Phase", "Detected", "Recovered", "Injection", "Age"],
        "RecoveryCheck": ["Ready", "State", "Availability", "Outages", "Longest", "Last", "Recovered", "Age"],
        "FaultPolicy": ["Faults", "Age"],
    }
    for kind in KINDS:
        document = yaml.safe_load(files()[f"{kind.plural}.yaml"])
        assert document["spec"]["names"]["categories"] == ["bounceback"]
        assert document["spec"]["scope"] == ("Namespaced" if kind.namespaced else "Cluster")
        assert document["spec"]["versions"][0].get("subresources") == ({"status": {}} if kind.status else None)
