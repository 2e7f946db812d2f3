"""Replicas of the operator show one certificate, and the API server is told of the next one before it is shown."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bounceback.controller import serving_pair
from bounceback.controller.serving_pair import Pair, kept
from bounceback.kube import Kube
from bounceback.kube.resources import SECRETS

NAME = "bounceback-arming"
HOST = "bounceback-arming.bounceback-system.svc"


@pytest.mark.parametrize("there", [True, False], ids=["as the chart makes it", "no Secret"])
async def test_replicas_that_begin_together_agree(kube: Kube, home: str, there: bool) -> None:
    if there:
        await kube.create(SECRETS, home, {"metadata": {"name": NAME, "labels": {"made": "by-helm"}}, "type": "Opaque"})
    pairs = await asyncio.gather(*(kept(kube, home, NAME, (HOST,)) for _ in range(5)))
    assert len(set(pairs)) == 1
    secret = await kube.get(SECRETS, home, NAME)
    assert Pair.of(secret) == pairs[0]
    assert bool(secret["metadata"].get("labels")) == there
    assert await kept(kube, home, NAME, (HOST,)) == pairs[0], "a restarted one has the same"


async def test_one_that_ends_soon_is_replaced_and_trusted_on(
    kube: Kube, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(serving_pair, "LASTS", serving_pair.RENEWED - timedelta(minutes=1))
        old = Pair.made((HOST,))
    await kube.create(SECRETS, home, {"metadata": {"name": NAME}, "data": old.data})
    new = await kept(kube, home, NAME, (HOST,))
    assert new.certificate != old.certificate
    assert new.fits((HOST,), datetime.now(UTC))
    assert new.authorities.endswith(old.authorities)


async def test_what_is_no_pair_is_replaced(kube: Kube, home: str) -> None:
    await kube.create(SECRETS, home, {"metadata": {"name": NAME}, "stringData": {"tls.crt": "x", "ca.crt": "y"}})
    pair = await kept(kube, home, NAME, (HOST,))
    assert Pair.of(await kube.get(SECRETS, home, NAME)) == pair
