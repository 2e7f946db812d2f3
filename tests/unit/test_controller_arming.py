"""What the webhook answers, and the certificate that it shows."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bounceback.controller.arming import answer, routes
from bounceback.controller.serving import Pulse, served
from bounceback.controller.serving_pair import LASTS, RENEWED, Pair
from bounceback.controller.settings import Settings
from bounceback.controller.webhooks import LARGEST, application
from bounceback.proxy.shown import load
from bounceback.vehicles.arming import ARMED_LABEL, TOKEN_PLACE, ArmSettings

Json = dict[str, Any]
HOST = "bounceback-arming.bounceback-system.svc"
SETTINGS = ArmSettings("bounceback:1", "IfNotPresent", "0.1.0")


def review(**spec: Any) -> Json:
    """As the API server asks."""
    mount = {"name": "kube-api-access-1", "mountPath": TOKEN_PLACE}
    access = {"name": "kube-api-access-1", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "web-"},
        "spec": {"containers": [{"name": "main", "volumeMounts": [mount]}], "volumes": [access], **spec},
    }
    request = {"uid": "7-8", "kind": {"kind": "Pod"}, "namespace": "shop", "operation": "CREATE", "object": pod}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def test_a_pod_is_answered_with_what_arms_it() -> None:
    told = answer(review(), SETTINGS)
    assert (told["apiVersion"], told["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = told["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("7-8", True, "JSONPatch")
    patch = {step["path"]: step["value"] for step in json.loads(base64.b64decode(response["patch"]))}
    assert patch["/metadata/labels"] == {ARMED_LABEL: "true"}
    assert "warnings" not in response


def test_a_pod_that_cannot_be_armed_is_allowed_with_a_warning() -> None:
    response = answer(review(hostNetwork=True), SETTINGS)["response"]
    assert response["allowed"] is True
    assert "hostNetwork" in response["warnings"][0]
    assert [step["path"] for step in json.loads(base64.b64decode(response["patch"]))] == ["/metadata/annotations"]


@asynccontextmanager
async def listening(pair: Pair) -> AsyncIterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(context, pair.certificate, pair.key)
    runner = web.AppRunner(application(*routes(SETTINGS)), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def asked(port: int, trusted: bytes, data: bytes, host: str = HOST) -> tuple[int, str]:
    """As the API server does: by the Service's name, trusting the configuration's bundle alone."""
    context = ssl.create_default_context(cadata=trusted.decode())
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"https://127.0.0.1:{port}/arm", data=data, ssl=context, server_hostname=host) as found,
    ):
        return found.status, await found.text()


async def test_the_api_server_is_answered_over_tls_and_nonsense_is_refused() -> None:
    pair = Pair.made((HOST,))
    async with listening(pair) as port:
        status, text = await asked(port, pair.authorities, json.dumps(review()).encode())
        assert (status, json.loads(text)["response"]["allowed"]) == (200, True)
        for nonsense in (b"", b"[]", b"{}", b'{"request": {"uid": "1", "object": null}}', b"\xff"):
            assert (await asked(port, pair.authorities, nonsense))[0] == 400
        assert (await asked(port, pair.authorities, b" " * (LARGEST + 1)))[0] == 413
        assert (await asked(port, pair.authorities, json.dumps(review()).encode()))[0] == 200


async def test_nobody_else_can_speak_for_the_webhook() -> None:
    pair, stranger = Pair.made((HOST,)), Pair.made((HOST,))
    async with listening(pair) as port:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await asked(port, stranger.authorities, b"")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await asked(port, pair.authorities, b"", host="other.bounceback-system.svc")


async def test_replicas_that_show_the_pair_before_are_trusted_until_the_one_after_next() -> None:
    first = Pair.made((HOST,))
    second = Pair.made((HOST,), first)
    third = Pair.made((HOST,), second)
    async with listening(first) as port:
        assert (await asked(port, second.authorities, b""))[0] == 400
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await asked(port, third.authorities, b"")
    assert third.authorities.count(b"BEGIN CERTIFICATE") == 2


def test_a_pair_is_what_its_secret_holds() -> None:
    pair = Pair.made((HOST,))
    assert Pair.of({"data": pair.data}) == pair


@pytest.mark.parametrize(
    "change",
    [
        {"tls.crt": ""},
        {"tls.key": "!"},
        {"tls.key": Pair.made((HOST,)).data["tls.key"]},
        {"ca.crt": Pair.made((HOST,)).data["ca.crt"]},
        {"ca.crt": base64.b64encode(b"-----BEGIN").decode()},
    ],
)
def test_what_cannot_be_shown_is_no_pair(change: dict[str, str]) -> None:
    assert Pair.of({"data": {**Pair.made((HOST,)).data, **change}}) is None
    assert Pair.of({"metadata": {}}) is None


def test_a_pair_is_renewed_before_it_ends_and_when_the_name_is_another() -> None:
    pair, now = Pair.made((HOST,)), datetime.now(UTC)
    assert pair.fits((HOST,), now)
    assert pair.fits((HOST,), now + LASTS - RENEWED - timedelta(minutes=1))
    assert not pair.fits((HOST,), now + LASTS - RENEWED + timedelta(minutes=1))
    assert not pair.fits(("second-arming.bounceback-system.svc",), now)


async def test_a_replica_is_not_ready_before_it_arms(unused_tcp_port_factory: Callable[[], int]) -> None:
    pulse, port = Pulse(), unused_tcp_port_factory()
    pulse.awaited.add("arming")

    async def said(path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as found:
            return found.status, await found.text()

    async with served(port, pulse):
        assert await said("/readyz") == (503, "not yet: arming\n")
        assert (await said("/healthz"))[0] == 200
        pulse.awaited.discard("arming")
        assert (await said("/readyz"))[0] == 200


def test_resources_that_are_no_json_are_named() -> None:
    with pytest.raises(ValueError, match="BOUNCEBACK_ARMING_RESOURCES"):
        Settings.from_environment({"BOUNCEBACK_ARMING_RESOURCES": "{"})
