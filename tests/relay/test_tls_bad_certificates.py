"""Real clients that are shown a bad certificate: each refuses it for the one thing that is wrong, or is found out."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from bounceback.faults.tls_fault import SIGNED
from bounceback.proxy import handshake
from bounceback.proxy.certificates import Authority, Certificates, UnfitError, leaf
from bounceback.proxy.handshake import End
from bounceback.proxy.tls import TlsCount, TlsGate, TlsTraffic
from bounceback.proxy.upstream import Fixed
from bounceback.types.choice import Choice
from bounceback.types.names import CERTIFICATES, TlsAnswer, TlsRule
from tests.relay.tls_place import HOST, NAME, SOON, TRUSTED, VERSIONS, Place, run, tls_place

# X509_V_ERR_* (x509_vfy.h), what OpenSSL says of it, and the alert that it sends (statem_lib.c, x509table).
WRONG = {
    TlsAnswer.EXPIRED: (10, "certificate has expired", "certificate_expired"),
    TlsAnswer.NOT_YET_VALID: (9, "certificate is not yet valid", "bad_certificate"),
    TlsAnswer.WRONG_HOST: (62, "mismatch", "bad_certificate"),
    TlsAnswer.UNKNOWN_AUTHORITY: (20, "unable to get local issuer certificate", "unknown_ca"),
}
KINDS = pytest.mark.parametrize("answer", sorted(CERTIFICATES))
TLS = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with tls_place(tmp_path) as made:
        yield made


async def ended(gate: TlsGate, name: str = "bad", *, handshakes: int = 1) -> TlsCount:
    """The count, once so many handshakes are over: a client knows how it ended before the server does."""
    async with asyncio.timeout(SOON):
        while sum(gate.counts()[name].ends.values()) < handshakes:
            await asyncio.sleep(0.01)
    return gate.counts()[name]


@TLS
@KINDS
async def test_python_refuses_it_for_what_is_wrong(place: Place, answer: TlsAnswer, version: ssl.TLSVersion) -> None:
    code, words, alert = WRONG[answer]
    place.gate.put({"bad": TlsRule(answer, (NAME,), authority=TRUSTED)})
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        await place.talk(place.client(version=version))
    assert (refused.value.verify_code, words in str(refused.value).lower()) == (code, True)
    count = await ended(place.gate)
    assert (count.hits, count.alerts, count.accepted) == (1, {alert: 1}, 0)
    assert place.heard == []


@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
@KINDS
async def test_openssl_refuses_it_for_what_is_wrong(place: Place, answer: TlsAnswer, option: str) -> None:
    code, words, alert = WRONG[answer]
    place.gate.put({"bad": TlsRule(answer, (NAME,), authority=TRUSTED)})
    verify = ["-CAfile", place.ca_file, "-verify_return_error", "-verify_hostname", NAME]
    there = ["-connect", f"{HOST}:{place.port}", "-servername", NAME]
    exit_code, said = await run("openssl", "s_client", *there, *verify, option)
    assert exit_code != 0
    assert f"num={code}:" in said
    assert words in said.lower()
    assert (await ended(place.gate)).alerts == {alert: 1}


@pytest.mark.parametrize("most", ["1.2", "1.3"])
@KINDS
async def test_curl_refuses_it(place: Place, answer: TlsAnswer, most: str) -> None:
    """The host it looks at only when the handshake is over, without an alert: that is no acceptance."""
    place.gate.put({"bad": TlsRule(answer, (NAME,), authority=TRUSTED)})
    there = ["--resolve", f"{NAME}:{place.port}:{HOST}", f"https://{NAME}:{place.port}/"]
    exit_code, said = await run("curl", "-sS", "--cacert", place.ca_file, "--tls-max", most, *there)
    assert exit_code == 60, said  # the peer's certificate cannot be authenticated
    count = await ended(place.gate)
    assert count.ends == ({End.WITHDREW: 1} if answer is TlsAnswer.WRONG_HOST else {End.REFUSED: 1})
    assert place.heard == []


@TLS
@KINDS
async def test_a_client_that_takes_it_is_found_out_and_gets_nothing(
    place: Place, answer: TlsAnswer, version: ssl.TLSVersion
) -> None:
    place.gate.put({"bad": TlsRule(answer, (NAME,), authority=TRUSTED)})
    got = await place.talk(place.client(verify=False, version=version))
    assert got.answer == b""
    assert (await ended(place.gate)).accepted == 1
    assert place.heard == []  # what it sent has reached nobody


async def test_a_client_that_takes_it_and_waits_for_the_server_is_found_out_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "STAY_SECONDS", 0.5)
    place.gate.put({"bad": TlsRule(TlsAnswer.EXPIRED)})
    begin = time.monotonic()
    reader, writer = await asyncio.open_connection(
        HOST, place.port, ssl=place.client(verify=False), server_hostname=NAME
    )
    assert await reader.read() == b""
    assert time.monotonic() - begin >= 0.45
    assert (await ended(place.gate)).accepted == 1
    writer.close()


async def test_a_client_that_leaves_without_a_word_has_not_taken_it(place: Place) -> None:
    """uvloop's own client sends no alert."""
    place.gate.put({"bad": TlsRule(TlsAnswer.EXPIRED, authority=TRUSTED)})
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(HOST, place.port, ssl=place.client(), server_hostname=NAME)
    assert (await ended(place.gate)).ends == {End.CLOSED: 1}


@KINDS
async def test_without_an_authority_that_clients_trust_it_is_unknown_as_well(place: Place, answer: TlsAnswer) -> None:
    place.gate.put({"bad": TlsRule(answer, (NAME,))})
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        await place.talk(place.client())
    assert refused.value.verify_code == 20


async def test_a_client_that_names_nobody_gets_one_for_the_address(place: Place) -> None:
    """By address there is no SNI: only a rule for all names is about it, and the address is in the certificate."""
    place.gate.put(
        {"named": TlsRule(TlsAnswer.WRONG_HOST, ("*",)), "bad": TlsRule(TlsAnswer.EXPIRED, authority=TRUSTED)}
    )
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        await place.talk(place.client(), HOST)
    assert refused.value.verify_code == 10
    assert place.gate.counts()["named"] == TlsCount()


async def test_a_client_that_names_nobody_by_ipv6(place: Place) -> None:
    gate = TlsGate(Certificates({TRUSTED: place.ca}))
    gate.put({"bad": TlsRule(TlsAnswer.NOT_YET_VALID, authority=TRUSTED)})
    _, port = await place.relay.listen("six", "::1", 0, Fixed(HOST, place.true_port), gate)
    there = ["-connect", f"[::1]:{port}", "-CAfile", place.ca_file, "-verify_return_error", "-verify_ip", "::1"]
    _, said = await run("openssl", "s_client", *there)
    assert "num=9:" in said
    assert "num=64:" not in said  # the address is the right one
    assert (await ended(gate)).alerts == {"bad_certificate": 1}


@pytest.mark.parametrize("kind", ["root", "intermediate"])
async def test_an_authority_that_is_given_may_have_any_key_and_a_root_above_it(
    place: Place, tmp_path: Path, kind: str
) -> None:
    key = rsa.generate_private_key(65537, 2048)
    own = Authority.made("root of all")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the shop's")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if kind == "root" else place.ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(own.certificate.not_valid_before_utc)
        .not_valid_after(own.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key if kind == "root" else place.ca.key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    client = place.client()
    if kind == "root":
        client = ssl.create_default_context(cadata=pem.decode())
    else:
        # Signed by one below place.ca, which may sign no more authorities: made again without that bound.
        root = _root_without_bound(place)
        client = ssl.create_default_context(cadata=root.decode())
    gate = TlsGate(Certificates({"given": Authority.from_pem(pem, private)}))
    gate.put({"bad": TlsRule(TlsAnswer.EXPIRED, authority="given")})
    _, port = await place.relay.listen("other", HOST, 0, Fixed(HOST, place.true_port), gate)
    place.port = port
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        await place.talk(client)
    assert refused.value.verify_code == 10


def _root_without_bound(place: Place) -> bytes:
    old = place.ca.certificate
    again = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(old.subject)
        .public_key(old.public_key())
        .serial_number(8)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(place.ca.key, hashes.SHA256())
    )
    return again.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("answer", sorted(SIGNED))
async def test_a_certificate_that_was_signed_elsewhere_is_wrong_in_one_thing_and_for_its_names(
    place: Place, answer: TlsAnswer
) -> None:
    """The gate has no authority's key at all. Who asks for another name is let through."""
    code, _, alert = WRONG[answer]
    gate = TlsGate(Certificates())
    _, place.port = await place.relay.listen("signed", HOST, 0, Fixed(HOST, place.true_port), gate)
    signed = leaf(place.ca, answer, (NAME, "db"))
    gate.put({"bad": TlsRule.from_json(TlsRule(answer, choice=Choice(nth=1)).signed(signed).to_json())})
    with pytest.raises(ssl.SSLCertVerificationError) as refused:
        await place.talk(place.client())
    assert refused.value.verify_code == code
    assert (await ended(gate)).alerts == {alert: 1}
    got = await place.talk(place.client(verify=False), "other.shop.test")
    assert got.answer.endswith(b"yes")  # its true server
    assert gate.counts()["bad"].seen == 1


@pytest.mark.parametrize("answer", sorted(SIGNED))
def test_a_signed_certificate_is_worth_nothing_to_who_has_its_key(place: Place, answer: TlsAnswer) -> None:
    certificate = x509.load_pem_x509_certificates(leaf(place.ca, answer, (NAME,)).pem.encode())[0]
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    now = datetime.now(UTC)
    if answer is TlsAnswer.WRONG_HOST:
        assert names.get_values_for_type(x509.DNSName) == ["another-host.invalid"]
    else:
        assert ends - begins == timedelta(seconds=1)
        assert ends < now - timedelta(hours=23) or begins > now + timedelta(days=364)


def test_the_authoritys_key_is_not_in_what_it_signs(place: Place) -> None:
    pem = leaf(place.ca, TlsAnswer.EXPIRED, (NAME,)).pem
    shown = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(shown, ec.EllipticCurvePrivateKey)
    assert isinstance(place.ca.key, ec.EllipticCurvePrivateKey)
    parts = b"".join(map(base64.b64decode, re.findall("-----([^-]+)-----END", pem)))
    numbers = [key.private_numbers().private_value.to_bytes(32, "big") for key in (shown, place.ca.key)]
    assert [number in parts for number in numbers] == [True, False]


def test_a_certificate_that_cannot_be_shown_is_refused_and_changes_nothing(place: Place) -> None:
    good = {"bad": TlsRule(TlsAnswer.EXPIRED)}
    place.gate.put(good)
    with pytest.raises(ValueError, match="cannot be shown"):
        place.gate.put({"other": TlsRule(TlsAnswer.EXPIRED, leaf="-----BEGIN PRIVATE KEY-----")})
    assert place.gate.counts().keys() == good.keys()


def test_what_cannot_sign_is_no_authority(place: Place) -> None:
    server = (place.folder / "server.pem").read_bytes()
    ca = (place.folder / "ca.pem").read_bytes()
    locked = place.ca.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    for certificate, key, part, words in (
        (server, server, "certificate", "CA:TRUE"),
        (made_authority(place, usage=True), server, "certificate", "keyCertSign"),
        (made_authority(place, past=True), server, "certificate", "is valid now: it is from"),
        (b"", server, "certificate", "in PEM"),
        (ca, server, "key", "does not belong"),
        (ca, b"", "key", "in PEM"),
        (ca, locked, "key", "without a password"),
    ):
        with pytest.raises(UnfitError, match=words) as unfit:
            Authority.from_pem(certificate, key)
        assert unfit.value.part == part


def made_authority(place: Place, *, usage: bool = False, past: bool = False) -> bytes:
    """One that may not sign certificates, or is over."""
    now, day = datetime.now(UTC), timedelta(days=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(place.ca.certificate.subject)
        .issuer_name(place.ca.certificate.subject)
        .public_key(place.ca.key.public_key())
        .serial_number(9)
        .not_valid_before(now - 3 * day)
        .not_valid_after(now - day if past else now + day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if usage:
        flags = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign")
        nothing = dict.fromkeys((*flags, "key_cert_sign", "encipher_only", "decipher_only"), False)
        builder = builder.add_extension(x509.KeyUsage(digital_signature=True, **nothing), critical=True)
    return builder.sign(place.ca.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_a_rule_with_an_authority_that_was_not_given_is_refused_and_changes_nothing(place: Place) -> None:
    good = {"bad": TlsRule(TlsAnswer.EXPIRED)}
    place.gate.put(good)
    with pytest.raises(ValueError, match="no authority 'nobody'"):
        place.gate.put({"bad": TlsRule(TlsAnswer.EXPIRED, authority="nobody")})
    assert place.gate.counts().keys() == good.keys()


async def test_every_second_handshake_is_bad_and_the_others_are_the_servers_own(place: Place) -> None:
    place.gate.put({"bad": TlsRule(TlsAnswer.EXPIRED, authority=TRUSTED, choice=Choice(nth=2))})
    good = []
    for _ in range(4):
        try:
            good.append((await place.talk(place.client())).answer.endswith(b"yes"))
        except ssl.SSLCertVerificationError:
            good.append(False)
    assert good == [True, False, True, False]
    assert place.gate.counts()["bad"].seen == 4
    assert place.gate.traffic == TlsTraffic(answered=2, passed=2)


async def test_no_server_is_needed_for_a_bad_certificate_and_certificates_are_made_once(place: Place) -> None:
    gate = TlsGate(Certificates({TRUSTED: place.ca}))
    _, place.port = await place.relay.listen("alone", HOST, 0, Fixed(HOST, 1), gate)
    gate.put({"bad": TlsRule(TlsAnswer.EXPIRED, authority=TRUSTED)})
    seen = {(await place.talk(place.client(verify=False))).fingerprint for _ in range(3)}
    assert len(seen) == 1
    other = await place.talk(place.client(verify=False), "other.shop.test")
    assert other.fingerprint not in seen


async def test_a_client_without_anything_in_common_is_no_proof_of_anything(place: Place) -> None:
    """It would not have got as far as the certificate."""
    place.gate.put({"bad": TlsRule(TlsAnswer.EXPIRED, authority=TRUSTED)})
    context = place.client(version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # the certificate's key is of ECDSA
    with pytest.raises(ssl.SSLError):
        await place.talk(context)
    assert (await ended(place.gate)).ends == {End.FAILED: 1}


async def test_forty_clients_at_once(place: Place) -> None:
    place.gate.put({"bad": TlsRule(TlsAnswer.EXPIRED, authority=TRUSTED)})
    outcomes = await asyncio.gather(*(place.talk(place.client()) for _ in range(40)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ssl.SSLCertVerificationError}
    assert (await ended(place.gate, handshakes=40)).alerts == {"certificate_expired": 40}
