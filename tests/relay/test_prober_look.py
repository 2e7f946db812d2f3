"""A prober that looks, as a process of its own: each sample of each probe is a line of its log."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from bounceback.api.probes import Probe
from bounceback.engine.samples import History
from bounceback.recovery.remote import Reading, Remote
from bounceback.types.instants import Instant
from bounceback.types.prober import ORDERS
from tests.relay.test_prober import PROBER, asks
from tests.relay.test_workloads import STORE, serving

Json = dict[str, Any]


def probes(url: str, path: str) -> Json:
    port = int(url.rpartition(":")[2])
    each: Json = {
        "http": {"http": {"url": f"{url}{path}"}},
        "tcp": {"tcp": {"host": "127.0.0.1", "port": port if path == "/items" else 9}},
    }
    common = {"periodMilliseconds": 100, "timeoutMilliseconds": 10_000, "vantage": "Pod"}
    asked = {key: Probe.model_validate({"name": key, **look, **common}) for key, look in each.items()}
    return {key: probe.to_json() for key, probe in asked.items()}


@pytest.mark.parametrize(
    ("path", "healthy", "messages"),
    [
        ("/items", True, {"http": [], "tcp": []}),
        ("/items/7", False, {"http": ["status 404, expected 200"], "tcp": ["connection refused"]}),
    ],
)
async def test_what_it_sees_is_what_is_there(
    tmp_path: Path, path: str, healthy: bool, messages: dict[str, list[str]]
) -> None:
    store = STORE.Store("", 0)
    async with serving(lambda: STORE.Connection(store.answer)) as url:
        orders = {"probes": probes(url, path), "namespace": "shop", "notAfter": time.time() + 12}
        environment = {**os.environ, ORDERS: json.dumps(orders), "TMPDIR": str(tmp_path)}
        process = await asyncio.create_subprocess_exec(*PROBER, "look", env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert json.loads(await process.stdout.readline())["said"] == "Started"
        code, answer = await asks(tmp_path, {"ping": True})
        assert code == 0
        now = Instant.now()
        clock = Reading(now, Instant.from_json(answer["at"]), now)
        remotes = {key: Remote(History(0.1, 10.0), lambda: None) for key in messages}
        async for text in process.stdout:
            line = json.loads(text)
            remotes[line["probe"]].hear(line, clock)
        assert await process.wait() == 0, "it ends by its own deadline"
    for key, remote in remotes.items():
        assert remote.history.samples > 15
        assert remote.history.healthy_samples == (remote.history.samples if healthy else 0)
        assert remote.history.messages == messages[key]
        assert remote.problem is None
