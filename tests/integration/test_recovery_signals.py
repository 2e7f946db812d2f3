"""Signals of every kind that needs no cluster: a system that says what the trouble is, and one that says nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bounceback.api.check import RecoveryCheckSpec
from bounceback.engine.reading import Seen, first_holding, read
from bounceback.recovery.observing import ObservationError, observe
from bounceback.recovery.watching import Watching
from bounceback.types.instants import Instant
from tests import real_servers
from tests.integration.looking import AUTHORITY, NO_CLUSTER, NO_SEAL, SECRETS, Held
from tests.integration.test_recovery_looks import example, serving
from tests.integration.test_recovery_network import PAGE, grpc_server, health, page, tls_server
from tests.relay.name_server import name_server

HOST = "127.0.0.1"
SAYS = {
    "http": ("json.depth == 7", "json.depth < 7"),
    "dns": ("answers == ['10.0.0.7']", "answers == ['10.0.0.8']"),
    "tls": ("daysLeft < 30", "daysLeft < 1"),
    "grpc": ("status == 'NOT_SERVING'", "status == 'UNKNOWN'"),
    "prometheus": ("value == 7", "value > 7"),
    "sql": ("rows[0].n == 1", "rows[0].n > 1"),
    "redis": ("reply == 'down'", "reply == 'up'"),
    "nats": ("server.jetstream", "!server.jetstream"),
}
"""Of each kind that has an expression: what its system says, and what it does not say."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    with (
        real_servers.postgresql() as sql,
        real_servers.redis() as redis,
        real_servers.nats() as nats,
        name_server(tmp_path_factory.mktemp("dns")) as names,
    ):
        yield {"sql": sql.port, "redis": redis.port, "nats": nats.port, "dns": names}


@asynccontextmanager
async def looks(stores: dict[str, int], place: Any) -> AsyncIterator[dict[str, dict[str, Any]]]:
    """How each kind looks at its system; Redis holds what another look put there."""
    sql = {"kind": "PostgreSQL", "host": HOST, "database": "postgres", "login": {"secretName": "db"}}
    async with (
        serving(example) as address,
        tls_server(place, AUTHORITY, ["web.test"], 10) as tls,
        grpc_server(health) as grpc,
        page(PAGE) as metrics,
    ):
        yield {
            "http": {"url": f"{address}/queue"},
            "dns": {"name": "db.shop.test", "server": HOST, "port": stores["dns"]},
            "tls": {"host": HOST, "port": tls, "tls": {"verify": False}},
            "grpc": {"host": HOST, "port": grpc, "service": "down"},
            "prometheus": {"url": f"{metrics}/metrics", "metric": "queue_depth", "labels": {"queue": "new"}},
            "sql": {**sql, "port": stores["sql"], "query": "select 1 as n"},
            "redis": {"host": HOST, "port": stores["redis"], "command": ["ECHO", "down"]},
            "nats": {"host": HOST, "port": stores["nats"]},
        }


async def seen_of(*signals: dict[str, Any]) -> Seen:
    """What each of them told, at least once, after a fault that came before all."""
    spec = RecoveryCheckSpec.model_validate(
        {"probes": [{"name": "it", "tcp": {"host": HOST, "port": 1}}], "detection": list(signals)}
    )
    async with Watching(NO_CLUSTER, "shop", [("c", spec)], None, lambda: None) as watching, asyncio.timeout(60):
        signaled = watching.detections("c")
        while not all(history.samples for history in signaled.values()):
            assert not watching.problems()
            await asyncio.sleep(0.02)
        return Seen("c", spec, {}, dict(signaled), {}, dict(watching.categories("c")))


@pytest.mark.parametrize("kind", SAYS)
async def test_a_signal_of_this_kind(
    kind: str, stores: dict[str, int], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bounceback.recovery.means.Secrets", Held)
    assert "db" in SECRETS
    since = Instant.now()
    says, silent = SAYS[kind]
    async with looks(stores, tmp_path) as found:

        def signal(name: str, expression: str, category: str | None = None) -> dict[str, Any]:
            look = {kind: {**found[kind], "expression": expression}, "timeoutMilliseconds": 20_000}
            return {"name": name, **look, **({"category": category} if category else {})}

        rightly = await seen_of(signal("said", says, says if kind != "prometheus" else "labels.queue == 'new'"))
        wrongly = await seen_of(signal("said", says, silent))
        nothing = await seen_of(signal("said", silent, silent))
    assert first_holding(rightly.detection["said"], since) is not None
    assert first_holding(nothing.detection["said"], since) is None
    for seen, detected, named in ((rightly, True, True), (wrongly, True, False), (nothing, False, False)):
        health_seen = read([seen], (), since, None, None, Instant.now())
        assert ((health_seen.detected is not None), health_seen.named_rightly) == (detected, named)
    assert read([wrongly], (), since, None, None, Instant.now()).named_wrongly


async def test_a_port_that_opens_is_a_signal_and_one_that_is_closed_is_none() -> None:
    since = Instant.now()
    async with serving(example) as address:
        port = int(address.rpartition(":")[2])
        seen = await seen_of(
            {"name": "open", "tcp": {"host": HOST, "port": port}},
            {"name": "closed", "tcp": {"host": HOST, "port": real_servers.free_port()}},
        )
    assert first_holding(seen.detection["open"], since) is not None
    assert first_holding(seen.detection["closed"], since) is None


@pytest.mark.parametrize(
    ("kind", "look"),
    [
        ("http", {"url": "http://127.0.0.1:{port}/"}),
        ("sql", {"kind": "PostgreSQL", "host": HOST, "database": "shop", "query": "select 1"}),
        ("sql", {"kind": "MySQL", "host": HOST, "database": "shop", "query": "select 1"}),
        ("redis", {"host": HOST, "command": ["SMEMBERS", "orders"]}),
        ("nats", {"host": HOST}),
    ],
)
async def test_a_store_that_is_gone_cannot_be_observed(kind: str, look: dict[str, Any]) -> None:
    port = real_servers.free_port()
    look = {"url": look["url"].format(port=port)} if "url" in look else {**look, "port": port}
    spec = RecoveryCheckSpec.model_validate(
        {
            "observations": [{"name": "orders", kind: look}],
            "invariants": [{"name": "kept", "expression": "size(after.orders) > 0"}],
        }
    )
    with pytest.raises(ObservationError, match=r"^observation orders: connection refused$"):
        await observe(NO_CLUSTER, "shop", spec, NO_SEAL)
