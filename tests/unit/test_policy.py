"""What policies allow: nothing without one, and what several allow adds up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.policy import FaultPolicySpec
from bounceback.api.status import FaultExperimentStatus
from bounceback.cli.linting import lint
from bounceback.cli.main import main
from bounceback.engine.ending import ended
from bounceback.engine.policy import Labelled, NodeUse, Policy, withheld
from bounceback.engine.state import Seen, State
from bounceback.faults import KINDS
from bounceback.faults.node_cordon import NodeCordon
from bounceback.faults.node_fault import NodeFault, NodeFaultKind
from bounceback.types.instants import Instant
from bounceback.types.outcome import Phase, Verdict
from tests.spec_case import EXPERIMENT, POLICY

SHOP = Labelled("shop", {"kubernetes.io/metadata.name": "shop", "team": "shop"})
ONE, TWO = Labelled("node-1", {"pool": "chaos"}), Labelled("node-2", {"pool": "chaos"})
MAIN = Labelled("node-9", {"pool": "main"})
CORDON, DRAIN = NodeFaultKind.NODE_CORDON, NodeFaultKind.NODE_DRAIN


def policy(name: str = "p", namespaces: dict[str, Any] | None = None, **nodes: Any) -> Policy:
    spec = {
        "experiments": {"namespaces": namespaces or {"names": ["shop"]}},
        "allow": {"nodes": {"faults": ["nodeCordon"], **nodes}},
    }
    return Policy(name, FaultPolicySpec.model_validate(spec))


def against(policies: list[Policy], *uses: tuple[NodeFaultKind, Labelled], namespace: Labelled = SHOP) -> str:
    """Why not; "" where it is allowed."""
    found = withheld(policies, namespace, [NodeUse(str(fault), fault, node) for fault, node in uses])
    return found.words if found else ""


def test_without_a_policy_nothing_is_allowed_and_the_way_out_is_told() -> None:
    words = against([], (CORDON, ONE))
    assert words == (
        "no FaultPolicy allows nodeCordon on node node-1: of 0 policies none is for namespace shop; "
        "who looks after the cluster can allow it with a FaultPolicy (docs/policy.md)"
    )


def test_a_policy_is_for_its_namespaces_by_name_or_by_label() -> None:
    by_name, by_label = policy(names=["node-1"]), policy(namespaces={"selector": {"matchLabels": {"team": "shop"}}},
                                                         names=["node-1"])  # fmt: skip
    other = Labelled("other", {"team": "other"})
    for each in (by_name, by_label):
        assert not against([each], (CORDON, ONE))
        assert "of 1 policies none is for namespace other" in against([each], (CORDON, ONE), namespace=other)


@pytest.mark.parametrize(
    ("allowed", "use", "why"),
    [
        ({"names": ["node-2"]}, (CORDON, ONE), "p is about nodes node-2"),
        ({"selector": {"matchLabels": {"pool": "chaos"}}}, (CORDON, MAIN), "p is about nodes pool=chaos"),
        ({"names": ["node-1"]}, (DRAIN, ONE), "p is about nodeCordon"),
    ],
)
def test_what_it_is_not_about_it_does_not_allow(
    allowed: dict[str, Any], use: tuple[NodeFaultKind, Labelled], why: str
) -> None:
    assert why in against([policy(**allowed)], use)


def test_several_policies_add_up() -> None:
    one, two = policy("one", names=["node-1"]), policy("two", names=["node-2"], faults=["nodeDrain"])
    assert not against([one, two], (CORDON, ONE), (DRAIN, TWO))
    assert "one is about nodes node-1; two is about nodeDrain" in against([one, two], (CORDON, TWO))


def test_more_nodes_than_the_policy_allows_are_none() -> None:
    bounded = policy(selector={"matchLabels": {"pool": "chaos"}}, maxCount=1, faults=["nodeCordon", "nodeDrain"])
    assert not against([bounded], (CORDON, ONE), (DRAIN, ONE))
    assert "1 of these nodes at most, and the experiment wants 2" in against([bounded], (CORDON, ONE), (CORDON, TWO))
    assert not against([bounded, policy("more", names=["node-2"])], (CORDON, TWO))


def test_a_policy_knows_every_fault_on_nodes() -> None:
    known = {kind.kind for kind in KINDS if issubclass(kind, NodeFault)}
    assert known == set(NodeFaultKind) - {NodeFaultKind.HOST_NETWORK}  # which faults that is about, the pod says


def test_what_is_no_longer_allowed_ends_the_run() -> None:
    spec = FaultExperimentSpec.model_validate(EXPERIMENT)
    state = State(FaultExperimentStatus(phase=Phase.ACTIVE))
    found = ended(spec, state, Seen(withdrawn="no FaultPolicy allows it"), Instant("boot", 0, 0.0))
    assert found is not None
    assert (found.verdict, found.reason) == (Verdict.ABORTED, "NotAllowed")
    assert found.message == "what was allowed is withdrawn: no FaultPolicy allows it"


def test_a_cordon_changes_one_field_and_is_refused_where_others_have_cordoned() -> None:
    node: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node-1", "uid": "u", "resourceVersion": "1", "managedFields": [{}]},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"images": ["a lot"]},
    }
    (change,) = NodeCordon().changes(node)
    assert change.before is not None
    assert change.after == {**change.before, "spec": {"podCIDR": "10.0.0.0/24", "unschedulable": True}}
    assert "status" not in change.before
    node["spec"]["unschedulable"] = True
    with pytest.raises(ValueError, match="cordoned already, by others"):
        NodeCordon().changes(node)


def manifest(kind: str, name: str, spec: dict[str, Any], **metadata: str) -> dict[str, Any]:
    return {"apiVersion": "bounceback.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **metadata}, "spec": spec}


CORDONED = {
    **EXPERIMENT,
    "targets": [{"name": "web", "nodes": {"names": ["node-1"]}}],
    "faults": [{"name": "cordon", "target": "web", "nodeCordon": {}}],
}


def remarks(folder: Path, *objects: dict[str, Any]) -> list[str]:
    file = folder / "given.yaml"
    file.write_text(yaml.safe_dump_all(objects, sort_keys=False))
    return [str(remark).removeprefix(str(file)) for remark in lint([str(file)]).remarks]


def test_lint_tells_of_faults_that_no_policy_of_the_files_allows(tmp_path: Path) -> None:
    experiment = manifest("FaultExperiment", "cordon", CORDONED, namespace="shop")
    assert "FaultPolicy" in "\n".join(remarks(tmp_path, experiment))
    assert "FaultPolicy" not in "\n".join(remarks(tmp_path, experiment, manifest("FaultPolicy", "p", POLICY)))
    others = {**POLICY, "experiments": {"namespaces": {"names": ["other"]}}}
    assert "FaultPolicy" in "\n".join(remarks(tmp_path, experiment, manifest("FaultPolicy", "p", others)))


def test_lint_refuses_a_policy_in_a_namespace(tmp_path: Path) -> None:
    (told,) = remarks(tmp_path, manifest("FaultPolicy", "p", POLICY, namespace="shop"))
    assert told.endswith("metadata.namespace: must not be given: a FaultPolicy is of the whole cluster")


def test_the_rights_on_nodes_are_printed_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["access", "shop", "--nodes"]) == 0
    printed = [each for each in yaml.safe_load_all(capsys.readouterr().out) if each["kind"].startswith("ClusterRole")]
    assert [each["kind"] for each in printed] == ["ClusterRole", "ClusterRoleBinding"]
    assert printed[0]["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch", "patch"]}
    ]
    assert printed[1]["subjects"] == [{"kind": "ServiceAccount", "name": "bounceback", "namespace": "shop"}]
