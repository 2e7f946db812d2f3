"""Credential plug-ins of a kubeconfig: a program that says who asks, by a token or a client certificate (client-go's
`exec`, client.authentication.k8s.io)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from bounceback.cli.exits import CommandError

SECONDS: Final = 120.0
"""For somebody who has to be asked by it."""
SOONEST: Final = 1.0
EARLIER: Final = 60.0
"""Seconds before their end at which credentials are asked for anew, or a third of what is left where that is less."""
EXTENSION: Final = "client.authentication.k8s.io/exec"
OF_THE_CLUSTER: Final = (
    "server",
    "tls-server-name",
    "insecure-skip-tls-verify",
    "certificate-authority-data",
    "proxy-url",
    "disable-compression",
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a plug-in gave; never printed."""

    token: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    expires: datetime | None = None


def asked(plugin: Mapping[str, Any], cluster: Mapping[str, Any]) -> Credentials:
    """What the plug-in gives now. It may ask somebody who sits there. Raises CommandError."""
    command = [str(plugin.get("command", "")), *(plugin.get("args") or [])]
    try:
        answer = subprocess.run(command, env=_environment(plugin, cluster), stdout=subprocess.PIPE, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(plugin, str(error)) from error
    if answer.returncode:
        raise _failed(plugin, f"it ended with {answer.returncode}")
    try:
        status = json.loads(answer.stdout)["status"]
        expires = status.get("expirationTimestamp")
        found = Credentials(
            str(status.get("token") or ""),
            str(status.get("clientCertificateData") or ""),
            str(status.get("clientKeyData") or ""),
            datetime.fromisoformat(expires) if expires else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _failed(plugin, "what it printed is no ExecCredential with a status") from error
    if bool(found.certificate) != bool(found.key):
        raise _failed(plugin, "clientCertificateData and clientKeyData must be given together")
    if not found.certificate and not found.token:
        raise _failed(plugin, "it gave neither a token nor a client certificate")
    return found


def _environment(plugin: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, str]:
    spec: dict[str, Any] = {"interactive": sys.stdin.isatty() and plugin.get("interactiveMode") != "Never"}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = {key: cluster[key] for key in OF_THE_CLUSTER if cluster.get(key)}
        for extension in cluster.get("extensions") or []:
            if extension.get("name") == EXTENSION:
                spec["cluster"]["config"] = extension.get("extension")
    info = {"apiVersion": plugin.get("apiVersion"), "kind": "ExecCredential", "spec": spec}
    variables = {entry["name"]: entry["value"] for entry in plugin.get("env") or []}
    return {**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)}


def _failed(plugin: Mapping[str, Any], why: str) -> CommandError:
    hint = f" {plugin['installHint']}" if plugin.get("installHint") else ""
    return CommandError(f"the kubeconfig's credential plug-in {plugin.get('command')} failed: {why}{hint}")


def ends(certificate: bytes) -> datetime:
    """When a certificate is worth nothing any more. Raises ValueError for what is none."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate).not_valid_after_utc


def pause(credentials: Credentials, now: datetime) -> float | None:
    """Seconds until they are asked for anew, so that nobody comes with those that have expired; None: never."""
    times = [credentials.expires] if credentials.expires is not None else []
    if credentials.certificate:
        times.append(ends(credentials.certificate.encode()))
    if not times:
        return None
    left = (min(when if when.tzinfo else when.replace(tzinfo=UTC) for when in times) - now).total_seconds()
    return max(SOONEST, left - min(EARLIER, left / 3))
