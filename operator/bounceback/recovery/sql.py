"""A query to a database, on a connection of its own: PostgreSQL by asyncpg, MySQL and MariaDB by aiomysql."""

from __future__ import annotations

import datetime
import decimal
import ssl
from dataclasses import dataclass
from typing import Any, Final

from bounceback.api.looks_stores import Database, SqlSource
from bounceback.recovery.errors import NotHealthyError
from bounceback.recovery.means import Means
from bounceback.recovery.secrets import Credentials

MOST_ROWS: Final = 1000
LONGEST_VALUE: Final = 4096

Rows = list[dict[str, Any]]


async def ask_by_sql(means: Means, source: SqlSource) -> dict[str, Any]:
    """Raises NotHealthyError, CannotLookError."""
    login = await means.secrets.credentials(source.login)
    context = await means.context(source.tls, source.host) if source.tls else None
    query = _postgresql if source.kind is Database.POSTGRESQL else _mysql

    async def attempt(address: str, port: int) -> Rows:
        return await query(source, _Server(address, port, login, context))

    rows, milliseconds = await means.ask(source.host, source.at_port, attempt)
    return {"rows": rows, "milliseconds": milliseconds}


@dataclass(frozen=True, slots=True)
class _Server:
    """Where, and how it is to be spoken to."""

    address: str
    port: int
    login: Credentials
    context: ssl.SSLContext | None  # None: in the clear


async def _postgresql(source: SqlSource, server: _Server) -> Rows:
    import asyncpg

    try:
        connection = await asyncpg.connect(
            host=server.address,
            port=server.port,
            user=server.login.username or "postgres",
            password=server.login.password or "",
            passfile="/dev/null",  # of ours nothing is to be taken
            database=source.database,
            ssl=server.context or False,
            statement_cache_size=0,  # poolers before the server keep no statements
            server_settings={"application_name": "bounceback-probe"},
        )
        try:
            async with connection.transaction(readonly=not source.writes):
                if source.writes and not _answers_rows(source.query):
                    await connection.execute(source.query)
                    return []
                found = await (await connection.cursor(source.query)).fetch(MOST_ROWS)
            return [{name: plain(value) for name, value in row.items()} for row in found]
        finally:
            connection.terminate()
    except asyncpg.PostgresError as error:
        raise NotHealthyError(f"PostgreSQL: {error}".splitlines()[0][:200]) from error
    except asyncpg.InterfaceError as error:
        raise NotHealthyError(f"PostgreSQL: {error}".splitlines()[0][:200]) from error


async def _mysql(source: SqlSource, server: _Server) -> Rows:
    import aiomysql

    from bounceback.connecting.mysql import connect

    try:
        connection = await connect(
            host=server.address,
            port=server.port,
            user=server.login.username or "root",
            password=server.login.password or "",
            db=source.database,
            ssl=server.context,
            program_name="bounceback-probe",
            autocommit=False,
        )
    except aiomysql.OperationalError as error:
        raise _mysql_trouble(error) from error
    try:
        async with connection.cursor(aiomysql.SSDictCursor) as cursor:
            if not source.writes:
                await cursor.execute("START TRANSACTION READ ONLY")
            await cursor.execute(source.query)
            found = await cursor.fetchmany(MOST_ROWS) if cursor.description else []
        if source.writes:
            await connection.commit()
        return [{name: plain(value) for name, value in row.items()} for row in found]
    except aiomysql.Error as error:
        raise _mysql_trouble(error) from error
    finally:
        connection.close()


def _mysql_trouble(error: Exception) -> NotHealthyError | OSError:
    """The system's own error where the connection was refused: another address may take it."""
    if isinstance(error.__cause__, OSError):
        return error.__cause__
    told = error.args[1] if len(error.args) > 1 else error
    return NotHealthyError(f"MySQL: {told}".splitlines()[0][:200])


def _answers_rows(query: str) -> bool:
    return query.lstrip(" \t\n(").split(None, 1)[0].lower() in ("select", "with", "values", "table", "show")


def plain(value: Any) -> Any:
    """As JSON has it: numbers, text, truth, lists and maps; times in RFC 3339, bytes in hexadecimal."""
    match value:
        case None | bool() | int() | float():
            return value
        case str():
            return value[:LONGEST_VALUE]
        case decimal.Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case datetime.timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return bytes(value)[:LONGEST_VALUE].hex()
        case list() | tuple():
            return [plain(each) for each in value]
        case dict():
            return {str(key): plain(each) for key, each in value.items()}
    return str(value)[:LONGEST_VALUE]
