"""A run with an authority of the namespace: what its clients see, and that its key is nowhere but in its own Secret."""

from __future__ import annotations

import base64
import json
import zlib

import pytest

from tests.commands import SYSTEM, Commands, Json, until
from tests.e2e.shops import AUTHORITY, example, shop

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.usefixtures("release")]

NAME = "web-expired"
RUN_SECONDS = 150


def written(commands: Commands, namespace: str) -> dict[str, str]:
    """All that can be read of a run, by where it stands; what is encoded is decoded."""
    found = {kind: commands.kubectl("get", kind, "-n", namespace, "-o", "json") for kind in ("pods", "events")}
    found["experiments"] = json.dumps(experiment(commands, namespace))
    for secret in commands.get("secrets", "-n", SYSTEM)["items"]:
        data = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
        record = [zlib.decompress(data["record"]).decode()] if "record" in data else []
        found[secret["metadata"]["name"]] = "\n".join([*record, *(repr(value) for value in data.values())])
    found["config maps"] = commands.kubectl("get", "configmaps", "-n", SYSTEM, "-o", "json")
    found["operator's pods"] = commands.kubectl("get", "pods", "-n", SYSTEM, "-o", "json")
    for pod in commands.get("pods", "-n", SYSTEM)["items"]:
        name = pod["metadata"]["name"]
        found[f"log of {name}"] = commands.kubectl("logs", "-n", SYSTEM, name, "--all-containers")
    for pod in commands.get("pods", "-n", namespace, "-l", "app=web")["items"]:
        name = pod["metadata"]["name"]
        found[f"log of {name}"] = commands.kubectl("logs", "-n", namespace, name, "--all-containers")
    return found


def experiment(commands: Commands, namespace: str) -> Json:
    return commands.get("faultexperiments", NAME, "-n", namespace)


def lines(pem: str) -> list[str]:
    return [line for line in pem.splitlines() if line and "-----" not in line]


def test_clients_see_an_expired_certificate_and_the_authoritys_key_is_nowhere(commands: Commands) -> None:
    with shop(commands, "web-secure", replicas=2) as namespace:
        secret = commands.get("secret", AUTHORITY, "-n", namespace)["data"]
        key = lines(base64.b64decode(secret["tls.key"]).decode())
        commands.apply(namespace, *example("A1.4-expired"))

        def hit() -> bool:
            return bool((experiment(commands, namespace).get("status") or {}).get("injectionCounts", {}).get("hits"))

        until(hit, "somebody was shown the certificate", RUN_SECONDS)
        places = written(commands, namespace)
        planned = [name for name, text in places.items() if "BEGIN PRIVATE KEY" in text]
        assert any(name.startswith("bounceback-journal-") for name in planned), "the journal has the bad one's own key"
        until(lambda: experiment(commands, namespace)["status"].get("verdict"), "a verdict", RUN_SECONDS)
        places |= {f"{name} at the end": text for name, text in written(commands, namespace).items()}
        assert key
        assert [name for name, text in places.items() if any(line in text for line in key)] == []
        status = experiment(commands, namespace)["status"]
        assert status["verdict"] == "Passed"
        for injection in status["injections"]:
            assert "alerts: certificate_expired" in injection["message"]
            assert "unknown_ca" not in injection["message"]


@pytest.mark.parametrize(
    ("secret", "message"),
    [("nobody", "must be allowed to get Secret nobody"), (AUTHORITY, f"there is no Secret {AUTHORITY}")],
)
def test_an_authority_that_cannot_be_had_is_refused_before_anything_is_touched(
    commands: Commands, secret: str, message: str
) -> None:
    with shop(commands, "web-secure", replicas=1) as namespace:
        commands.kubectl("delete", "secret", AUTHORITY, "-n", namespace)
        check, wanted = example("A1.4-expired")
        wanted["spec"]["faults"][0]["tlsFault"]["authority"]["secretName"] = secret
        wanted["spec"]["steadyState"] = {"holdSeconds": 1, "timeoutSeconds": 5}
        commands.apply(namespace, check, wanted)

        def told() -> Json:
            status: Json = experiment(commands, namespace).get("status") or {}
            return status if "authority.secretName" in json.dumps(status) else {}

        status = until(told, "it is refused", RUN_SECONDS)
        assert message in json.dumps(status)
        assert not status.get("injections")
