"""The Kubernetes API through `bounceback proxy`: a listener on loopback, and a kubeconfig for who goes through it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bounceback.cli import kubeconfig
from bounceback.cli.exits import CommandError
from bounceback.cli.proxy_client import ProxyClient
from bounceback.cli.proxy_file import address
from bounceback.cli.proxy_kubeconfig import Access, write
from bounceback.proxy.api.contexts import RENEWED_SECONDS
from bounceback.proxy.api.gate import Ends, Gate
from bounceback.proxy.api.loopback import Loopback
from bounceback.proxy.control import is_loopback
from bounceback.proxy.listening import BACKLOG, bound
from bounceback.types.api_rule import ApiRule

Json = dict[str, Any]
AGAIN_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 10.0
"""How often it is looked whether files that the kubeconfig names were written anew."""


class ClusterProxy:
    """One cluster, through one port of loopback."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Reads the kubeconfig. Raises CommandError."""
        self._out = Path(options.write_kubeconfig)
        if self._out.resolve() in (place.resolve() for place in kubeconfig.places(options.kubeconfig)):
            raise CommandError(f"--write-kubeconfig {self._out}: must be another file than the one that is read")
        try:
            self._host, self._port = address(options.api_listen, any_port=True)
        except ValueError as error:
            raise CommandError(f"--api-listen {options.api_listen}: {error}") from error
        if not is_loopback(self._host):
            raise CommandError(f"--api-listen {options.api_listen}: must be a loopback address: rights go through it")
        self._options = options
        self._files = kubeconfig.places(options.kubeconfig)
        self._access = self._read().asked()
        self._loopback = Loopback(asks_for_certificates=self._access.certificate is not None)
        self._client = ProxyClient(options.client, self._out) if options.client else None
        self._marks = self._access.marks(self._files)
        self._gate = Gate(self._access.upstream(), self._kill)
        self._server: asyncio.Server | None = None
        self._renewal: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """And write the kubeconfig. Raises CommandError."""
        try:
            sock = bound(self._host, self._port)
        except OSError as error:
            raise CommandError(f"--api-listen {self._host}: cannot be listened on: {error.strerror}") from error
        self._port = sock.getsockname()[1]
        self._server = await asyncio.get_running_loop().create_server(
            self._gate.connection, sock=sock, ssl=self._loopback.context, backlog=BACKLOG
        )
        write(self._out, self._access.through(self._port, self._loopback))
        self._renew_later()
        self._look_later()
        self._asking = asyncio.get_running_loop().create_task(self._ask_anew())

    def _read(self) -> Access:
        """The kubeconfig as it is now. Raises CommandError."""
        return Access.of(kubeconfig.load(self._options.kubeconfig, self._options.context))

    async def _kill(self, _rule: str, _ends: Ends) -> bool:
        """Files with such faults are refused where there is no command."""
        return self._client is not None and self._client.kill()

    @property
    def client(self) -> ProxyClient | None:
        """The command that was given."""
        return self._client

    @property
    def words(self) -> str:
        """Where it listens, and what to do with it."""
        upstream = self._access.cluster["server"]
        return f"api: https://127.0.0.1:{self._port} -> {upstream}; export KUBECONFIG={self._out}"

    def follow(self, rules: Iterable[ApiRule]) -> None:
        self._gate.follow(rules)

    def counted(self) -> Json:
        return self._gate.counted()

    async def drain(self, seconds: float) -> int:
        """Let nobody in any more, wait for those who are in; how many were reset."""
        self.close()
        return await self._gate.drain(seconds)

    def close(self) -> None:
        """Nobody comes in any more, and the kubeconfig goes."""
        for timer in (self._renewal, self._look):
            if timer is not None:
                timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
        if self._server is not None:
            self._server.close()
            self._out.unlink(missing_ok=True)

    def _renew_later(self) -> None:
        self._renewal = asyncio.get_running_loop().call_later(RENEWED_SECONDS, self._renew)

    def _renew(self) -> None:
        self._loopback.renew()
        self._renew_later()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_again)

    def _look_again(self) -> None:
        self.look()
        self._look_later()

    def look(self) -> None:
        """Whether the kubeconfig or a file that it names was written anew: another authority, another certificate."""
        if (marks := self._access.marks(self._files)) == self._marks:
            return
        self._marks = marks
        try:
            found = self._read()
            if _manner(found) != _manner(self._access):
                raise CommandError("--kubeconfig: its user shows who they are in another way now: start anew for that")
            self._take(replace(found, held=self._access.held))
        except CommandError as error:
            print(f"{error}\nwhat was there before stays", file=sys.stderr, flush=True)

    def _take(self, access: Access) -> None:
        """From now on. Raises CommandError."""
        upstream = access.upstream()
        document = access.through(self._port, self._loopback) if access.user != self._access.user else None
        self._gate.go_to(upstream, anew=access.certificate != self._access.certificate)
        self._access = access
        if document is not None:
            write(self._out, document)

    async def _ask_anew(self) -> None:
        """The credential plug-in, before what it gave has expired."""
        while (pause := self._access.pause()) is not None:
            await asyncio.sleep(pause)
            try:
                found = await asyncio.to_thread(self._access.asked)
                if found.held is None:
                    raise CommandError("the kubeconfig's credential plug-in gives no client certificate any more")
                self._take(found)
            except CommandError as error:
                print(f"{error}\nit is asked again in {AGAIN_SECONDS:g} s", file=sys.stderr, flush=True)
                await asyncio.sleep(AGAIN_SECONDS)


def _manner(access: Access) -> tuple[object, bool]:
    """In which a user shows who they are."""
    return access.user.get("exec"), access.with_certificate
