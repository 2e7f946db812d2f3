from __future__ import annotations

from dataclasses import replace

import pytest

from bounceback.api.experiment import FaultEntry
from bounceback.cli.foresight import one_vehicle_foreseen
from bounceback.cli.outlook import Foreseen, Outlook
from bounceback.controller.prepare import one_vehicle_each
from bounceback.engine.model import PodInfo
from bounceback.engine.planning import Chosen
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.choice import against_host_network, choose_vehicle
from bounceback.vehicles.errors import Refused
from tests.unit.engine_values import pod

POD = PodInfo("shop", "web-0", "uid", "node-1", {}, ("10.0.0.1",), False, True, 0, None)
MIB = 1024 * 1024
POD_SECURITY = Refused("", "PodSecurity", 'violates PodSecurity "restricted:latest"')
AUTO, SIDECAR, NODE_POD = VehicleKind.AUTO, VehicleKind.SIDECAR, VehicleKind.NODE_POD


def test_auto_takes_the_sidecar_for_its_small_privilege() -> None:
    assert choose_vehicle(AUTO, POD, None) == (SIDECAR, "needs the fewest rights")


@pytest.mark.parametrize(
    ("pod", "refused", "why"),
    [
        (POD, POD_SECURITY, "Pod Security refuses a sidecar in pod web-0"),
        (POD, Refused("", "Unsupported", "static pods"), "the API server does not take a sidecar in pod web-0"),
        (replace(POD, finished_agents=3), None, "pod web-0 carries 3 finished agents already, and keeps them"),
        (
            replace(POD, memory_limit=64 * MIB - 1),
            None,
            "the memory limit of pod web-0 (63 MiB) leaves no room for an agent",
        ),
    ],
)
def test_auto_takes_a_node_pod_where_a_sidecar_is_refused_or_too_much(
    pod: PodInfo, refused: Refused | None, why: str
) -> None:
    assert choose_vehicle(AUTO, pod, refused) == (NODE_POD, why)


@pytest.mark.parametrize("pod", [replace(POD, finished_agents=2), replace(POD, memory_limit=64 * MIB)])
def test_auto_keeps_the_sidecar_up_to_the_bounds(pod: PodInfo) -> None:
    assert choose_vehicle(AUTO, pod, None)[0] is SIDECAR


def test_what_was_asked_is_taken_where_it_is_possible() -> None:
    assert choose_vehicle(SIDECAR, replace(POD, finished_agents=9), None) == (SIDECAR, "as asked")
    assert choose_vehicle(NODE_POD, POD, POD_SECURITY) == (NODE_POD, "as asked")


def test_what_only_the_node_reaches_takes_a_node_pod() -> None:
    assert choose_vehicle(AUTO, POD, None, Rung.PROXY, from_node=True)[0] is NODE_POD
    assert choose_vehicle(AUTO, POD, None, Rung.PROXY)[0] is SIDECAR


@pytest.mark.parametrize("rung", [Rung.NETEM, Rung.NODE, None])
def test_users_of_its_own_are_no_matter_where_no_proxy_is(rung: Rung | None) -> None:
    pod = replace(POD, own_users=True)
    assert choose_vehicle(AUTO, pod, None, rung) == choose_vehicle(AUTO, POD, None, rung)
    assert choose_vehicle(NODE_POD, pod, None, rung)[0] is NODE_POD


def test_rules_come_to_a_pod_with_users_of_its_own_by_a_sidecar() -> None:
    pod = replace(POD, own_users=True)
    for asked in (AUTO, SIDECAR):
        assert choose_vehicle(asked, pod, None, Rung.PROXY)[0] is SIDECAR


@pytest.mark.parametrize(
    ("asked", "pod", "refused", "from_node", "words"),
    [
        (NODE_POD, POD, None, False, "vehicle: Sidecar or Auto would do"),
        (AUTO, POD, POD_SECURITY, False, "but Pod Security refuses a sidecar in pod web-0"),
        (AUTO, replace(POD, finished_agents=3), None, False, "carries 3 finished agents already"),
        (AUTO, POD, None, True, "clients can be killed in pods without hostUsers: false"),
    ],
)
def test_and_where_that_cannot_be_it_is_refused_with_the_reason(
    asked: VehicleKind, pod: PodInfo, refused: Refused | None, from_node: bool, words: str
) -> None:
    with pytest.raises(Refused, match=words) as raised:
        choose_vehicle(asked, replace(pod, own_users=True), refused, Rung.PROXY, from_node=from_node)
    assert raised.value.reason == "OwnUsers"
    assert "hostUsers: false" in raised.value.message


@pytest.mark.parametrize(
    ("pod", "refused", "reason"),
    [(POD, POD_SECURITY, "PodSecurity"), (replace(POD, memory_limit=32 * MIB), None, "NoRoom")],
)
def test_an_asked_sidecar_that_is_impossible_is_refused_with_the_way_out(
    pod: PodInfo, refused: Refused | None, reason: str
) -> None:
    with pytest.raises(Refused, match="vehicle: NodePod or Auto would do") as raised:
        choose_vehicle(SIDECAR, pod, refused)
    assert raised.value.reason == reason


def test_in_a_nodes_own_network_only_its_own_packets_and_only_named_peers_are_hit() -> None:
    pod = replace(POD, host_network=True)
    assert not against_host_network(pod, Rung.NFT, peers=True)
    assert not against_host_network(pod, Rung.SOCKETS, peers=True)
    assert "name the peers, or the node is cut off" in against_host_network(pod, Rung.NFT, peers=False)
    for rung in (Rung.NETEM, Rung.TBF, Rung.RELAY):
        told = against_host_network(pod, rung, peers=True)
        assert told.endswith(f"passes through for other pods: {rung} cannot tell them apart; Nft and Sockets can")


@pytest.mark.parametrize("asked", [AUTO, SIDECAR, NODE_POD])
@pytest.mark.parametrize("reason", ["Forbidden", "AdmissionDenied", "TargetGone"])
def test_a_node_pod_is_no_way_around_missing_rights(asked: VehicleKind, reason: str) -> None:
    with pytest.raises(Refused) as raised:
        choose_vehicle(asked, POD, Refused("", reason, "no"))
    assert raised.value.reason == reason


@pytest.mark.parametrize("own_users", [False, True])
def test_faults_that_travel_together_do_not_take_rules_where_nobody_would_hear_them(own_users: bool) -> None:
    on = replace(pod("web-1"), own_users=own_users)
    api = FaultEntry.model_validate({"name": "api", "target": "web", "apiFault": {"answer": {"code": 503}}})
    disk = FaultEntry.model_validate({"name": "kill", "target": "web", "containerKill": {}})
    chosen = [Chosen(api, on, SIDECAR, "", Rung.PROXY), Chosen(disk, on, NODE_POD, "", Rung.NODE)]
    if own_users:
        with pytest.raises(Refused, match="another fault on it takes a NodePod") as raised:
            one_vehicle_each(chosen)
        assert raised.value.field == "spec.faults"
    else:
        assert [each.vehicle for each in one_vehicle_each(chosen)] == [NODE_POD, NODE_POD]


@pytest.mark.parametrize(("own_users", "beside", "refused"), [(True, "web-1", 1), (False, "web-1", 0), (True, "b", 0)])
def test_plan_foresees_which_faults_travel_together_and_which_cannot(
    own_users: bool, beside: str, refused: int
) -> None:
    outlook = Outlook("shop", "planned")
    outlook.faults["api"] = [Foreseen("web-1", "n", str(SIDECAR), "", str(Rung.PROXY))]
    outlook.faults["kill"] = [Foreseen(beside, "n", str(NODE_POD), "", str(Rung.NODE))]
    one_vehicle_foreseen(outlook, {"web-1": replace(pod("web-1"), own_users=own_users), "b": pod("b")})
    assert len(outlook.refusals) == refused
    assert all("put them in experiments of their own" in each for each in outlook.refusals)
    travels = NODE_POD if beside == "web-1" else SIDECAR
    assert [each.vehicle for each in outlook.faults["api"]] == [travels]
