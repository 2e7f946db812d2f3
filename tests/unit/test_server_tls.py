"""Whom a TLS context trusts: what stands beside the certificates of a bundle is nothing to it."""

from __future__ import annotations

import pytest

from bounceback.api.credentials import ServerTls
from bounceback.connecting.tls import context_of
from bounceback.proxy.certificates import Authority
from tests.real_servers import PEM

SHOP = Authority.made("shop").certificate.public_bytes(PEM).decode()


@pytest.mark.parametrize("bundle", [SHOP, f"# NetLock Arany Főtanúsítvány\n{SHOP}"], ids=["bare", "with a comment"])
def test_the_authorities_of_a_bundle_are_trusted(bundle: str) -> None:
    (found,) = context_of(ServerTls(), "db.shop", bundle).get_ca_certs()
    assert ("commonName", "shop") in [pair for part in found["subject"] for pair in part]


@pytest.mark.parametrize("bundle", ["", "nothing of the kind", "Főtanúsítvány"])
def test_what_holds_no_certificates_is_refused(bundle: str) -> None:
    with pytest.raises(ValueError):
        context_of(ServerTls(), "db.shop", bundle)
