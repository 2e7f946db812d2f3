"""The real Kopf, before an API server that is played: what it does when the definitions go, and that we do not wait."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from bounceback.api import GROUP, VERSION
from bounceback.controller.apart import PATIENCE
from bounceback.controller.watching import DEAF, LAST_WORDS, watch
from bounceback.kube import Kube
from bounceback.kube.resources import CHECKS, EXPERIMENTS

SO_MANY: Final = 5
"""At once: that none of them hangs where nobody ends them is one case in thirty."""
KINDS: Final = {"FaultExperiment": EXPERIMENTS.plural, "RecoveryCheck": CHECKS.plural}


class Played:
    """Serves our kinds, without objects, until experiments are gone; watches of them end at once, others stay."""

    def __init__(self) -> None:
        self.gone = False
        self.over = asyncio.Event()
        self.watched = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        kind = request.path.rsplit("/", 1)[-1]
        if kind not in KINDS.values():
            return web.json_response(self._discovery()[request.path])
        if self.gone and kind == EXPERIMENTS.plural:
            return web.Response(status=404, text="404 page not found\n")
        if "watch" in request.query:
            return await self._watch(request, stays=kind == CHECKS.plural)
        return web.json_response({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})

    async def _watch(self, request: web.Request, *, stays: bool) -> web.StreamResponse:
        self.watched += 1
        answer = web.StreamResponse()
        await answer.prepare(request)
        if stays:
            await self.over.wait()
        return answer

    def _discovery(self) -> dict[str, Any]:
        version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
        group = {"name": GROUP, "preferredVersion": version, "versions": [version]}
        ours = [] if self.gone else [_kind(kind, plural) for kind, plural in KINDS.items()]
        return {
            "/api": {"versions": ["v1"]},
            "/api/v1": {"resources": [_kind("Namespace", "namespaces")]},
            "/apis": {"groups": [group]},
            f"/apis/{GROUP}/{VERSION}": {"resources": ours},
        }


def _kind(kind: str, plural: str) -> dict[str, Any]:
    verbs = ["list", "watch", "patch"]
    return {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": kind in KINDS, "verbs": verbs}


@asynccontextmanager
async def played(folder: Path) -> AsyncIterator[tuple[Played, Kube]]:
    server = Played()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "played", "cluster": {"server": site.name}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "played", "context": {"cluster": "played", "user": "me"}}],
        "current-context": "played",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(config))
    try:
        async with Kube.connected(str(path)) as kube:
            yield server, kube
    finally:
        server.over.set()
        await runner.cleanup()


async def test_a_kopf_that_does_not_get_over_its_own_end_is_ended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One in two does not: its last watch waits for a login that nobody makes any more. 90 s are too long for that."""
    at_most = LAST_WORDS + 2 * PATIENCE + 5.0
    assert at_most < DEAF / 2

    async def changed(_kind: str | None, _body: dict[str, Any]) -> None:
        return

    caplog.set_level(logging.WARNING)
    async with AsyncExitStack() as stack:
        all_played = [await stack.enter_async_context(played(tmp_path)) for _ in range(SO_MANY)]
        tasks = [asyncio.create_task(watch(kube, ("shop",), changed, lambda: None)) for _, kube in all_played]
        async with asyncio.timeout(20):
            while any(server.watched < 3 for server, _ in all_played):
                await asyncio.sleep(0.02)
        for server, _ in all_played:
            server.gone = True
        async with asyncio.timeout(at_most):
            while caplog.text.count("not served yet") < SO_MANY:
                await asyncio.sleep(0.05)
        assert len(re.findall(r"watching ended after \d+ s", caplog.text)) == SO_MANY
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
