"""Statements on PostgreSQL, by the extended query protocol.

What answers mean (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY and
.../protocol-error-fields.html): outside a transaction block Sync commits, and ReadyForQuery comes after that.
CommandComplete comes before it, so that it alone promises nothing: a constraint that is deferred may yet refuse.
asyncpg returns at ReadyForQuery. Hence

acknowledged    ReadyForQuery came, and no error.
failed          an error of severity ERROR: it ends the transaction, and nothing of it stays; or nothing was sent.
unknown         FATAL and PANIC, which end the session wherever it is, also behind the commit (57P01 while the server
                waits for its standby says so itself); classes 08 and 40003, which say that they do not know; no answer
                in time; a connection that broke.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from bounceback.api.operations_stores import SqlWorkload
from bounceback.connecting.tls import mistrust
from bounceback.workload.sql import CHANGING, Done, Statement, StatementError

WHOLE: Final = frozenset(("int2", "int4", "int8", "numeric", "oid"))
REAL: Final = frozenset(("float4", "float8"))
AHEAD: Final = 5000
"""Rows of a list that are fetched at a time."""
NOT_SAID: Final = ("08", "40003")


def statement(text: str) -> Statement:
    return Statement(text, lambda n: f"${n}")


async def connect(sql: SqlWorkload, context: ssl.SSLContext | None) -> PostgresqlConnection:
    """Raises StatementError."""
    password = os.environ.get(sql.password_variable, "") if sql.password_variable else ""
    try:
        return PostgresqlConnection(
            await asyncpg.connect(
                host=sql.host,
                port=sql.at_port,
                user=sql.user or "postgres",
                password=password,
                passfile="/dev/null",  # of ours nothing is to be taken
                database=sql.database,
                ssl=context or False,
                statement_cache_size=0,  # what is prepared here is prepared once
                server_settings={"application_name": "bounceback-workload"},
            )
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        told = mistrust(error) or str(error) or type(error).__name__
        raise StatementError(f"PostgreSQL: {told}", undone=True) from error


class PostgresqlConnection:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._prepared: dict[str, PreparedStatement] = {}

    async def run(self, statement: Statement, key: str, value: int) -> Done:
        try:
            prepared = await self._prepare(statement)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            raise StatementError(f"PostgreSQL: {error}", undone=True) from error  # preparing does nothing
        try:
            rows = await prepared.fetch(*_fitting(prepared, statement.values(key, value)))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            raise StatementError(f"PostgreSQL: {error}", undone=_is_undone(error)) from error
        word, *counts = (prepared.get_statusmsg() or "").split()
        return Done(rows, int(counts[-1]) if word in CHANGING else None)

    async def every_row(self, statement: Statement, key: str, value: int) -> AsyncIterator[Sequence[Any]]:
        try:
            async with self._connection.transaction(readonly=True):
                prepared = await self._prepare(statement)
                async for row in prepared.cursor(*_fitting(prepared, statement.values(key, value)), prefetch=AHEAD):
                    yield row
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
            raise StatementError(f"PostgreSQL: {error}", undone=True) from error

    @property
    def is_over(self) -> bool:
        return bool(self._connection.is_closed())

    def abort(self) -> None:
        self._connection.terminate()

    async def _prepare(self, statement: Statement) -> PreparedStatement:
        if (prepared := self._prepared.get(statement.text)) is None:
            prepared = self._prepared[statement.text] = await self._connection.prepare(statement.text)
        return prepared


def _fitting(prepared: PreparedStatement, values: Sequence[str | int]) -> list[str | int | float]:
    """As the parameters' types want them, which the server has told."""
    found: list[str | int | float] = []
    for parameter, value in zip(prepared.get_parameters(), values, strict=True):
        if parameter.name in WHOLE and isinstance(value, int):
            found.append(value)
        else:
            found.append(float(value) if parameter.name in REAL else str(value))
    return found


def _is_undone(error: Exception) -> bool:
    if isinstance(error, asyncpg.InterfaceError):
        return isinstance(error, ValueError)  # a value that its column cannot have: nothing was sent
    if not isinstance(error, asyncpg.PostgresError):
        return False
    severity = error.severity_en or error.severity  # none where there was no answer
    return severity == "ERROR" and not str(error.sqlstate).startswith(NOT_SAID)
