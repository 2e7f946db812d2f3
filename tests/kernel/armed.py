"""An armed pod: a network namespace with a real proxy in it, clients beside it, and something like an API server."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bounceback.drivers.netns import Netns
from bounceback.types.gate import ADDRESS
from tests.kernel.lab import ONE, OPERATOR

API_PORT = 6443
GATE_PORT = 15443
PODS = "/api/v1/namespaces/shop/pods"
PATIENCE = 20.0


class Authority:
    """The cluster's, made for a test; it signs for the API server."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kubernetes")])
        now = datetime.now(UTC)
        self._begun = (
            x509.CertificateBuilder()
            .issuer_name(name)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )
        own = self._begun.subject_name(name).public_key(self._key.public_key()).serial_number(1)
        self.pem = self._signed(own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True))

    def context(self, folder: Path, *addresses: str) -> ssl.SSLContext:
        """What a server at these addresses listens with."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address)) for address in addresses])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kube-apiserver")])
        builder = self._begun.subject_name(subject).public_key(key.public_key())
        certificate = self._signed(builder.serial_number(x509.random_serial_number()).add_extension(names, False))
        own = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = folder / "server.pem"
        file.write_bytes(own + certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _signed(self, builder: x509.CertificateBuilder) -> bytes:
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class _Handler(BaseHTTPRequestHandler):
    """Answers everything with what was asked; a watch with an event that never ends."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "watch=true" in self.path:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            event = json.dumps({"type": "ADDED", "object": {"kind": "Pod", "metadata": {"name": "web-0"}}}).encode()
            self.wfile.write(b"%x\r\n%b\n\r\n" % (len(event) + 1, event))
            with contextlib.suppress(OSError):
                self.rfile.read(1)
            return
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._answer()

    def _answer(self) -> None:
        body = json.dumps({"asked": self.path, "as": self.headers.get("Authorization", "")}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@contextlib.contextmanager
def api_server(where: Netns, context: ssl.SSLContext, address: str = ONE) -> Iterator[None]:
    with where.entered():
        server = _Server((address, API_PORT), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class Armed:
    """The pod's proxy, and what it was given."""

    where: Netns
    folder: Path
    authority: Authority
    upstream: str = ONE
    process: subprocess.Popen[str] | None = None
    changed: dict[str, str] = field(default_factory=dict)  # in its environment

    def prepare(self) -> None:
        """The folders that the pod's volumes would be."""
        for name in ("account", "shown", "kept"):
            (self.folder / name).mkdir()
        self.give(self.authority)

    def give(self, authority: Authority) -> None:
        """As the kubelet does it: the file is another one then."""
        new = self.folder / "account" / ".ca.crt"
        new.write_bytes(authority.pem)
        new.rename(self.folder / "account" / "ca.crt")

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PYTHONPATH": f"{OPERATOR}:{os.environ.get('PYTHONPATH', '')}",
            "KUBERNETES_SERVICE_HOST": self.upstream,
            "KUBERNETES_SERVICE_PORT": str(API_PORT),
            **{f"BOUNCEBACK_GATE_{name.upper()}": str(self.folder / name) for name in ("account", "shown", "kept")},
            **self.changed,
        }

    def start(self, among: tuple[str, ...] = ()) -> None:
        """By that command, and wait until it says that it is ready."""
        with self.where.entered():
            self.process = subprocess.Popen(
                [*among, sys.executable, "-m", "bounceback.gate"],
                env=self.environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        end = time.monotonic() + PATIENCE
        while (probe := self.ready()).returncode:
            assert self.process.poll() is None, self.complaints()
            assert time.monotonic() < end, probe.stderr
            time.sleep(0.05)

    def ready(self) -> subprocess.CompletedProcess[str]:
        with self.where.entered():
            return subprocess.run(
                [sys.executable, "-m", "bounceback.gate", "ready"],
                env=self.environment,
                capture_output=True,
                text=True,
                check=False,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(PATIENCE)

    def complaints(self) -> str:
        """All that it said, once it has ended."""
        assert self.process is not None
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def close(self) -> None:
        if self.process is not None:
            if self.process.poll() is None:
                self.process.kill()
            self.process.wait(PATIENCE)
            assert self.process.stderr is not None
            self.process.stderr.close()

    # Clients of the pod

    def client(self, seconds: float = PATIENCE) -> http.client.HTTPSConnection:
        """As the pod's other containers connect: to loopback, with what is shown to them as authority."""
        context = ssl.create_default_context(cafile=str(self.folder / "shown" / "ca.crt"))
        with self.where.entered():
            sock = socket.create_connection(("127.0.0.1", GATE_PORT), timeout=seconds)
        connection = http.client.HTTPSConnection("127.0.0.1", GATE_PORT, context=context)
        connection.sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
        return connection

    def ask(self, target: str = PODS, method: str = "GET", body: bytes | None = None) -> int:
        """The code of the answer; 0: none."""
        connection = self.client()
        try:
            connection.request(method, target, body, {"Authorization": "Bearer of-the-pod"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def agent(self, user: int = 0) -> AgentEnd:
        """A connection of that user's."""
        with self.where.entered():
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(PATIENCE)
        os.seteuid(user)
        try:
            sock.connect(ADDRESS)
        finally:
            os.seteuid(0)
        return AgentEnd(sock)


class AgentEnd:
    """What an agent has of a connection to the proxy."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def say(self, message: Any) -> dict[str, Any]:
        """The answer; empty at the connection's end."""
        self.sock.sendall(json.dumps(message).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._file.readline() or b"{}")
        return answer

    def close(self) -> None:
        self._file.close()
        self.sock.close()


@contextlib.contextmanager
def armed(where: Netns, server: Netns, folder: Path) -> Iterator[Armed]:
    """With its API server, and started."""
    pod = Armed(where, folder, Authority())
    pod.prepare()
    with api_server(server, pod.authority.context(folder, ONE)):
        pod.start()
        try:
            yield pod
        finally:
            pod.close()
