"""Single looks at servers that are no cluster's."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bounceback.api.probes import Probe
from bounceback.kube.client import Kube
from bounceback.proxy.certificates import Authority
from bounceback.recovery.asking import look_of
from bounceback.recovery.judging import nothing_said
from bounceback.recovery.means import Means
from bounceback.recovery.sealing import Seal
from bounceback.recovery.secrets import Secrets
from tests.real_servers import PEM

NO_CLUSTER: Kube = None  # type: ignore[assignment]
NO_SEAL = Seal(NO_CLUSTER, "")
AUTHORITY = Authority.made("shop")
SECRETS = {
    "db": {"username": "postgres", "password": "secret"},
    "mysql": {"username": "shop", "password": "secret"},
    "wrong": {"username": "postgres", "password": "guessed"},
    "token": {"password": "s3cret"},
    "ca": {"ca.crt": AUTHORITY.certificate.public_bytes(PEM).decode()},
    "not-a-ca": {"ca.crt": "nothing of the kind"},
}


class Held(Secrets):
    """As if read from a cluster; reading is what test_recovery_inside.py is about."""

    async def _read(self, name: str) -> dict[str, str]:
        return {key: base64.b64encode(value.encode()).decode() for key, value in SECRETS[name].items()}


@asynccontextmanager
async def means_of_no_cluster() -> AsyncIterator[Means]:
    async with Means(NO_CLUSTER, "shop") as entered:
        entered.secrets = Held(NO_CLUSTER, "shop")
        yield entered


async def looked(means: Means, **look: Any) -> str | None:
    """None, or what was wrong, of one sample."""
    probe = Probe.model_validate({"name": "it", "timeoutMilliseconds": 20_000, **look})
    return await look_of(means, probe, nothing_said)()
