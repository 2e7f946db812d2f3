"""What benchmarks/api_proxy.py measures: nginx as the API server, and the proxies before it, ours and others."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bounceback.types.api_rule import Answer, ApiRule, Requests
from bounceback.types.gate import PORT_VARIABLE
from dev import build, cache
from dev.progress import DevError

ROOT: Final = Path(__file__).parent.parent
HOST: Final = "127.0.0.1"
TOKEN: Final = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=")
    for part in (b'{"alg":"RS256"}', b'{"sub":"system:serviceaccount:shop:web"}' + b" " * 600, b"x" * 256)
)
"""As long as a service account's, and as easy to read."""
HEADERS: Final = {
    "Authorization": f"Bearer {TOKEN}",
    "Accept": "application/json, */*",
    "Accept-Encoding": "gzip",
    "User-Agent": "kubectl/v1.36.3 (linux/amd64) kubernetes/0000000",
}
OBJECT: Final = "/api/v1/namespaces/shop/configmaps/a"
LIST: Final = "/api/v1/configmaps"
OBJECTS: Final = 24_000
RULES: Final = tuple(
    ApiRule(
        f"rule-{n}",
        Answer(500),
        (
            Requests(verbs=("create", "update"), resources=(f"kind-{n}",)),
            Requests(verbs=("get",), namespaces=("other",)),
        ),
        users=("system:serviceaccount:shop:other",) if n % 2 else (),
    )
    for n in range(20)
)
"""About other requests than any that is made, half of them about other users as well: tokens are looked at."""
WATCHERS: Final = 2_500


@dataclass(frozen=True)
class Side:
    """Something that stands before a server, or the server itself."""

    name: str
    port: int
    process: int
    tls: bool = True
    orders: int = -1  # where ours takes rules

    def url(self, path: str) -> str:
        return f"{'https' if self.tls else 'http'}://{HOST}:{self.port}{path}"

    def follow(self, rules: tuple[ApiRule, ...]) -> None:
        os.write(self.orders, json.dumps([asdict(rule) for rule in rules]).encode() + b"\n")


def missing() -> list[str]:
    """Programs that must be installed."""
    return [name for name in ("nginx", "wrk", "openssl") if shutil.which(name) is None]


def kubectl() -> str | None:
    """The development cluster's, where it has been built; else what is installed."""
    try:
        built = cache.root() / "build" / build.key(build.CLUSTER[0], build.toolchain()) / "kubectl"
    except DevError:
        return shutil.which("kubectl")
    return str(built) if built.exists() else shutil.which("kubectl")


def certificate(folder: Path) -> None:
    """`tls.crt` and `tls.key` of localhost; the certificate is its own authority."""
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    words += ["-keyout", "tls.key", "-out", "tls.crt"]
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        return int(sock.getsockname()[1])


@contextmanager
def started(words: list[str], port: int, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Once somebody listens on that port; terminated at the end."""
    env = {**os.environ, **(env or {})}
    null = subprocess.DEVNULL
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=null, stderr=null, cwd=ROOT, env=env)
    try:
        _until_listening(process, port, words[0])
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _until_listening(process: subprocess.Popen[bytes], port: int, name: str) -> None:
    for _ in range(400):
        if process.poll() is not None:
            raise SystemExit(f"{name} ended with {process.returncode}")
        with socket.socket() as sock:
            if sock.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{name} does not listen on port {port}")


# Nginx

NGINX: Final = """
daemon off; master_process off; worker_processes 1; pid {folder}/{port}.pid; error_log {folder}/{port}.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; default_type application/json; keepalive_requests 1000000000; keepalive_timeout 3600s;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
  scgi_temp_path {folder}; ssl_certificate {folder}/tls.crt; ssl_certificate_key {folder}/tls.key;
  {http}
  server {{ listen 127.0.0.1:{port} ssl backlog=4096; {server} }}
}}
"""
ONE: Final = (
    '{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"shop","uid":"%s"},"data":{"a":"%s"}}'
)
LOCATIONS: Final = """
    location = {list} {{ alias {folder}/list.json; }}
    location / {{ return 200 '{body}\\n'; }}
"""
PASSING: Final = """
    location / {{
      proxy_pass https://server; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      proxy_read_timeout 3600s; proxy_ssl_verify on; proxy_ssl_name localhost;
      proxy_ssl_trusted_certificate {folder}/tls.crt;
    }}
"""


@contextmanager
def _nginx(folder: Path, name: str, http: str, server: str) -> Iterator[Side]:
    port = free_port()
    file = folder / f"{port}.conf"
    file.write_text(NGINX.format(folder=folder, port=port, http=http, server=server))
    with started(["nginx", "-p", f"{folder}/", "-c", str(file)], port) as process:
        yield Side(name, port, process.pid)


@contextmanager
def server(folder: Path) -> Iterator[Side]:
    """Answers for one object, and for the list of all."""
    item = json.dumps({"metadata": {"name": "a", "namespace": "shop"}, "data": {"a": "x" * 2_000}})
    head = '{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":['
    (folder / "list.json").write_text(head + ",".join([item] * OBJECTS) + "]}\n")
    body = ONE % ("0" * 36, "0123456789" * 13)
    with _nginx(folder, "none", "", LOCATIONS.format(list=LIST, folder=folder, body=body)) as side:
        yield side


# Proxies


@contextmanager
def ours(folder: Path, upstream: int) -> Iterator[Side]:
    port = free_port()
    files = [str(folder / "tls.crt"), str(folder / "tls.key")]
    words = [sys.executable, "-m", "benchmarks.api_proxy_side", str(port), str(upstream), *files]
    with started(words, port) as process:
        assert process.stdin is not None
        yield Side("ours", port, process.pid, orders=process.stdin.fileno())


@contextmanager
def sidecar(folder: Path, upstream: int) -> Iterator[Side]:
    """The proxy of an armed pod, as it stands there."""
    port = free_port()
    env = {"KUBERNETES_SERVICE_HOST": HOST, "KUBERNETES_SERVICE_PORT": str(upstream), PORT_VARIABLE: str(port)}
    for name in ("account", "shown", "kept"):
        (folder / name).mkdir(exist_ok=True)
        env[f"BOUNCEBACK_GATE_{name.upper()}"] = str(folder / name)
    shutil.copy(folder / "tls.crt", folder / "account" / "ca.crt")
    with started([sys.executable, "-m", "bounceback.gate"], port, env) as process:
        yield Side("sidecar", port, process.pid)


@contextmanager
def command(folder: Path, upstream: int) -> Iterator[Side]:
    """`bounceback proxy`, as it is for a cluster."""
    port = free_port()
    words = [
        str(Path(sys.executable).parent / "bounceback"),
        "proxy",
        "--kubeconfig",
        str(_kubeconfig(folder, upstream)),
    ]
    words += ["--write-kubeconfig", str(folder / "through.yaml"), "--api-listen", f"{HOST}:{port}"]
    with started(words, port) as process:
        yield Side("bounceback proxy", port, process.pid)


@contextmanager
def nginx(folder: Path, upstream: int) -> Iterator[Side]:
    http = f"upstream server {{ server {HOST}:{upstream}; keepalive {WATCHERS}; keepalive_requests 1000000000; }}"
    with _nginx(folder, "nginx", http, PASSING.format(folder=folder)) as side:
        yield side


@contextmanager
def kubectl_proxy(program: str, folder: Path, upstream: int) -> Iterator[Side]:
    port = free_port()
    words = [
        program,
        "--kubeconfig",
        str(_kubeconfig(folder, upstream)),
        "proxy",
        "--address",
        HOST,
        "--port",
        str(port),
    ]
    with started(words, port) as process:
        yield Side("kubectl proxy", port, process.pid, tls=False)


@contextmanager
def proxies(folder: Path, upstream: int, program: str | None) -> Iterator[dict[str, Side]]:
    """By name: ours, nginx, and `kubectl proxy` where there is one."""
    with ExitStack() as stack:
        found = [stack.enter_context(ours(folder, upstream)), stack.enter_context(nginx(folder, upstream))]
        if program is not None:
            found.append(stack.enter_context(kubectl_proxy(program, folder, upstream)))
        found[0].follow(RULES)
        yield {side.name: side for side in found}


def _kubeconfig(folder: Path, upstream: int) -> Path:
    file = folder / f"kubeconfig-{upstream}"
    cluster = {"server": f"https://{HOST}:{upstream}", "certificate-authority": str(folder / "tls.crt")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file.write_text(json.dumps(content))
    return file
