"""An authority in a Secret, against a real API server: who may read it, what is refused, and where its key goes."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from bounceback.controller.records import Planned, journal_record
from bounceback.controller.signing import leaf_for
from bounceback.engine.planning import Chosen, Preparation, agents, injections
from bounceback.faults.tls_fault import TlsFault
from bounceback.kube import Kube
from bounceback.kube.resources import SECRETS
from bounceback.proxy.certificates import Authority
from bounceback.types.names import Leaf, TlsAnswer
from bounceback.types.outcome import VehicleKind
from bounceback.types.plan import Rung
from bounceback.vehicles.access import access_manifest
from bounceback.vehicles.errors import Refused
from bounceback.vehicles.journal import Journal
from tests.conftest import ACCOUNT, OPERATOR, apply, until_known
from tests.unit.engine_values import experiment, pod

FIELD = "spec.faults[0].tlsFault"
FAULT: dict[str, Any] = {"answer": "Expired", "names": ["db"], "authority": {"secretName": "shop-ca"}}
PEM = serialization.Encoding.PEM


@pytest.fixture
def authority() -> Authority:
    return Authority.made("the shop's")


def key_of(authority: Authority, encoding: serialization.Encoding = PEM) -> bytes:
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return authority.key.private_bytes(encoding, *form)


async def keep(kube: Kube, namespace: str, authority: Authority, **changes: bytes) -> None:
    data = {"tls.crt": authority.certificate.public_bytes(PEM), "tls.key": key_of(authority), **changes}
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    secret = {"metadata": {"name": "shop-ca"}, "type": "Opaque", "data": encoded}
    await kube.create(SECRETS, namespace, secret)


async def allow(kube: Kube, namespace: str, home: str) -> None:
    await apply(kube, access_manifest(namespace, ACCOUNT, home, OPERATOR, ["shop-ca"]))
    await until_known(kube.acting_as(namespace, ACCOUNT), namespace, SECRETS, "shop-ca")


async def sign(acting: Kube, namespace: str, **changes: Any) -> Leaf | None:
    return await leaf_for(acting, namespace, ACCOUNT, TlsFault.model_validate({**FAULT, **changes}), FIELD)


async def test_what_the_account_may_read_signs(
    kube: Kube, acting: Kube, namespace: str, home: str, authority: Authority
) -> None:
    await keep(kube, namespace, authority)
    with pytest.raises(Refused) as refused:
        await sign(acting, namespace)
    assert (refused.value.field, refused.value.reason) == (f"{FIELD}.authority.secretName", "Forbidden")
    assert f"bounceback access {namespace} --secret shop-ca" in refused.value.message
    await allow(kube, namespace, home)
    leaf = await sign(acting, namespace)
    assert leaf is not None
    assert leaf.names == ("db",)


async def test_a_fault_without_an_authority_asks_for_nothing(acting: Kube, namespace: str) -> None:
    fault = TlsFault.model_validate({"answer": "Expired"})
    assert await leaf_for(acting, namespace, ACCOUNT, fault, FIELD) is None


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"tls.key": b""}, "SecretInvalid", "must hold tls.crt and tls.key"),
        ({"tls.crt": b"nothing"}, "SecretInvalid", "Secret shop-ca: the authority's certificate must be one in PEM"),
        ({"tls.key": b"nothing"}, "SecretInvalid", "Secret shop-ca: the authority's key must be one in PEM"),
        ({"tls.key": key_of(Authority.made("b"))}, "SecretInvalid", "the authority's key does not belong"),
    ],
)
async def test_what_is_no_authority_is_refused_at_its_field(
    kube: Kube, acting: Kube, namespace: str, home: str, changes: dict[str, bytes], reason: str, message: str
) -> None:
    await allow(kube, namespace, home)
    await keep(kube, namespace, Authority.made("a"), **changes)
    with pytest.raises(Refused, match=message) as refused:
        await sign(acting, namespace)
    assert (refused.value.field, refused.value.reason) == (f"{FIELD}.authority.secretName", reason)


async def test_a_secret_that_is_not_there_is_refused_at_its_field(
    kube: Kube, acting: Kube, namespace: str, home: str
) -> None:
    await allow(kube, namespace, home)
    with pytest.raises(Refused, match="there is no Secret shop-ca") as refused:
        await sign(acting, namespace)
    assert (refused.value.field, refused.value.reason) == (f"{FIELD}.authority.secretName", "SecretNotFound")


@pytest.mark.parametrize("answer", [TlsAnswer.EXPIRED, TlsAnswer.NOT_YET_VALID, TlsAnswer.WRONG_HOST])
async def test_the_authoritys_key_is_stored_nowhere(
    kube: Kube, acting: Kube, namespace: str, home: str, authority: Authority, answer: TlsAnswer
) -> None:
    """Not in the plan that agents get, not in the status, not in what the journal keeps."""
    await allow(kube, namespace, home)
    await keep(kube, namespace, authority)
    leaf = await sign(acting, namespace, answer=str(answer))
    spec = experiment(faults=[{"name": "old", "target": "web", "tlsFault": FAULT, "durationSeconds": 10}])
    chosen = Chosen(spec.faults[0], pod(), VehicleKind.SIDECAR, "", Rung.RELAY, leaf=leaf)
    planned = injections("uid", [chosen], 1.0)
    carried = agents("uid", Preparation((chosen,)), planned, home)
    await Journal(kube, home).write("uid", namespace, "old", journal_record(planned, Planned(carried)))
    secrets, _ = await kube.list(SECRETS, home)
    kept = [zlib.decompress(base64.b64decode(s["data"]["record"])).decode() for s in secrets if "record" in s["data"]]
    told = [carried[0].plan.to_json(), json.dumps([injection.to_json() for injection in planned]), *kept]
    assert leaf is not None
    assert [text for text in told if leaf.pem.splitlines()[1] in text] == [told[0], *kept]  # so it would be found
    for line in key_of(authority).decode().splitlines()[1:-1]:
        assert not [text for text in told if line in text]
