"""What answers of an API server mean for the operations of a workload; a real one is in tests/integration."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bounceback.accounting.ledger import Function, Outcome
from bounceback.api.workload import Workload
from bounceback.workload.systems import system_of
from tests.integration.test_recovery_looks import serving

UNKNOWN, OK, FAILED = Outcome
SERVED = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}


def kubeconfig(place: Path, address: str) -> str:
    named = {"name": "it"}
    file = place / "kubeconfig"
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{**named, "cluster": {"server": address}}],
        "users": [{**named, "user": {"token": "x"}}],
        "contexts": [{**named, "context": {"cluster": "it", "user": "it"}}],
    }
    file.write_text(json.dumps(body))
    return str(file)


def workload(file: str, model: str, milliseconds: int = 20_000) -> Workload:
    place = {"namespace": "shop", "kubeconfig": file}
    return Workload.model_validate({"model": model, "kubernetes": place, "timeoutMilliseconds": milliseconds})


@pytest.mark.parametrize("model", ["Set", "Register"])
@pytest.mark.parametrize(
    ("status", "reason", "written", "read"),
    [
        (200, "", OK, OK),
        (201, "", OK, OK),
        (400, "BadRequest", FAILED, FAILED),
        (403, "Forbidden", FAILED, FAILED),
        (404, "NotFound", FAILED, OK),
        (404, "", FAILED, FAILED),
        (409, "Conflict", FAILED, FAILED),
        (409, "AlreadyExists", UNKNOWN, FAILED),
        (408, "", UNKNOWN, FAILED),
        (422, "Invalid", FAILED, FAILED),
        (429, "TooManyRequests", FAILED, FAILED),
        (500, "InternalError", UNKNOWN, FAILED),
        (503, "", UNKNOWN, FAILED),
        (504, "Timeout", UNKNOWN, FAILED),
        (0, "silent", UNKNOWN, FAILED),
        (0, "closed", UNKNOWN, FAILED),
    ],
)
async def test_an_answer_is_taken_for_what_it_says(
    status: int, reason: str, written: Outcome, read: Outcome, model: str, tmp_path: Path
) -> None:
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/api/v1":
            return web.json_response(SERVED)
        asked.append(request.method)
        if reason == "silent":
            await asyncio.sleep(3600)
        if reason == "closed":
            assert request.transport is not None
            request.transport.close()
        if status < 300:
            return web.json_response({"data": {"value": "7"}}, status=status)
        return web.json_response({"kind": "Status", "reason": reason}, status=status)

    async with serving(answer) as address:
        file = kubeconfig(tmp_path, address)
        client = system_of(workload(file, model, 2000 if reason == "silent" else 20_000)).client()
        told: list[Any] = [await client.perform(function, "1-1", 7) for function in (Function.WRITE, Function.READ)]
        await client.close()
    assert [answer.outcome for answer in told] == [written, read]
    assert asked[0] == ("POST" if model == "Set" else "PATCH")
    assert len([method for method in asked if method != "GET"]) == 1, "nothing is written twice"
    if status in (200, 201):
        assert told[1].value == (1 if model == "Set" else 7)


async def test_where_nobody_listens_nothing_was_done(tmp_path: Path) -> None:
    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    async with serving(answer) as address:
        file = kubeconfig(tmp_path, address)
    client = system_of(workload(file, "Set")).client()
    assert (await client.perform(Function.WRITE, "1-1", 7)).outcome is FAILED
    assert client.trouble.startswith("Kubernetes: Cannot connect")
    await client.close()
