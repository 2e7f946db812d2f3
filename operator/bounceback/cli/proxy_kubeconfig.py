"""The kubeconfig that `bounceback proxy --kubeconfig` reads, and the one that it writes for its clients.

Who asks stays who asks: tokens and credential plug-ins are handed on as they are, so that each client brings its own.
A client certificate cannot pass through a proxy that reads what is said; the proxy then holds the user's own for the
API server, and clients get one that is good for the proxy alone.
"""

from __future__ import annotations

import base64
import copy
import os
import ssl
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from cryptography import x509
from pykube import KubeConfig

from bounceback.cli.exec_plugin import Credentials, asked, pause
from bounceback.cli.exits import CommandError
from bounceback.proxy.api.contexts import towards
from bounceback.proxy.api.gate import Upstream
from bounceback.proxy.api.loopback import Loopback
from bounceback.proxy.shown import load

Json = dict[str, Any]
Mark = tuple[int, int, int]
NOT_FOR_CLIENTS: Final = ("client-certificate", "client-certificate-data", "client-key", "client-key-data")
OF_THE_SERVER: Final = (
    "certificate-authority",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
    "tls-server-name",
    "server",
)


@dataclass(frozen=True, slots=True)
class Access:
    """One context of a kubeconfig."""

    name: str
    context: Json
    cluster: Json
    user: Json = field(repr=False)
    held: Credentials | None = None
    """By its credential plug-in, where that gives a certificate: the proxy asks it then, and not its clients."""

    @classmethod
    def of(cls, config: KubeConfig) -> Access:
        """Of its current context. Raises CommandError where that names what is not there, or what cannot be."""
        chosen = config.current_context
        context = _named(config.doc, "contexts", "context", chosen)
        cluster = _named(config.doc, "clusters", "cluster", context.get("cluster"))
        user = _named(config.doc, "users", "user", context.get("user")) if context.get("user") else {}
        if cluster.get("proxy-url"):
            raise CommandError(f"--kubeconfig: cluster {context['cluster']}: proxy-url must be unset")
        return cls(chosen, context, cluster, user)

    @property
    def certificate(self) -> bytes | None:
        """The user's, in PEM; None where there is none."""
        return self.held.certificate.encode() if self.held is not None else _content(self.user, "client-certificate")

    @property
    def with_certificate(self) -> bool:
        """Whether the kubeconfig has one."""
        return any(self.user.get(name) for name in NOT_FOR_CLIENTS)

    def asked(self) -> Access:
        """With what the user's credential plug-in gives now, where that is a certificate. Raises CommandError."""
        if not (plugin := self.user.get("exec")):
            return self
        found = asked(plugin, self._shown())
        return replace(self, held=found if found.certificate else None)

    def pause(self) -> float | None:
        """Seconds until the plug-in is to be asked anew; None: never, or its clients do."""
        return pause(self.held, datetime.now(UTC)) if self.held is not None else None

    def _shown(self) -> Json:
        """The cluster, as plug-ins are told of it."""
        authority = _content(self.cluster, "certificate-authority")
        return self.cluster | ({"certificate-authority-data": _encoded(authority)} if authority else {})

    def marks(self, files: Iterable[Path]) -> tuple[Mark, ...]:
        """Of these, and of the files that `upstream` reads: others when one of them was written anew."""
        parts = [(self.cluster, "certificate-authority"), (self.user, "client-certificate"), (self.user, "client-key")]
        named = [Path(entry[name]) for entry, name in parts if entry.get(name)]
        return tuple(_mark(file) for file in (*files, *named))

    def upstream(self) -> Upstream:
        """The API server, with the user's certificate where there is one. Raises CommandError."""
        url = urlsplit(str(self.cluster.get("server", "")))
        if url.scheme not in ("https", "http") or not url.hostname:
            raise CommandError(f"--kubeconfig: cluster {self.context['cluster']}: server must be an http(s) URL")
        tls = self._tls() if url.scheme == "https" else None
        port = url.port or (443 if tls is not None else 80)
        return Upstream(url.hostname, port, tls, str(self.cluster.get("tls-server-name", "")), url.path.rstrip("/"))

    def _tls(self) -> ssl.SSLContext:
        try:
            context = towards(_content(self.cluster, "certificate-authority"))
            if self.cluster.get("insecure-skip-tls-verify"):
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if (certificate := self.certificate) is not None:
                load(context, certificate, self._key())
        except (ssl.SSLError, ValueError) as error:
            raise CommandError(
                f"--kubeconfig: context {self.name}: its certificates cannot be used: {error}"
            ) from error
        return context

    def _key(self) -> bytes:
        return self.held.key.encode() if self.held is not None else _content(self.user, "client-key") or b""

    def through(self, port: int, loopback: Loopback) -> Json:
        """The kubeconfig of who goes through the proxy at that port."""
        path = urlsplit(str(self.cluster["server"])).path.rstrip("/")
        cluster = {key: value for key, value in self.cluster.items() if key not in OF_THE_SERVER}
        cluster["server"] = f"https://127.0.0.1:{port}{path}"
        cluster["certificate-authority-data"] = _encoded(loopback.authority)
        user = {key: copy.deepcopy(value) for key, value in self.user.items() if key not in NOT_FOR_CLIENTS}
        if self.held is not None:
            del user["exec"]  # what it gives could not pass through
        if (certificate := self.certificate) is not None:
            ours, key = loopback.client(x509.load_pem_x509_certificate(certificate).subject)
            user |= {"client-certificate-data": _encoded(ours), "client-key-data": _encoded(key)}
        names = {"cluster": f"{self.name}-bounceback", "user": f"{self.name}-bounceback"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": names["cluster"], "cluster": cluster}],
            "users": [{"name": names["user"], "user": user}],
            "contexts": [{"name": self.name, "context": {**self.context, **names}}],
            "current-context": self.name,
        }


def write(path: Path, document: Json) -> None:
    """For its owner alone, whole or not at all. Raises CommandError."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    except OSError as error:
        raise CommandError(f"--write-kubeconfig {path}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yaml.safe_dump(document, file, sort_keys=False)
        Path(name).replace(path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise CommandError(f"--write-kubeconfig {path}: cannot be written: {error.strerror}") from error


def _mark(file: Path) -> Mark:
    try:
        found = file.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _named(document: Json, part: str, inner: str, name: str | None) -> Json:
    for entry in document.get(part) or []:
        if entry.get("name") == name:
            return dict(entry.get(inner) or {})
    raise CommandError(f"--kubeconfig: {inner} {name!r} is not in it")


def _content(entry: Json, field: str) -> bytes | None:
    if data := entry.get(f"{field}-data"):
        try:
            return base64.b64decode(data, validate=True)
        except ValueError as error:
            raise CommandError(f"--kubeconfig: {field}-data must be base64") from error
    if path := entry.get(field):
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise CommandError(f"--kubeconfig: {field} {path}: cannot be read: {error.strerror}") from error
    return None


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
