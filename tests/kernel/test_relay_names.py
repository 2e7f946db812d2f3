"""Names and certificates in a target's network: answered by a rule, or as without us."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest
from cryptography.hazmat.primitives import serialization

from bounceback.drivers.netns import Netns
from bounceback.proxy.certificates import Authority, leaf
from bounceback.types.names import DnsAnswer, DnsRule, TlsAnswer, TlsRule
from bounceback.types.plan import Direction, Feature, Redirect
from bounceback.types.told import Told
from tests.kernel.lab import ONE, PORT, Lab, connect, order, peer, plan

TRUTH = "192.0.2.7"
NOWHERE = Path("/no/such/folder")
_SAMPLE = Path(__file__).resolve().parents[2] / "examples" / "systems" / "app" / "certificates.py"


def own(host: str, folder: Path) -> tuple[bytes, bytes, bytes]:
    """As the sample system's store makes its certificate; an authority for it is in `folder`, or nowhere."""
    spec = importlib.util.spec_from_file_location("sample_certificates", _SAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: tuple[bytes, bytes, bytes] = module.own(host, folder)
    return made


@pytest.fixture(autouse=True)
def _kernel(needs: Callable[..., None]) -> None:
    needs(Feature.NFT_REDIRECT, Feature.NFT_OWNER)


def redirect(speaks: str, *rules: DnsRule | TlsRule, existing: str = "Keep") -> Redirect:
    listed = [{"name": f"rule-{n}", **rule.to_json()} for n, rule in enumerate(rules)]
    return Redirect(speaks, json.dumps(listed), existing, 0.5)


@contextlib.contextmanager
def name_server(where: Netns, address: str) -> Iterator[None]:
    """Says TRUTH to everything."""
    with where.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((address, 53))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = server.recvfrom(4096)
                if not data:
                    return
                answer = dns.message.make_response(dns.message.from_wire(data))
                name = answer.question[0].name
                answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", TRUTH))
                server.sendto(answer.to_wire(), client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(2)


def look_up(where: Netns, server: str, name: str) -> str:
    """An address, an RCODE, or Timeout."""
    with where.entered():
        try:
            answer = dns.query.udp(dns.message.make_query(name, "A"), server, timeout=3)
        except dns.exception.Timeout:
            return "Timeout"
    if answer.rcode() != dns.rcode.NOERROR:
        return dns.rcode.to_text(answer.rcode())
    return answer.answer[0][0].to_text() if answer.answer else "nothing"


@pytest.fixture
def resolving(lab: Lab, tmp_path: Path) -> Lab:
    """Its resolv.conf names peer one, as the kubelet would write it."""
    given = tmp_path / "resolv.conf"
    given.write_text(f"search shop.svc.cluster.local\nnameserver {ONE}\noptions ndots:5\n")
    bind = f'mount --bind {given} "$(readlink -f /etc/resolv.conf)" && exec "$@"'
    lab.among = ("unshare", "--mount", "sh", "-c", bind, "sh")
    return lab


def test_names_that_a_rule_is_about_are_lies_and_the_others_are_not(resolving: Lab) -> None:
    lab = resolving
    rules = (
        DnsRule(DnsAnswer.NX_DOMAIN, ("store.*",)),
        DnsRule(DnsAnswer.WRONG_ADDRESS, ("web.*",), addresses=("203.0.113.9",)),
        DnsRule(DnsAnswer.TIMEOUT, ("slow.*",)),
        DnsRule(DnsAnswer.SERV_FAIL, ("ill.*",)),
    )
    fault = order(redirect("dns", *rules), direction=Direction.EGRESS)
    with name_server(lab.one, ONE):
        assert look_up(lab.target, ONE, "store.shop.svc") == TRUTH
        agent = lab.start(plan(fault))
        agent.until(Told.IN_FORCE)
        seen = [look_up(lab.target, ONE, f"{name}.shop.svc") for name in ("store", "web", "slow", "ill", "other")]
        assert seen == ["NXDOMAIN", "203.0.113.9", "Timeout", "SERVFAIL", TRUTH]
        assert look_up(lab.two, ONE, "store.shop.svc") == TRUTH, "only the target is lied to"
        agent.control({"stop": True})
        agent.end()
        assert look_up(lab.target, ONE, "store.shop.svc") == TRUTH
    assert agent.hits(fault.injection) == 4
    assert lab.left() == []


@dataclass
class Secure:
    """A server that says hello over TLS, and what its clients trust."""

    port: int
    trusted: ssl.SSLContext

    def hello(self, where: Netns, name: str = "store", *, careless: bool = False, says: bytes = b"") -> str:
        """What a client from there gets: hello, or why it does not believe or cannot talk."""
        context = ssl._create_unverified_context() if careless else self.trusted
        try:
            with connect(where, ONE, self.port, 3) as plain, context.wrap_socket(plain, server_hostname=name) as inside:
                inside.sendall(says)
                return inside.recv(100).decode() or "nothing"
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        except (OSError, ssl.SSLError) as error:
            return type(error).__name__


@contextlib.contextmanager
def secure_server(where: Netns, folder: Path = NOWHERE) -> Iterator[Secure]:
    authority, certificate, key = own("store", folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with os.fdopen(os.memfd_create("certificate"), "wb") as both:
        both.write(certificate + key)
        both.flush()
        context.load_cert_chain(f"/proc/self/fd/{both.fileno()}")
    with where.entered():
        server = socket.create_server((ONE, PORT))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = server.accept()
                with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as inside:
                    inside.sendall(b"hello")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield Secure(PORT, ssl.create_default_context(cadata=authority.decode()))
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(2)


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (TlsAnswer.UNKNOWN_AUTHORITY, "unable to get local issuer certificate"),
        (TlsAnswer.HANDSHAKE_CUT, "ConnectionResetError"),
        (TlsAnswer.PLAIN_TEXT, "SSLError"),
    ],
)
def test_handshakes_with_a_name_are_spoilt_and_the_others_reach_the_true_server(
    lab: Lab, answer: TlsAnswer, seen: str
) -> None:
    fault = order(redirect("tls", TlsRule(answer, ("store",))), peer(ONE, "TCP", PORT))
    with secure_server(lab.one) as server:
        assert server.hello(lab.target) == "hello"
        agent = lab.start(plan(fault))
        agent.until(Told.IN_FORCE)
        assert server.hello(lab.target) == seen
        assert server.hello(lab.target, "other", careless=True) == "hello", "another name is none of its business"
        assert server.hello(lab.two) == "hello", "and neither is another client"
        agent.control({"stop": True})
        agent.end()
        assert server.hello(lab.target) == "hello"
    assert agent.hits(fault.injection) == 1
    assert lab.left() == []


def test_a_certificate_that_was_signed_by_whom_clients_trust_is_expired_and_nothing_else(
    lab: Lab, tmp_path: Path
) -> None:
    """Of the authority only what it has signed is in the plan."""
    authority = Authority.made("shop")
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "tls.crt").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "tls.key").write_bytes(authority.key.private_bytes(serialization.Encoding.PEM, *form))
    signed = leaf(authority, TlsAnswer.EXPIRED, ("store", "store.shop"))
    fault = order(redirect("tls", TlsRule(TlsAnswer.EXPIRED).signed(signed)), peer(ONE, "TCP", PORT))
    with secure_server(lab.one, tmp_path) as server:
        assert server.hello(lab.target) == "hello"
        agent = lab.start(plan(fault))
        agent.until(Told.IN_FORCE)
        assert server.hello(lab.target) == "certificate has expired"
        assert server.hello(lab.target, "other", careless=True) == "hello", "nothing was signed for that name"
        agent.control({"stop": True})
        agent.end()
    assert agent.hits(fault.injection) == 1
    cleared = next(line for line in agent.told if line.told is Told.CLEARED)
    assert cleared.detail["alerts"] == {"certificate_expired": 1}


def test_a_client_that_believes_anything_is_counted_and_gets_nothing(lab: Lab) -> None:
    fault = order(redirect("tls", TlsRule(TlsAnswer.EXPIRED)), peer(ONE))
    with secure_server(lab.one) as server:
        agent = lab.start(plan(fault))
        agent.until(Told.IN_FORCE)
        assert server.hello(lab.target, careless=True, says=b"my password") != "hello"
        agent.control({"stop": True})
        agent.end()
    cleared = next(line for line in agent.told if line.told is Told.CLEARED)
    assert cleared.detail["accepted"] == 1
