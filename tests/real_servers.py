"""Real stores for the tests, each on a free port of loopback, with its data in a folder that goes away."""

from __future__ import annotations

import ipaddress
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from bounceback.proxy.certificates import Authority
from dev import build, stores
from dev.progress import DevError, UnsupportedError

READY_SECONDS = 60.0
LOOPBACK = "127.0.0.1"
PEM = serialization.Encoding.PEM
MYSQL_LOGIN = "github.com/go-mysql-org/go-mysql", "v1.7.0"
BUCKET = "kept"
WRITER = "AKIDWRITERONLY"
ACCESS_KEY, SECRET_KEY = "AKIDVISIBLE0NOWHERE", "do-not-show-this-secret-key"


@dataclass(frozen=True)
class Place:
    """Where a server listens: an address, and the command that leads to the network that has it, if it is another."""

    address: str
    within: tuple[str, ...] = ()


HERE = Place(LOOPBACK)


@dataclass
class Server:
    """A process that can be stopped and started again on the same port, with the same data."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    folder: Path
    port: int
    user: str | None = None
    place: Place = HERE
    process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool] | None = None) -> None:
        log = (self.folder / "log").open("ab")
        owner = pwd.getpwnam(self.user) if self.user and os.geteuid() == 0 else None
        self.process = subprocess.Popen(
            [*self.place.within, *self.command],
            env=self.environment,
            cwd=self.folder,
            stdout=log,
            stderr=log,
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
        )
        deadline = time.monotonic() + READY_SECONDS
        while not (ready or self.listens)():
            told = (self.folder / "log").read_text(errors="replace")[-2000:]
            assert self.process.poll() is None and time.monotonic() < deadline, f"{self.name} did not start: {told}"
            time.sleep(0.05)

    def listens(self) -> bool:
        if self.place.within:
            tried = f"import socket; socket.create_connection(('{self.place.address}', {self.port}))"
            return (
                subprocess.run([*self.place.within, sys.executable, "-c", tried], capture_output=True).returncode == 0
            )
        with socket.socket() as client:
            return client.connect_ex((LOOPBACK, self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        return int(taken.getsockname()[1])


def program(name: str) -> tuple[str, dict[str, str]]:
    """Skips the test, with the reason, where it cannot be had."""
    if found := shutil.which(name):
        return found, dict(os.environ)
    try:
        path, environment = stores.fetch(name)
    except UnsupportedError as error:
        pytest.skip(str(error))
    return str(path), environment


@contextmanager
def folder(owner: str | None = None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bounceback-store-") as name:
        if owner and os.geteuid() == 0:
            shutil.chown(name, owner)
        yield Path(name)


@contextmanager
def served(server: Server) -> Iterator[Server]:
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def redis(*options: str, at: Place = HERE) -> Iterator[Server]:
    path, environment = program("redis-server")
    with folder() as place:
        port = free_port()
        command = [path, "--port", str(port), "--bind", at.address, "--dir", str(place), "--save", "", *options]
        with served(Server("redis-server", command, environment, place, port, place=at)) as server:
            yield server


@contextmanager
def nats(*options: str) -> Iterator[Server]:
    path, environment = program("nats-server")
    with folder() as place:
        port = free_port()
        command = [path, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(place / "jetstream"), *options]
        with served(Server("nats-server", command, environment, place, port)) as server:
            yield server


@contextmanager
def versitygw(
    tls: tuple[Path, Path] | None = None, room: str = "", only: str = "", at: Place = HERE
) -> Iterator[Server]:
    """S3 over files: objects of the bucket `kept` lie in `folder / "data" / "kept"`.

    `tls`: certificate and key. `room`: on a disk of that size that only the server sees; needs root.
    `only`: there is an account WRITER as well, which may put and get what lies below that prefix, and list the bucket.
    """
    try:
        path = shutil.which("versitygw") or str(build.build(build.TOOLS["versitygw"]) / "versitygw")
    except DevError as error:
        pytest.skip(str(error))
    with folder() as place:
        port = free_port()
        (place / "data" / BUCKET).mkdir(parents=True)
        (place / "about" / BUCKET / "meta").mkdir(parents=True)
        command = [path, "--port", f"{at.address}:{port}", "--quiet"]
        command += ["--cert", str(tls[0]), "--key", str(tls[1])] if tls else []
        if only:
            accounts = {WRITER: {"access": WRITER, "secret": SECRET_KEY, "role": "user"}}
            (place / "accounts").mkdir()
            (place / "accounts" / "users.json").write_text(json.dumps({"accessAccounts": accounts}))
            (place / "about" / BUCKET / "meta" / "policy").write_text(json.dumps(_policy(only)))
            command += ["--iam-dir", str(place / "accounts")]
        command += ["posix", "--sidecar", str(place / "about"), str(place / "data")]
        if room:
            made = f'mount -t tmpfs -o size={room} none "$0/data" && mkdir "$0/data/{BUCKET}" && exec "$@"'
            command = ["unshare", "--mount", "--propagation=private", "sh", "-c", made, str(place), *command]
        environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        with served(Server("versitygw", command, environment, place, port, place=at)) as server:
            yield server


def _policy(prefix: str) -> dict[str, Any]:
    whom = {"Effect": "Allow", "Principal": {"AWS": [WRITER]}}
    bucket = f"arn:aws:s3:::{BUCKET}"
    objects = whom | {"Action": ["s3:PutObject", "s3:GetObject"], "Resource": f"{bucket}/{prefix}/*"}
    return {"Version": "2012-10-17", "Statement": [objects, whom | {"Action": "s3:ListBucket", "Resource": bucket}]}


@contextmanager
def postgresql(tls: tuple[Path, Path] | None = None, *settings: str) -> Iterator[Server]:
    """User `postgres` with the password `secret`. `settings` as in postgresql.conf."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("There is no PostgreSQL here: it comes with the package postgresql.")
    user = "postgres" if os.geteuid() == 0 else None
    with folder(user) as place:
        port = free_port()
        (place / "password").write_text("secret")
        data = place / "data"
        options = ["-c", "fsync=off", "-c", f"unix_socket_directories={place}", "-c", "listen_addresses=127.0.0.1"]
        options += [word for setting in settings for word in ("-c", setting)]
        if tls:
            for file, name in zip(tls, ("server.crt", "server.key"), strict=True):
                copied = Path(shutil.copy(file, place / name))
                copied.chmod(0o600)
                if user:
                    shutil.chown(copied, user)
            options += [
                "-c",
                "ssl=on",
                "-c",
                f"ssl_cert_file={place}/server.crt",
                "-c",
                f"ssl_key_file={place}/server.key",
            ]
        owner = pwd.getpwnam(user) if user else None
        made = [str(binaries[-1] / "initdb"), "-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8"]
        subprocess.run(
            [*made, "--no-sync", f"--pwfile={place}/password"],
            check=True,
            capture_output=True,
            cwd=place,
            user=owner.pw_uid if owner else None,
            group=owner.pw_gid if owner else None,
        )
        command = [str(binaries[-1] / "postgres"), "-D", str(data), "-p", str(port), *options]
        with served(Server("postgres", command, dict(os.environ), place, port, user)) as server:
            yield server


@contextmanager
def mariadb(tls: tuple[Path, Path] | None = None, *options: str) -> Iterator[Server]:
    """User `root` without a password, in a database `shop` that is empty. With `tls`: certificate and key.

    Commits are written to disk each second, unless `options` say otherwise.
    """
    path, environment = program("mariadbd")
    share = Path(path).parent.parent / "share" / "mysql"
    with folder() as place:
        port = free_port()
        (place / "data" / "shop").mkdir(parents=True)
        command = [path, "--no-defaults", f"--datadir={place}/data", f"--port={port}", "--bind-address=127.0.0.1"]
        command += [f"--socket={place}/socket", f"--pid-file={place}/pid", f"--lc-messages-dir={share}"]
        command += ["--skip-grant-tables", "--skip-networking=0", "--innodb-flush-log-at-trx-commit=0"]
        command += [f"--ssl-cert={tls[0]}", f"--ssl-key={tls[1]}"] if tls else ["--skip-ssl"]
        command += ["--user=root"] if os.geteuid() == 0 else []
        command += options
        with served(Server("mariadbd", command, environment, place, port)) as server:
            yield server


@contextmanager
def mysql_login(behind: Server, tls: tuple[Path, Path]) -> Iterator[Server]:
    """A MySQL as far as the login goes: `shop`, by caching_sha2_password with the password `secret`, by TLS or by the
    RSA key of the certificate. Statements go to the MariaDB behind it."""
    try:
        path = build.build_own(Path(build.__file__).parent / "mysql_login.go", *MYSQL_LOGIN)
    except DevError as error:
        pytest.skip(str(error))
    with folder() as place:
        port = free_port()
        command = [str(path), f"-listen=127.0.0.1:{port}", f"-behind=127.0.0.1:{behind.port}", "-database=shop"]
        command += ["-user=shop", "-password=secret", f"-certificate={tls[0]}", f"-key={tls[1]}"]
        with served(Server("mysql_login", command, dict(os.environ), place, port)) as server:
            yield server


@contextmanager
def prometheus(target: int) -> Iterator[Server]:
    """Scrapes the page of that port of loopback twice a second, as job `web`."""
    path, environment = program("prometheus")
    with folder() as place:
        port = free_port()
        (place / "prometheus.yml").write_text(
            "global: {scrape_interval: 500ms, scrape_timeout: 400ms}\n"
            f'scrape_configs: [{{job_name: web, static_configs: [{{targets: ["127.0.0.1:{target}"]}}]}}]\n'
        )
        command = [path, f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
        with served(Server("prometheus", command, environment, place, port)) as server:
            yield server


def certificate(
    place: Path,
    authority: Authority,
    names: Sequence[str],
    days: int = 90,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> tuple[Path, Path]:
    """Files with a server's certificate for these names and its key, signed now and valid for so many days."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days, hours=1))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    )
    files = place / f"{names[0]}-{days}.crt", place / f"{names[0]}-{days}.key"
    files[0].write_bytes(authority.sign(builder).public_bytes(PEM))
    encoded = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    files[1].write_bytes(encoded)
    return files


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
