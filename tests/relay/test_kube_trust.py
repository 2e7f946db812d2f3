"""The operator's own requests, while the authority of the API server changes."""

from __future__ import annotations

import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web

from bounceback.kube import Kube
from bounceback.kube.trust import Trust
from bounceback.proxy.api.contexts import listening
from bounceback.proxy.api.loopback import Loopback
from bounceback.proxy.shown import load


def authority() -> Loopback:
    return Loopback(asks_for_certificates=False)


@asynccontextmanager
async def api_server(signer: Loopback) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """Its port, and what it shows, which may be changed."""
    context = listening()
    load(context, *signer.server())

    async def version(_: web.Request) -> web.Response:
        return web.json_response({})

    application = web.Application()
    application.router.add_get("/version", version)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    try:
        yield runner.addresses[0][1], context
    finally:
        await runner.cleanup()


def trust(folder: Path, *content: bytes) -> None:
    """All at once, as the kubelet does."""
    new = folder / "..new"
    new.write_bytes(b"".join(content))
    new.rename(folder / "ca.crt")


def kubeconfig(folder: Path, port: int) -> str:
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(folder / "ca.crt")}
    document = {
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (folder / "config").write_text(yaml.safe_dump(document), encoding="utf-8")
    return str(folder / "config")


async def answers(kube: Kube) -> bool:
    try:
        await kube.raw("GET", "/version")
    except aiohttp.ClientConnectorCertificateError:
        return False
    return True


async def test_who_is_in_the_file_is_believed_and_who_was_taken_out_is_not(tmp_path: Path) -> None:
    first, second = authority(), authority()
    trust(tmp_path, first.authority)
    async with api_server(first) as (port, shown), Kube.connected(kubeconfig(tmp_path, port)) as kube:
        assert await answers(kube)
        trust(tmp_path, first.authority, second.authority)
        load(shown, *second.server())
        assert await answers(kube)
        trust(tmp_path, second.authority)
        assert await answers(kube)
        load(shown, *first.server())
        trust(tmp_path, second.authority, second.authority)  # so that it comes by a new connection
        assert not await answers(kube), "whoever was taken out"


@pytest.mark.parametrize("wrong", [b"", b"no certificate", None])
async def test_a_file_that_cannot_be_read_leaves_the_one_before(tmp_path: Path, wrong: bytes | None) -> None:
    first, second = authority(), authority()
    trust(tmp_path, first.authority)
    async with api_server(first) as (port, shown), Kube.connected(kubeconfig(tmp_path, port)) as kube:
        if wrong is None:
            (tmp_path / "ca.crt").unlink()
        else:
            trust(tmp_path, wrong)
        assert await answers(kube)
        trust(tmp_path, second.authority)
        load(shown, *second.server())
        assert await answers(kube)


async def test_what_could_not_be_read_for_a_moment_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crowded(_: Trust) -> ssl.SSLContext:
        raise OSError(errno.EMFILE, "too many open files")

    first, second = authority(), authority()
    trust(tmp_path, first.authority)
    async with api_server(second) as (port, _), Kube.connected(kubeconfig(tmp_path, port)) as kube:
        trust(tmp_path, second.authority)
        with monkeypatch.context() as patched:
            patched.setattr(Trust, "_made", crowded)
            assert not await answers(kube)
        assert await answers(kube)
