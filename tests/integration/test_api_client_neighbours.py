"""Faults hit the client that they are for: another one beside it, at 100 requests a second, sees nothing of them.

And no token is to be seen in what the proxy says, writes or counts, whatever goes wrong.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import yaml

from tests.commands import PROJECT, Commands, Json
from tests.integration.through import Through, account, config_map, kubeconfig_as, through

pytestmark = pytest.mark.cluster
RATE = 100  # requests a second
SECONDS = 3.0


@dataclass
class Pair:
    """Two service accounts through one proxy."""

    proxied: Through
    place: str
    hit: str  # their tokens
    spared: str

    def user(self, name: str) -> str:
        return f"system:serviceaccount:{self.place}:{name}"


@dataclass
class Seen:
    """What a client saw."""

    codes: dict[int, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    events: int = 0

    def code(self, code: int) -> None:
        self.codes[code] = self.codes.get(code, 0) + 1


@pytest.fixture(scope="module")
def pair(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with commands.namespace("bb-pair") as place:
        commands.apply(place, config_map("a", x="1"))
        hit, spared = account(commands, place, "hit"), account(commands, place, "spared")
        user = kubeconfig_as(commands, tmp_path_factory.mktemp("user") / "config", {"token": hit})
        with through(user, tmp_path_factory.mktemp("proxy")) as proxied:
            yield Pair(proxied, place, hit, spared)


FAULTS: dict[str, Json] = {
    "denied": {"authFault": {"permissionDenied": {}}},
    "invalid token": {"authFault": {"tokenInvalid": {}}},
    "expired token": {"authFault": {"tokenExpired": {}}},
    "wrong namespace": {"authFault": {"wrongNamespace": {"namespace": "bb-nowhere"}}},
    "errors": {"apiFault": {"answer": {"code": 500}}},
    "a limit": {"apiFault": {"rateLimit": {"requestsPerSecond": 1}}},
    "delays": {"apiFault": {"delay": {"beforeMilliseconds": 1000}}},
    "lost replies": {"apiFault": {"loseReply": {}}},
    "cuts": {"apiFault": {"cut": {}}},
    "silence": {"apiFault": {"cut": {"ending": "Silence"}}},
    "stalled watches": {"apiFault": {"watch": {"stall": {"drop": True}}}},
    "reset watches": {"apiFault": {"watch": {"cut": {"ending": "Reset"}}}},
}


@pytest.mark.parametrize("name", list(FAULTS))
async def test_only_the_one_that_is_named_is_hit(pair: Pair, name: str) -> None:
    ((kind, act),) = FAULTS[name].items()
    label = f"n{list(FAULTS).index(name)}"
    began = time.monotonic()
    async with session(pair, pair.hit) as hit, session(pair, pair.spared) as spared:
        with pair.proxied.fault(label, **{kind: {**act, "users": [pair.user("hit")]}}):
            seen, beside = Seen(), Seen()
            unlucky = asyncio.create_task(asks(hit, pair.place, seen, 5))
            await asyncio.gather(asks(spared, pair.place, beside, RATE), watches(spared, pair.place, beside))
            unlucky.cancel()
            with suppress(asyncio.CancelledError):
                await unlucky
    assert pair.proxied.hits(label) >= 1
    assert beside.errors == []
    assert set(beside.codes) == {200}
    assert beside.codes[200] >= RATE * SECONDS * 0.9
    assert beside.events >= 2
    if name == "a limit":
        assert seen.codes.get(200, 0) <= 1 + time.monotonic() - began
    elif "watches" not in name and name != "delays":
        assert 200 not in seen.codes


def session(pair: Pair, token: str) -> aiohttp.ClientSession:
    cluster = yaml.safe_load(Path(pair.proxied.commands.kubeconfig).read_text(encoding="utf-8"))["clusters"][0][
        "cluster"
    ]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    return aiohttp.ClientSession(
        cluster["server"],
        headers={"Authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(ssl=context, limit=50),
        timeout=aiohttp.ClientTimeout(total=20),
    )


async def asks(client: aiohttp.ClientSession, place: str, seen: Seen, rate: int) -> None:
    """So many a second, whatever comes of those before; every tenth writes, every fiftieth begins a watch."""

    async def one(number: int) -> None:
        path = f"/api/v1/namespaces/{place}/configmaps"
        try:
            if number % 50 == 1 and rate < RATE:
                async with client.get(path, params={"watch": "1", "timeoutSeconds": "1"}) as answer:
                    await answer.read()
            elif number % 10 == 0:
                patch = json.dumps({"data": {"n": str(number)}}).encode()
                kind = {"Content-Type": "application/merge-patch+json"}
                async with client.patch(f"{path}/a", data=patch, headers=kind) as answer:
                    await answer.read()
                    seen.code(answer.status)
            else:
                async with client.get(f"{path}/a") as answer:
                    await answer.read()
                    seen.code(answer.status)
        except (aiohttp.ClientError, TimeoutError) as error:
            seen.errors.append(repr(error))

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(1, int(rate * SECONDS) + 1):
            tasks.create_task(one(number))
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))


async def watches(client: aiohttp.ClientSession, place: str, seen: Seen) -> None:
    params = {"watch": "1", "timeoutSeconds": str(int(SECONDS))}
    try:
        async with client.get(f"/api/v1/namespaces/{place}/configmaps", params=params) as answer:
            async for _ in answer.content:
                seen.events += 1
    except aiohttp.ClientError as error:
        seen.errors.append(repr(error))


async def test_tokens_are_nowhere_to_be_seen(commands: Commands, pair: Pair, tmp_path: Path) -> None:
    """Debug mode, errors of all kinds, a table and JSON: neither a token nor a part of one that would be of use."""
    folder = tmp_path / "out"
    folder.mkdir()
    user = kubeconfig_as(commands, tmp_path / "config", {"token": pair.hit})
    faults = folder / "faults.yaml"
    faults.write_text("faults: []\n", encoding="utf-8")
    (tmp_path / "sitecustomize.py").write_text("import logging\nlogging.basicConfig(level=1)\n", encoding="utf-8")
    path = f"{tmp_path}:{PROJECT / 'operator'}"
    debug = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "PYTHONPATH": path}
    with through(user, folder, "--fault", str(faults), **debug) as proxied:
        other = Pair(proxied, pair.place, pair.hit, pair.spared)
        for number, fault in enumerate(FAULTS.values()):
            with proxied.fault(f"t{number}", **fault):
                async with session(other, pair.hit) as client:
                    asking = asyncio.create_task(asks(client, pair.place, Seen(), 20))
                    await asyncio.sleep(0.3)
                    asking.cancel()
                    with suppress(asyncio.CancelledError):
                        await asking
        async with session(other, "not-a-jwt-but-secret") as client:
            await asks(client, pair.place, Seen(), 5)
        faults.write_text("faults: [{name: wrong, apiFault: {answer: {code: 7}}}]", encoding="utf-8")
        proxied.running.said("code")
        told = [json.dumps(proxied.counters), json.dumps(proxied.control.ask("GET", "/faults")[1])]
        files = {path.name: (stat.S_IMODE(path.stat().st_mode), path.read_text("utf-8")) for path in folder.iterdir()}
        told += [text for name, (_, text) in files.items() if name != "through.yaml"]
        assert files["through.yaml"][0] == 0o600
        assert pair.hit in files["through.yaml"][1]  # whom it was handed to keeps it
        told += [proxied.running.end(), *proxied.running.lines]
    said = "\n".join(told)
    _, payload, signature = pair.hit.split(".")
    assert "DEBUG:" in said
    for secret in (
        pair.hit,
        payload,
        signature,
        signature[:20],
        signature[-20:],
        payload[-40:],
        "not-a-jwt-but-secret",
    ):
        assert secret not in said
    assert not (folder / "through.yaml").exists()
