"""Where the cluster is and who asks: the user's kubeconfig, as kubectl reads it, for pykube."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pykube
import urllib3
import yaml
from pykube.http import KubernetesHTTPAdapter

from bounceback.cli.exec_plugin import Credentials, asked
from bounceback.cli.exits import CommandError

Json = dict[str, Any]
FILES: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PARTS: Final = ("clusters", "users", "contexts")


def load(path: str | None, context: str | None) -> pykube.KubeConfig:
    """From the file named, else KUBECONFIG (several are merged), else ~/.kube/config, else the pod's account.

    Raises CommandError when there is none, or no such context.
    """
    files = places(path)
    present = [file for file in files if file.is_file()]
    if not present:
        if not path and not os.environ.get("KUBECONFIG") and (ACCOUNT / "token").is_file():
            return _of_pod()
        raise CommandError(
            f"there is no kubeconfig at {', '.join(map(str, files))}; name one with --kubeconfig or in KUBECONFIG"
        )
    document = _merged([_read(file) for file in present])
    known = [entry["name"] for entry in document["contexts"]]
    chosen = context or document.get("current-context")
    if chosen not in known:
        asked = f"context {chosen!r} is not in the kubeconfig" if chosen else "the kubeconfig has no current context"
        raise CommandError(f"{asked}; --context must be one of {', '.join(known) or '(it has none)'}")
    return pykube.KubeConfig(document, chosen)


def places(path: str | None) -> list[Path]:
    """Where kubeconfigs are read from, whether they are there or not."""
    named = [path] if path else [p for p in os.environ.get("KUBECONFIG", "").split(os.pathsep) if p]
    return [Path(p).expanduser() for p in named] or [Path("~/.kube/config").expanduser()]


def _of_pod() -> pykube.KubeConfig:
    """The pod's account, with the file that the kubelet refreshes instead of the token that is in it now."""
    config = pykube.KubeConfig.from_service_account(str(ACCOUNT))
    config.doc["users"] = [{"name": "self", "user": {"tokenFile": str(ACCOUNT / "token")}}]
    return config


def _read(file: Path) -> Json:
    """One file, with the paths in it made absolute: they are relative to it, and so are plug-ins but bare names."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CommandError(f"{file} cannot be read as a kubeconfig: {error}") from error
    if not isinstance(document, dict):
        raise CommandError(f"{file} is not a kubeconfig: it must be a mapping with clusters, users and contexts")
    for part in PARTS:
        for entry in document.get(part) or []:
            inner = entry.get(part.removesuffix("s")) or {}
            for key in FILES:
                if inner.get(key):
                    inner[key] = str(file.parent.absolute() / inner[key])
            plugin = inner.get("exec") or {}
            if os.sep in plugin.get("command", ""):
                plugin["command"] = str(file.parent.absolute() / plugin["command"])
    return document


def _merged(documents: list[Json]) -> Json:
    """As kubectl merges: the first file that names a thing has its way."""
    merged: Json = {part: [] for part in PARTS}
    for document in documents:
        for part in PARTS:
            known = {entry["name"] for entry in merged[part]}
            merged[part] += [entry for entry in document.get(part) or [] if entry["name"] not in known]
        if document.get("current-context"):
            merged.setdefault("current-context", document["current-context"])
    return merged


class Adapter(KubernetesHTTPAdapter):  # type: ignore[misc]  # pykube is not typed
    """pykube's, and two kinds of credentials that it lacks: exec plug-ins of version v1, and token files."""

    _held: Credentials | None = None

    def _setup_request_auth(self, config: pykube.KubeConfig, request: Any, kwargs: Json) -> Any:
        user = config.user
        if "exec" in user:
            if (token := self._of_plugin(user["exec"], config).token) != "":
                request.headers["Authorization"] = f"Bearer {token}"
            return None
        if user.get("tokenFile") and not user.get("token"):
            request.headers["Authorization"] = f"Bearer {Path(user['tokenFile']).read_text(encoding='utf-8').strip()}"
            return None
        return super()._setup_request_auth(config, request, kwargs)

    def _of_plugin(self, plugin: Mapping[str, Any], config: pykube.KubeConfig) -> Credentials:
        """The plug-in is asked anew only when what it gave has expired."""
        held = self._held
        if held is None or (held.expires is not None and datetime.now(UTC) >= held.expires):
            held = self._held = asked(plugin, config.cluster)
            if held.certificate:
                self._hold_certificate(held.certificate, held.key)
        return held

    def _hold_certificate(self, certificate: str, key: str) -> None:
        """pykube sends `self.cert` and `self.key`, temporary files that only we can read."""
        self.cert = tempfile.NamedTemporaryFile(mode="w")  # noqa: SIM115 - as long as the connection lives
        self.key = tempfile.NamedTemporaryFile(mode="w")  # noqa: SIM115
        for file, text in ((self.cert, certificate), (self.key, key)):
            file.write(text)
            file.flush()


def client(config: pykube.KubeConfig) -> pykube.HTTPClient:
    """A connection; where the kubeconfig asks for no verification, nobody is warned at every request.

    Raises CommandError where the context names a cluster or a user that is not there, or files that are not.
    """
    try:
        cluster, _ = config.cluster, config.users[config.contexts[config.current_context]["user"]]
    except KeyError as error:
        told = f"context {config.current_context} of the kubeconfig needs {error}, which is not in it"
        raise CommandError(told) from error
    except pykube.PyKubeError as error:
        raise CommandError(f"the kubeconfig cannot be used: {error}") from error
    if cluster.get("insecure-skip-tls-verify"):
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return pykube.HTTPClient(copy.copy(config), timeout=30, http_adapter=Adapter(config))
