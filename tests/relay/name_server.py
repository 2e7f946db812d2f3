"""A true name server: CoreDNS with a signed zone of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import dns.dnssec
import dns.dnssectypes
import dns.name
import dns.rrset
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from dev import build

COREDNS: Final = next(component for component in build.CLUSTER if component.name == "coredns")
ORIGIN: Final = dns.name.from_text("shop.test.")
KEY: Final = ec.derive_private_key(4711, ec.SECP256R1())
DNSKEY: Final = dns.dnssec.make_dnskey(KEY.public_key(), dns.dnssectypes.Algorithm.ECDSAP256SHA256)
START_SECONDS: Final = 30.0
ZONE: Final = f"""
$TTL 60
@ IN SOA ns admin 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
db IN A 10.0.0.7
db IN AAAA fd00::7
www IN CNAME web
web IN CNAME front.edge
front.edge IN A 10.0.0.8
_sql._tcp IN SRV 0 0 5432 db
db.shop.svc.cluster.local IN A 10.0.0.9
large IN TXT {" ".join('"' + letter * 250 + '"' for letter in "abcdefghij")}
"""


@cache
def coredns() -> str:
    """Its path: the one that is installed, or the development cluster's."""
    return shutil.which("coredns") or str(build.build(COREDNS) / "coredns")


@contextmanager
def name_server(folder: Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Its port, of UDP and TCP; the zone is `shop.test`."""
    port = port or free_port(host)
    zone = dns.zone.from_text(ZONE, ORIGIN, relativize=False)
    with zone.writer() as change:
        dns.dnssec.sign_zone(zone, change, [(KEY, DNSKEY)], lifetime=86_400, add_dnskey=True)
    zone.to_file(str(folder / "zone"), relativize=False)
    (folder / "Corefile").write_text(
        f"shop.test:{port} {{\n bind {host}\n file {folder}/zone\n}}\n.:{port} {{\n bind {host}\n template ANY ANY {{\n"
        "  rcode NXDOMAIN\n }\n}\n"
    )
    with (folder / "log").open("w") as log:
        running = subprocess.Popen([coredns(), "-conf", folder / "Corefile"], stdout=log, stderr=log)
    try:
        _wait(host, port, running, folder / "log")
        yield port
    finally:
        running.terminate()
        running.wait(10)


def free_port(host: str) -> int:
    """One that nobody has by UDP or TCP at the moment."""
    while True:
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            stream.bind((host, 0))
            try:
                datagrams.bind(stream.getsockname())
            except OSError:
                continue
            port: int = stream.getsockname()[1]
            return port


def _wait(host: str, port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and running.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"CoreDNS did not start:\n{log.read_text()}")
