"""Statements on MySQL and MariaDB, by the text protocol and with autocommit.

What answers mean (https://dev.mysql.com/doc/refman/8.4/en/innodb-autocommit-commit-rollback.html and
.../innodb-error-handling.html): with autocommit a statement that returns no error has been committed, and one that
returns an error has been rolled back. Hence

acknowledged    the server's OK, or all rows.
failed          an error of the server's, but for those of IN_BETWEEN; or nothing was sent.
unknown         errors of IN_BETWEEN; no answer in time; a connection that broke. Tables that know no transactions
                (MyISAM) keep what an error came too late for: there a failed statement of many rows may be half done.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import aiomysql

from bounceback.api.operations_stores import SqlWorkload
from bounceback.connecting.mysql import connect as connected
from bounceback.connecting.tls import mistrust
from bounceback.workload.sql import CHANGING, Done, Statement, StatementError

IN_BETWEEN: Final = frozenset((1053, 1180, 1196, 1317, 1598, 1927))
"""Shutdown, commit, rollback, interrupted, binary log, killed: they may come when the commit has."""
CLIENTS_OWN: Final = range(2000, 3000)
"""Error codes of the client's, among them that the connection broke."""


def statement(text: str) -> Statement:
    return Statement(text, lambda _: "%s", lambda plain: plain.replace("%", "%%"))


async def connect(sql: SqlWorkload, context: ssl.SSLContext | None) -> MysqlConnection:
    """Raises StatementError."""
    try:
        return MysqlConnection(
            await connected(
                host=sql.host,
                port=sql.at_port,
                user=sql.user or "root",
                password=os.environ.get(sql.password_variable, "") if sql.password_variable else "",
                db=sql.database,
                ssl=context,
                program_name="bounceback-workload",
                autocommit=True,
            )
        )
    except (aiomysql.Error, OSError) as error:
        told = mistrust(error)
        raise StatementError(f"MySQL: {told}" if told else _told(error), undone=True) from error


class MysqlConnection:
    def __init__(self, connection: aiomysql.Connection) -> None:
        self._connection = connection

    async def run(self, statement: Statement, key: str, value: int) -> Done:
        try:
            async with self._connection.cursor() as cursor:
                changed = await cursor.execute(statement.text, statement.values(key, value))
                rows = await cursor.fetchall() if cursor.description else ()
        except (aiomysql.Error, OSError) as error:
            raise StatementError(_told(error), undone=_is_undone(error)) from error
        first = statement.text.split(None, 1)[0].upper()
        return Done(rows, changed if first in CHANGING and not cursor.description else None)

    async def every_row(self, statement: Statement, key: str, value: int) -> AsyncIterator[Sequence[Any]]:
        try:
            cursor = await self._connection.cursor(aiomysql.SSCursor)
            await cursor.execute(statement.text, statement.values(key, value))
            while rows := await cursor.fetchmany(1000):
                for row in rows:
                    yield row
        except (aiomysql.Error, OSError) as error:
            raise StatementError(_told(error), undone=True) from error

    @property
    def is_over(self) -> bool:
        return bool(self._connection.closed)

    def abort(self) -> None:
        self._connection.close()


def _is_undone(error: Exception) -> bool:
    """Whether the server itself said so; a code of 0 is the client's, too."""
    code = error.args[0] if error.args else None
    if not isinstance(error, aiomysql.Error) or not isinstance(code, int):
        return False
    return code > 0 and code not in IN_BETWEEN and code not in CLIENTS_OWN


def _told(error: Exception) -> str:
    return f"MySQL: {error.args[1] if len(error.args) > 1 else str(error) or type(error).__name__}"
