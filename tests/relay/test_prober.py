"""The program of a prober pod, as a process of its own, on servers of loopback: what its log tells, and its control."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bounceback.engine.state import Seen, State, Work
from bounceback.engine.working import heard, with_work
from bounceback.proxy.certificates import Authority
from bounceback.types.outcome import Judgement
from bounceback.types.prober import AUTHORITIES, ORDERS, PASSWORD
from tests import real_servers
from tests.relay.test_workloads import STORE, serving
from tests.unit.engine_values import at, check, finished

Json = dict[str, Any]
PROBER = (sys.executable, "-m", "bounceback.prober")


@asynccontextmanager
async def prober(
    folder: Path, url: str, lasts: float = 60, secrets: dict[str, str] | None = None, **workload: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Operations are HTTP requests to that address; without one they are what `workload` says."""
    http = {"url": url, "write": {"path": "/items/{value}"}, "list": {"path": "/items"}}
    asked = {
        "model": "Set",
        **({"http": http} if url else {}),
        "load": {"open": {"perSecond": 200}},
        "settleSeconds": 0,
        **workload,
    }
    orders = json.dumps({"workload": asked, "run": 7, "notAfter": time.time() + lasts})
    environment = {**os.environ, **(secrets or {}), ORDERS: orders, "TMPDIR": str(folder)}
    process = await asyncio.create_subprocess_exec(*PROBER, "work", env=environment, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def asks(folder: Path, question: Json) -> tuple[int, Json]:
    process = await asyncio.create_subprocess_exec(
        *PROBER, "control", env={**os.environ, "TMPDIR": str(folder)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    out, _ = await process.communicate(json.dumps(question).encode())
    return process.returncode or 0, json.loads(out)


async def said(process: asyncio.subprocess.Process, what: str, work: Work) -> Work:
    """The work with all lines up to the first that tells this."""
    assert process.stdout is not None
    while True:
        line = json.loads(await process.stdout.readline())
        work = heard(work, line)
        if line["said"] == what:
            return work


def result(work: Work) -> tuple[Judgement | None, str]:
    copy = check(workload={"model": "Set", "redis": {"host": "store"}})
    (status,) = with_work(State(finished([copy])), Seen(work=(work,)), at(0)).status.workloads
    return status.result, status.message


@pytest.mark.parametrize(("flaw", "expected"), [("", Judgement.PASSED), ("forgetful", Judgement.FAILED)])
async def test_it_operates_until_it_is_told_to_end_and_accounts_for_all(
    tmp_path: Path, flaw: str, expected: Judgement
) -> None:
    store = STORE.Store(flaw, 10)
    async with serving(lambda: STORE.Connection(store.answer)) as url, prober(tmp_path, url) as process:
        work = await said(process, "Second", Work("healthy"))
        assert work.loading
        while sum(second.acknowledged for second in work.seconds) <= 100:
            work = await said(process, "Second", work)
        code, answer = await asks(tmp_path, {"ping": True})
        assert (code, answer["ok"]) == (0, True) and "boot" in answer["at"]
        assert (await asks(tmp_path, {"end": True}))[0] == 0
        work = await said(process, "Account", work)
        assert await process.wait() == 0
    found, told = result(work)
    assert found is expected, told
    assert ("Lost: " in told) == bool(flaw)


async def test_it_ends_by_its_own_deadline_where_nobody_tells_it(tmp_path: Path) -> None:
    store = STORE.Store("", 0)
    async with serving(lambda: STORE.Connection(store.answer)) as url, prober(tmp_path, url, lasts=10) as process:
        work = await said(process, "Account", Work("healthy"))
    assert work.load_end == "Deadline" and result(work)[0] is Judgement.PASSED


async def test_a_system_that_cannot_be_read_first_is_not_written_to(tmp_path: Path) -> None:
    async with prober(tmp_path, "http://127.0.0.1:9", readBackSeconds=1) as process:
        work = await said(process, "Refused", Work("healthy"))
    assert result(work)[0] is Judgement.INCONCLUSIVE and "GET /items" in work.refused


async def test_it_has_password_and_authorities_from_its_environment(tmp_path: Path) -> None:
    authority = Authority.made("shop")
    files = real_servers.certificate(tmp_path, authority, ["redis.test"])
    pem = authority.certificate.public_bytes(real_servers.PEM).decode()
    tls = ["--tls-cert-file", str(files[0]), "--tls-key-file", str(files[1]), "--tls-auth-clients", "no"]
    port = real_servers.free_port()
    with real_servers.redis("--requirepass", "s3cret", *tls, "--tls-port", str(port)):
        for told, name, trusted in (
            ("", "redis.test", pem),
            ("Hostname mismatch", "other.test", pem),
            ("tls.authorities names must hold certificates in PEM", "redis.test", "?"),
        ):
            secure = {"authorities": {"secretName": "ca"}, "serverName": name}
            redis = {"host": "127.0.0.1", "port": port, "tls": secure}
            secrets = {PASSWORD: "s3cret", AUTHORITIES: trusted}
            work: Json = {"redis": redis, "passwordFrom": {"secretName": "redis"}, "readBackSeconds": 5 if told else 60}
            async with prober(tmp_path, "", secrets=secrets, **work) as process:
                heard = await said(process, "Refused" if told else "Second", Work("healthy"))
                if not told:
                    while not any(second.acknowledged for second in heard.seconds):
                        heard = await said(process, "Second", heard)
                    assert (await asks(tmp_path, {"end": True}))[0] == 0
                    heard = await said(process, "Account", heard)
            assert told in heard.refused
            assert result(heard)[0] is (Judgement.INCONCLUSIVE if told else Judgement.PASSED)


async def test_who_asks_where_none_works_is_told_so(tmp_path: Path) -> None:
    code, answer = await asks(tmp_path, {"ping": True})
    assert code == 1 and "the prober does not answer" in answer["error"]
