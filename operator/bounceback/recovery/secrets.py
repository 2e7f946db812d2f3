"""Credentials of probes: read from Secrets in the account's name, kept for a moment in memory, and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from dataclasses import dataclass
from typing import Final

import aiohttp

from bounceback.api.credentials import Login
from bounceback.kube.client import Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import SECRETS
from bounceback.recovery.errors import CannotLookError, UnansweredError

FRESH_SECONDS: Final = 30.0
"""A password that was changed is known after this time."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Has no words of its own, so that it cannot get into a log."""

    username: str | None
    password: str | None


NOBODY: Final = Credentials(None, None)


class Secrets:
    """Those of one namespace."""

    def __init__(self, acting: Kube, namespace: str) -> None:
        self._acting = acting
        self._namespace = namespace
        self._known: dict[str, tuple[float, dict[str, str]]] = {}
        self._reading = asyncio.Lock()

    async def credentials(self, login: Login | None) -> Credentials:
        """Raises CannotLookError."""
        if login is None:
            return NOBODY
        data = await self._data(login.secret_name)
        username = await self.value(login.secret_name, login.username_key) if login.username_key else None
        if login.username_key is None and "username" in data:
            username = await self.value(login.secret_name, "username")
        return Credentials(username, await self.value(login.secret_name, login.password_key))

    async def value(self, name: str, key: str) -> str:
        """Raises CannotLookError."""
        data = await self._data(name)
        if key not in data:
            keys = ", ".join(sorted(data)) or "none at all"
            raise CannotLookError(f"Secret {name} has no key {key}; it has {keys}")
        try:
            return base64.b64decode(data[key]).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise CannotLookError(f"key {key} of Secret {name} must hold text") from None

    async def _data(self, name: str) -> dict[str, str]:
        async with self._reading:  # many probes want the same one at the same time
            at, data = self._known.get(name, (0.0, {}))
            if at and time.monotonic() - at < FRESH_SECONDS:
                return data
            data = await self._read(name)
            self._known[name] = time.monotonic(), data
            return data

    async def _read(self, name: str) -> dict[str, str]:
        try:
            secret = await self._acting.get(SECRETS, self._namespace, name)
        except KubeError as error:
            if error.gone:
                raise CannotLookError(f"there is no Secret {name} in {self._namespace}") from error
            if error.status in (401, 403):
                raise CannotLookError(
                    f"the service account must be allowed to get Secret {name}; "
                    f"`bounceback access {self._namespace} --secret {name} | kubectl apply -f -` grants it"
                ) from error
            raise UnansweredError(f"Secret {name} could not be read: {error.message}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UnansweredError(f"Secret {name} could not be read: the API server does not answer") from error
        found: dict[str, str] = secret.get("data") or {}
        return found
