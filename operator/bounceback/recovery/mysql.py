"""A connection to MySQL or MariaDB that is in the clear only where nobody asked for TLS."""

from __future__ import annotations

from typing import Any

import aiomysql
from pymysql.constants import CLIENT, CR


class Connection(aiomysql.Connection):  # type: ignore[misc]
    """The library's own, which tells its password in the clear to a server that says it has no TLS."""

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise aiomysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server has no TLS, which `tls` asks for")
        await super()._request_authentication()


async def connect(**options: Any) -> Connection:
    """Raises aiomysql.OperationalError; where there is no connection an OSError is its cause."""
    connection = Connection(**options)
    await connection._connect()
    return connection
