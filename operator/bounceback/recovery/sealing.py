"""Secrets that are observed: of their values only digests, by a key that operators have and nobody else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any, Final

from bounceback.kube.client import Json, Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import SECRETS

NAME: Final = "bounceback-digests"
KEY: Final = "key"
KEY_BYTES: Final = 32
DIGITS: Final = 32
"""Of 64: two values with the same 128 bits are not met by chance."""
PARTS: Final = ("data", "stringData")


class Seal:
    """Its key is a Secret in the operator's own namespace, `namespace`, made where there is none: digests are the same
    after a restart, and of no use to who would try out values. `own` is the operator's connection.
    """

    def __init__(self, own: Kube, namespace: str) -> None:
        self._own = own
        self._namespace = namespace
        self._key = b""

    async def on(self, secret: Json) -> Json:
        """A copy with a digest for each value. Raises KubeError, ValueError where the key cannot be had."""
        key = self._key = self._key or await self._kept()
        return {part: _digests(key, value) if part in PARTS else value for part, value in secret.items()}

    async def _kept(self) -> bytes:
        """Of operators that make it at once one wins, and all have its key."""
        while True:
            try:
                data = (await self._own.get(SECRETS, self._namespace, NAME)).get("data") or {}
                break
            except KubeError as error:
                if not error.gone:
                    raise
            made = {KEY: base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}, "data": made}
            try:
                await self._own.create(SECRETS, self._namespace, body)
            except KubeError as error:
                if not error.exists:
                    raise
        key = base64.b64decode(data.get(KEY, ""))
        if len(key) < KEY_BYTES:
            raise ValueError(
                f"Secret {NAME} of namespace {self._namespace} has no {KEY} of {KEY_BYTES} bytes: delete it"
            )
        return key


def _digests(key: bytes, data: Any) -> Any:
    if not isinstance(data, dict):
        return None
    return {name: "hmac-sha256:" + _digest(key, f"{name}\0{json.dumps(value)}") for name, value in data.items()}


def _digest(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:DIGITS]
