"""The API server goes and comes back, and its authority gives way to another one: armed pods and the operator go on."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from bounceback.vehicles.arming import ARM_LABEL, PROXY, TOKEN_PLACE
from dev.rotation import Rotation
from dev.state import Cluster
from tests.commands import SYSTEM, Commands, Json, until
from tests.conftest import run_dev
from tests.e2e.armed_clients import check, clients, experiment
from tests.e2e.arming import READY, arming, client_pod
from tests.e2e.test_arming import ASKING

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

NAME: Final = "rotation"
THROTTLED: Final = {
    "apiFault": {
        "requests": [{"verbs": ["update"], "resources": ["configmaps"]}],
        "answer": {"code": 429, "retryAfterSeconds": 2},
    }
}
BARE: Final = "bare"
"""Has no proxy, and read its authority when it began."""
ARMED: Final = "armed"


@dataclass(frozen=True)
class Place:
    commands: Commands
    namespace: str

    def lines(self, name: str) -> list[str]:
        return self.commands.kubectl("logs", "-n", self.namespace, name, "-c", "main").splitlines()

    def goes_on(self, name: str) -> None:
        """It is answered again, several times."""
        before = len(self.lines(name))
        until(lambda: self.lines(name)[before:][-5:] == ["ok"] * 5, f"{name} goes on", READY)

    def trusted(self, name: str, container: str) -> str:
        """The authorities that this container trusts; nothing while the kubelet cannot be asked."""
        words = ["-c", container, "--", "python3", "-c", f"print(open('{TOKEN_PLACE}/ca.crt').read())"]
        return self.commands.ask("kubectl", "exec", "-n", self.namespace, name, *words).out

    def starts(self) -> dict[str, int]:
        """How often each container of the clients and of the operator was started again."""
        pods = [
            *self.commands.get("pods", "-n", self.namespace)["items"],
            *self.commands.get("pods", "-n", SYSTEM, "-l", "app.kubernetes.io/component=operator")["items"],
        ]
        return {
            f"{pod['metadata']['uid']}/{each['name']}": each["restartCount"]
            for pod in pods
            for each in (*pod["status"].get("initContainerStatuses", ()), *pod["status"]["containerStatuses"])
        }

    def experiment_passes(self, name: str) -> None:
        """Through all of it: the operator's requests, watches, exec and logs, and the armed pod's proxy."""
        body = experiment("patient", **THROTTLED)
        body["metadata"]["name"] = name
        self.commands.apply(self.namespace, body)

        def status() -> Json:
            return dict(self.commands.get("faultexperiment", name, "-n", self.namespace).get("status") or {})

        until(lambda: status().get("phase") == "Finished", f"{name} is finished", 2 * READY)
        assert (status()["verdict"], status()["axes"]["cleanup"]) == ("Passed", "Clean"), status()

    def restart_api_server(self) -> None:
        for action in ("stop", "start"):
            run_dev("dev", f"{action}-apiserver", "--name", NAME)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A cluster of its own, which another authority than the one that it began with does no harm."""
    path = run_dev("dev", "up", "--name", NAME)
    try:
        commands = Commands.of(path)
        if not commands.programs:
            pytest.skip("this cluster's authority is not ours to replace")
        run_dev("dev", "load-image", "--name", NAME, run_dev("dev.image", "build"))
        with arming(commands), clients(commands) as namespace:
            script = ASKING.replace("NAMESPACE", namespace)
            unarmed = {"labels": {ARM_LABEL: "disabled"}}
            pods = [
                client_pod(ARMED, "python3", "-c", script),
                client_pod(BARE, "python3", "-c", script, **unarmed),
            ]
            verbs = ["--verb=get,list,watch", "--resource=configmaps"]
            who = f"--serviceaccount={namespace}:default"
            commands.kubectl("create", "role", "reader", "-n", namespace, *verbs)
            commands.kubectl("create", "rolebinding", "reader", "-n", namespace, "--role=reader", who)
            commands.apply(namespace, check("patient"), *pods)
            made = Place(commands, namespace)
            for name in (ARMED, BARE):
                ready = ["--for=condition=Ready", f"--timeout={READY}s"]
                commands.kubectl("wait", "-n", namespace, f"pod/{name}", *ready)
                made.goes_on(name)
            yield made
    finally:
        run_dev("dev", "down", "--name", NAME)


def test_armed_pods_and_the_operator_come_back_after_the_api_server(place: Place) -> None:
    before = place.starts()
    place.restart_api_server()
    for name in (ARMED, BARE):
        place.goes_on(name)
    assert any(line.startswith("failed") for line in place.lines(ARMED)), "it was away"
    place.experiment_passes("after-the-api-server")
    assert place.starts() == before


def test_armed_pods_and_the_operator_go_on_while_the_cluster_s_authority_is_replaced(place: Place) -> None:
    before, failures = place.starts(), failed(place.lines(ARMED))
    rotation = Rotation(Cluster(NAME))
    rotation.trust_both()
    known(place, rotation.old, rotation.new)
    rotation.serve_by_the_next()
    until(lambda: issuer(place.commands.kubeconfig) == "CN=bounceback-dev-next", "it shows its new certificate", READY)
    place.experiment_passes("served-by-the-next")
    rotation.trust_the_next_alone()
    known(place, rotation.new)
    place.goes_on(ARMED)
    assert failed(place.lines(ARMED)) == failures, "nobody in an armed pod has noticed"
    place.restart_api_server()  # who has a connection of before has it no more
    place.goes_on(ARMED)
    place.experiment_passes("trusting-the-next-alone")
    assert place.lines(BARE)[-3:] == ["failed ClientConnectorCertificateError"] * 3, "without a proxy it would not"
    assert place.starts() == before


def known(place: Place, *authorities: bytes) -> None:
    """The kubelet has told all pods, and the armed pod's proxy its clients."""
    wanted = [each.decode().strip() for each in authorities]

    def told(name: str, container: str, namespace: str = place.namespace) -> bool:
        found = place.trusted(name, container).strip()
        return found.endswith("\n".join(wanted)) and found.count("BEGIN") - len(wanted) == (container == "main")

    until(lambda: told(ARMED, PROXY), "the kubelet tells the proxy", READY)
    until(lambda: told(ARMED, "main"), "the proxy tells its clients", READY)


def failed(lines: list[str]) -> int:
    return len([line for line in lines if line != "ok"])


def issuer(kubeconfig: str) -> str:
    """Who vouches for the API server."""
    server = urlsplit(json.loads(Path(kubeconfig).read_text())["clusters"][0]["cluster"]["server"])
    shown = ssl.get_server_certificate((str(server.hostname), int(server.port or 0)))
    return x509.load_pem_x509_certificate(shown.encode()).issuer.rfc4514_string()
