"""The proxy of an armed pod: what it is told by its pod, and what it tells of the clients."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bounceback.gate.__main__ import main
from bounceback.gate.observing import MOST_KINDS, Observers, compact
from bounceback.gate.places import Places
from bounceback.proxy.api.behavior import Behavior
from bounceback.types.api_request import read

KUBELETS = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def test_the_pod_says_where_things_are() -> None:
    found = Places.of(KUBELETS)
    assert (found.host, found.port, found.listen) == ("10.96.0.1", 443, 15443)
    assert found.authority == Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
    assert (found.trusted, found.kept) == (Path("/bounceback/ca/ca.crt"), Path("/bounceback/key"))
    assert found.links == ("namespace", "token")


def test_what_the_pod_says_goes() -> None:
    found = Places.of(KUBELETS | {"BOUNCEBACK_GATE_PORT": "16443", "BOUNCEBACK_GATE_LINKS": "token,,more"})
    assert (found.listen, found.links) == (16443, ("token", "more"))


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"KUBERNETES_SERVICE_PORT": ""}, "environment"),
        ({"KUBERNETES_SERVICE_HOST": "::1", "KUBERNETES_SERVICE_PORT": "15443"}, "own"),
        ({"BOUNCEBACK_GATE_PORT": "65536"}, "a port"),
        ({"BOUNCEBACK_GATE_PORT": "0"}, "a port"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, str], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        Places.of(KUBELETS | changed)


def test_each_experiment_sees_what_came_in_its_time() -> None:
    observers, request = Observers(), read("GET", "/api/v1/namespaces/shop/pods")
    observers.asked(request, 1, 1.0)
    first = observers.add()
    observers.asked(request, 2, 2.0)
    second = observers.add()
    observers.asked(request, 3, 3.0)
    observers.remove(first)
    observers.asked(request, 4, 4.0)
    assert [each.report(5.0)["requests"] for each in (first, second)] == [2, 2]


def test_a_report_is_told_without_what_is_nothing() -> None:
    behavior = Behavior()
    for number in range(MOST_KINDS + 4):
        for _ in range(number + 1):
            behavior.asked(read("GET", f"/apis/test/v1/kind{number:02}"), number, 1.0)
    told = compact(behavior.report(2.0))
    assert told["requests"] == sum(range(1, MOST_KINDS + 5))
    assert len(told["kinds"]) == MOST_KINDS
    assert told["kinds"][0]["count"] == MOST_KINDS + 4
    text = json.dumps(told)
    for nothing in (": 0,", ": {}", ": []", ": null", '""'):
        assert nothing not in text


def test_a_word_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve"]) == 2
    assert "usage" in capsys.readouterr().err


def test_its_memory_is_not_spent_on_what_it_does_not_need() -> None:
    """It is in somebody else's pod for as long as that lives."""
    heavy = ("cryptography", "aiohttp", "pydantic", "kubernetes", "kopf", "yaml", "dns")
    code = f"import sys, bounceback.gate.serve; sys.exit(' '.join({{*{heavy}}} & set(sys.modules)))"
    operator = str(Path(__file__).resolve().parents[2] / "operator")
    environment = os.environ | {"PYTHONPATH": operator}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
