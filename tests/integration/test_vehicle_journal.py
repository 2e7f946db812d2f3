"""The journal on a real API server: whole, fenced, and still there when the target's namespace is gone."""

from __future__ import annotations

import asyncio
import secrets

import pytest

from bounceback.kube import Kube, KubeError
from bounceback.kube.resources import NAMESPACES, SECRETS
from bounceback.vehicles.errors import Overtaken
from bounceback.vehicles.journal import Journal
from tests.conftest import make_namespace

SMALL = {"injections": [{"name": "slow-1"}], "agents": []}


async def _secrets(kube: Kube, home: str) -> list[str]:
    found, _ = await kube.list(SECRETS, home)
    return sorted(each["metadata"]["name"] for each in found)


async def test_a_record_survives_the_targets_namespace(kube: Kube, home: str) -> None:
    target = f"bb-target-{secrets.token_hex(4)}"
    await make_namespace(kube, target)
    journal = Journal(kube, home)
    await journal.write("uid-1", target, "web-slow", SMALL)
    await kube.delete(NAMESPACES, None, target)
    async with asyncio.timeout(60):
        while True:
            try:
                await kube.get(NAMESPACES, None, target)
            except KubeError as error:
                assert error.gone
                break
            await asyncio.sleep(0.2)
    fresh = Journal(kube, home)
    assert await fresh.all() == [("uid-1", target, "web-slow")]
    assert await fresh.read("uid-1") == SMALL
    await fresh.remove("uid-1")


async def test_nobody_deletes_it_by_accident(kube: Kube, home: str) -> None:
    journal = Journal(kube, home)
    await journal.write("uid-1", "shop", "web", SMALL)
    await kube.delete(SECRETS, home, "bounceback-journal-uid-1")
    assert await Journal(kube, home).read("uid-1") == SMALL, "the finalizer holds it"
    await journal.remove("uid-1")
    await journal.remove("uid-1")
    assert await journal.read("uid-1") is None
    assert await _secrets(kube, home) == []


async def test_a_large_record_is_spread_and_read_whole(kube: Kube, home: str) -> None:
    journal = Journal(kube, home)
    large = {"noise": secrets.token_hex(2_200_000)}  # half of it is left when compressed
    await journal.write("uid-1", "shop", "web", large)
    assert len(await _secrets(kube, home)) == 3
    assert await Journal(kube, home).read("uid-1") == large
    await journal.write("uid-1", "shop", "web", SMALL)
    assert await _secrets(kube, home) == ["bounceback-journal-uid-1"], "parts of the old record are gone"
    await journal.remove("uid-1")


async def test_a_write_never_replaces_a_newer_one(kube: Kube, home: str) -> None:
    old, new = Journal(kube, home), Journal(kube, home)
    await old.write("uid-1", "shop", "web", SMALL)
    with pytest.raises(Overtaken):
        await new.write("uid-1", "shop", "web", {"injections": []})
    assert await new.read("uid-1") == SMALL
    await new.write("uid-1", "shop", "web", {"newer": True})
    with pytest.raises(Overtaken):
        await old.write("uid-1", "shop", "web", {"late": secrets.token_hex(1_500_000)})
    assert await Journal(kube, home).read("uid-1") == {"newer": True}
    assert await _secrets(kube, home) == ["bounceback-journal-uid-1"], "what the loser wrote is gone"
    await old.write("uid-1", "shop", "web", {"newer": True})  # the very same is no conflict: an answer may get lost
    await new.remove("uid-1")
    with pytest.raises(Overtaken):
        await old.write("uid-1", "shop", "web", {"late": True})
