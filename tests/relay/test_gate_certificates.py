"""The certificates of an armed pod's proxy: kept, renewed, and no business of its other containers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from bounceback.gate import serve
from bounceback.gate.certifying import FILE, Certified, certified
from bounceback.gate.places import Places
from bounceback.proxy.api.contexts import listening
from bounceback.proxy.api.loopback import Loopback
from bounceback.proxy.shown import load
from tests.relay.conftest import PATIENCE

OPERATOR = str(Path(__file__).resolve().parents[2] / "operator")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    environment = {"PYTHONPATH": OPERATOR, "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    for name in ("account", "shown", "kept"):
        (tmp_path / name).mkdir()
        environment[f"BOUNCEBACK_GATE_{name.upper()}"] = str(tmp_path / name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "account" / "ca.crt").write_bytes(Loopback(asks_for_certificates=False).authority)
    return Places.of(environment)


async def test_the_authority_outlives_the_process_and_the_listener_s_certificate_does_not(places: Places) -> None:
    first, second = await certified(), await certified()
    assert first.authority == second.authority
    assert first.certificate != second.certificate
    root, leaf = (x509.load_pem_x509_certificate(text) for text in (first.authority, first.certificate))
    leaf.verify_directly_issued_by(root)
    assert (root.not_valid_after_utc - root.not_valid_before_utc).days >= 3650
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days == 1
    assert (places.kept / FILE).stat().st_mode & 0o777 == 0o600
    assert [file.name for file in places.kept.iterdir()] == [FILE]


@pytest.mark.parametrize("text", [b"", b"-----BEGIN PRIVATE KEY-----\nbm8=\n-----END PRIVATE KEY-----\n"])
async def test_a_file_that_is_no_authority_is_not_replaced(
    places: Places, text: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    """Clients that have read the former one would not trust another."""
    (places.kept / FILE).write_bytes(text)
    with pytest.raises(OSError, match="could not be made"):
        await certified()
    assert "authority" in capfd.readouterr().err
    assert (places.kept / FILE).read_bytes() == text


def test_a_key_of_another_kind_is_refused(places: Places) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    assert not isinstance(key, ec.EllipticCurvePrivateKey)
    (places.kept / FILE).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(ValueError, match="P-256"):
        Loopback(asks_for_certificates=False, kept=places.kept / FILE)


async def presented(proxy: serve.PodProxy, authority: bytes) -> bytes:
    """The certificate that a client sees, which trusts that authority alone."""
    listener = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=proxy.context)
    trusting = ssl.create_default_context(cadata=authority.decode())
    host, port = listener.sockets[0].getsockname()
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port, ssl=trusting), PATIENCE)
        found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return found
    finally:
        listener.close()


async def renewed(proxy: serve.PodProxy, authority: bytes, before: bytes) -> None:
    task = asyncio.create_task(proxy.renew())
    try:
        async with asyncio.timeout(PATIENCE):
            while await presented(proxy, authority) == before:
                await asyncio.sleep(0.05)
    finally:
        task.cancel()


async def test_the_listener_s_certificate_is_renewed_in_time(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "RENEWED_SECONDS", 0.01)
    own = await certified()
    proxy = serve.PodProxy(places, own)
    before = await presented(proxy, own.authority)
    assert await presented(proxy, own.authority) == before
    await renewed(proxy, own.authority, before)


async def test_what_could_not_be_renewed_is_tried_again(
    places: Places, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serve, "RENEWED_SECONDS", 0.01)
    monkeypatch.setattr(serve, "RETRY_SECONDS", 0.01)
    own = await certified()
    proxy = serve.PodProxy(places, own)
    before = await presented(proxy, own.authority)
    kept = (places.kept / FILE).read_bytes()
    (places.kept / FILE).write_bytes(b"")
    task = asyncio.create_task(proxy.renew())
    async with asyncio.timeout(PATIENCE):
        while "tried again" not in caplog.text:
            await asyncio.sleep(0.05)
    task.cancel()
    assert await presented(proxy, own.authority) == before
    (places.kept / FILE).write_bytes(kept)
    await renewed(proxy, own.authority, before)


def test_an_authority_that_cannot_be_read_changes_nothing(places: Places) -> None:
    own = Loopback(asks_for_certificates=False, kept=places.kept / FILE)
    certificate, key = own.server()
    proxy = serve.PodProxy(places, Certified(own.authority, certificate, key))
    trusted = places.trusted.read_bytes()
    places.authority.write_bytes(b"no certificate")
    with pytest.raises((OSError, ValueError)):
        proxy.look()
    assert places.trusted.read_bytes() == trusted
    proxy.look()  # and is not looked at again before it changes
    another = Loopback(asks_for_certificates=False).authority
    places.authority.write_bytes(another)
    proxy.look()
    assert places.trusted.read_bytes() == own.authority + another


def test_what_is_right_is_not_written_again(places: Places) -> None:
    """The restart of the proxy is nothing that the others need to hear of."""
    own = Loopback(asks_for_certificates=False, kept=places.kept / FILE)
    made = Certified(own.authority, *own.server())
    serve.PodProxy(places, made)
    before = {file.name: file.lstat().st_ino for file in places.shown.iterdir()}
    assert set(before) == {"ca.crt", "token", "namespace"}
    serve.PodProxy(places, made)
    assert {file.name: file.lstat().st_ino for file in places.shown.iterdir()} == before


def test_a_context_without_a_certificate_serves_nobody() -> None:
    context = listening()
    made = Loopback(asks_for_certificates=False)
    load(context, *made.server())
    assert context.num_tickets == 0
