"""A connection to MySQL or MariaDB that never tells a password in the clear, and is by TLS where that is asked for."""

from __future__ import annotations

from typing import Any, Final

import aiomysql
from pymysql.constants import CLIENT, CR

from bounceback.connecting.tls import NO_TLS

IN_THE_CLEAR: Final = "mysql_clear_password"
NOT_IN_THE_CLEAR: Final = "the server asks for the password in the clear, which it gets by TLS only: give `tls`"


class Connection(aiomysql.Connection):  # type: ignore[misc]
    """The library's own goes on in the clear where a server has no TLS, and tells a server the password that asks."""

    async def _request_authentication(self) -> None:
        if self._ssl_context and not self.server_capabilities & CLIENT.SSL:
            raise aiomysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, NO_TLS)
        if not self._ssl_context:
            self._refuse_in_the_clear(self._server_auth_plugin)
        await super()._request_authentication()

    async def _process_auth(self, plugin_name: bytes, auth_packet: Any) -> Any:
        if not self._secure:
            self._refuse_in_the_clear(plugin_name.decode(errors="replace"))
        return await super()._process_auth(plugin_name, auth_packet)

    async def caching_sha2_password_auth(self, pkt: Any) -> Any:
        """The nonce of a switch to this method ends with a NUL that is none of it; with it no cached login is taken."""
        if pkt.is_auth_switch_request():
            pkt._data = pkt._data.removesuffix(b"\0")
        return await super().caching_sha2_password_auth(pkt)

    def _refuse_in_the_clear(self, plugin: str) -> None:
        if plugin == IN_THE_CLEAR:
            raise aiomysql.OperationalError(CR.CR_AUTH_PLUGIN_CANNOT_LOAD, NOT_IN_THE_CLEAR)


async def connect(**options: Any) -> Connection:
    """Raises aiomysql.OperationalError; where there is no connection an OSError is its cause."""
    connection = Connection(**options)
    try:
        await connection._connect()
    except BaseException:
        connection.close()  # cancelled, for one
        raise
    return connection
