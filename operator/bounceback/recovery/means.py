"""What looks are made with: the account, names, connections, credentials."""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

import aiohttp

from bounceback.api.credentials import ServerTls
from bounceback.connecting.tls import context_of
from bounceback.kube.client import Kube
from bounceback.kube.kinds import Kinds
from bounceback.recovery.errors import CannotLookError, NotHealthyError
from bounceback.recovery.looks import in_a_line, probe_session
from bounceback.recovery.names import Names, refuse_forbidden
from bounceback.recovery.outlasting import Commands
from bounceback.recovery.secrets import Secrets

Reached = TypeVar("Reached")


class Means:
    """For the looks of one run; to be entered before the first of them."""

    def __init__(self, acting: Kube, namespace: str) -> None:
        self.acting = acting
        self.namespace = namespace
        self.names = Names(namespace)
        self.kinds = Kinds(acting)
        self.secrets = Secrets(acting, namespace)
        self.commands = Commands()
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        assert self._session is not None, "not entered"
        return self._session

    async def __aenter__(self) -> Self:
        self._session = probe_session(self.names)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.commands.close()
        await self.session.close()
        await self.names.close()

    async def reach(self, host: str, port: int, attempt: Callable[[str, int], Awaitable[Reached]]) -> Reached:
        """Try the addresses of a name one after the other. Raises the last one's OSError."""
        refusal = OSError("the name has no address")
        for _, address in await self.names.addresses(host, port):
            try:
                refuse_forbidden(address[0])
                return await attempt(*address)
            except OSError as error:
                refusal = error
        raise refusal

    async def ask(self, host: str, port: int, attempt: Callable[[str, int], Awaitable[Reached]]) -> tuple[Reached, int]:
        """What came of the attempt, and within how many milliseconds. Raises NotHealthyError."""
        began = time.monotonic()
        try:
            reached = await self.reach(host, port, attempt)
        except ssl.SSLCertVerificationError as error:
            raise NotHealthyError(f"certificate not trusted: {error.verify_message}") from error
        except OSError as error:
            raise NotHealthyError(in_a_line(error)) from error
        return reached, round((time.monotonic() - began) * 1000)

    async def context(self, tls: ServerTls, host: str) -> ssl.SSLContext:
        """For a connection to that host. Raises CannotLookError."""
        trusted = (
            await self.secrets.value(tls.authorities.secret_name, tls.authorities.key) if tls.authorities else None
        )
        try:
            return context_of(tls, host, trusted)
        except ValueError as error:
            assert tls.authorities is not None
            where = f"key {tls.authorities.key} of Secret {tls.authorities.secret_name}"
            raise CannotLookError(f"{where} must hold certificates in PEM: {error}") from error
