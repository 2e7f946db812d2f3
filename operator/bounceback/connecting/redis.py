"""A connection to Redis, by TLS where that is asked for."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from redis.asyncio.connection import Connection as Plain


class Connection(Plain):
    """With a context that we made: the library's own takes no authorities from memory."""

    def __init__(self, context: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(**options)
        self._context = context

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), **({"ssl": self._context} if self._context else {})}
