"""SQL databases as a workload needs them: one statement at a time, each committed by itself, and none sent twice.

What speaks to PostgreSQL and to MySQL is in modules of their own, which say what each answer means.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Final, NamedTuple, Protocol

from bounceback.accounting.ledger import Function, Model, Outcome
from bounceback.api.looks_stores import Database
from bounceback.api.operations_stores import SqlWorkload
from bounceback.workload.client import Answer, SilentError, number_of

FAILED: Final = Answer(Outcome.FAILED)
UNKNOWN: Final = Answer(Outcome.UNKNOWN)
DONE: Final = Answer(Outcome.ACKNOWLEDGED)
PARAMETER: Final = re.compile(r"\{(key|value)\}")
CHANGING: Final = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"))
"""The statements of which the server says how many rows they changed: an acknowledged change of none is none."""


class StatementError(Exception):
    """A statement without an answer that says it is done. `undone`: it certainly had no effect."""

    def __init__(self, message: str, *, undone: bool) -> None:
        super().__init__(message.splitlines()[0][:200] if message else "no answer")
        self.undone = undone


class Done(NamedTuple):
    """`changed` is how many rows, where the statement is one that changes some and the server says it."""

    rows: Sequence[Sequence[Any]]
    changed: int | None = None


class Connection(Protocol):
    """To one server. Both raise StatementError."""

    async def run(self, statement: Statement, key: str, value: int) -> Done:
        """Returns once it is committed."""

    def every_row(self, statement: Statement, key: str, value: int) -> AsyncIterator[Sequence[Any]]: ...

    @property
    def is_over(self) -> bool: ...

    def abort(self) -> None: ...


class Statement:
    """A statement with places for key and value, as a server's language of parameters has it."""

    def __init__(self, text: str, parameter: Callable[[int], str], plain: Callable[[str], str] = str) -> None:
        """`parameter` is how the nth is written, `plain` how what is no parameter is."""
        pieces = PARAMETER.split(text)  # text, name, text, name, ..., text
        self.names = tuple(pieces[1::2])
        places = (parameter(n) for n in range(1, len(self.names) + 1))
        self.text = plain(pieces[0]) + "".join(
            place + plain(piece) for place, piece in zip(places, pieces[2::2], strict=True)
        )

    def values(self, key: str, value: int) -> list[str | int]:
        return [key if name == "key" else value for name in self.names]


class SqlSystem:
    """A database, as `sql` tells of it."""

    def __init__(self, sql: SqlWorkload, model: Model, seconds: float, context: ssl.SSLContext | None = None) -> None:
        self.sql = sql
        self._context = context  # None: in the clear
        self.is_set = model is Model.SET
        self.seconds = seconds  # that an operation may take
        server = self._server = _server(sql.kind)
        given = {Function.WRITE: sql.write, Function.READ: sql.read, Function.TAKE: sql.take}
        self.statements = {function: server.statement(text) for function, text in given.items() if text is not None}
        self._list = server.statement(sql.list) if sql.list is not None else None

    def client(self) -> SqlClient:
        return SqlClient(self)

    async def connect(self, seconds: float) -> Connection:
        """Raises StatementError, TimeoutError."""
        async with asyncio.timeout(seconds):
            connection: Connection = await self._server.connect(self.sql, self._context)
            return connection

    async def listed(self, key: str, seconds: float) -> array[int]:
        assert self._list is not None
        found = array("q")
        connection: Connection | None = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self.connect(seconds)
                async for row in connection.every_row(self._list, key, 0):
                    found.append(number_of(row[0]))
        except (StatementError, TimeoutError) as error:
            raise SilentError(f"list: {str(error) or 'no answer in time'}") from error
        finally:
            if connection is not None:
                connection.abort()
        return found


def _server(kind: Database) -> ModuleType:
    """What speaks to it; loaded where it is wanted."""
    return import_module(f"bounceback.workload.{kind.lower()}")


class SqlClient:
    """One connection; opened where there is none."""

    def __init__(self, system: SqlSystem) -> None:
        self._system = system
        self._connection: Connection | None = None
        self.trouble = ""

    async def perform(self, function: Function, key: str, value: int) -> Answer:
        try:
            connection = await self._connected()
        except (StatementError, TimeoutError) as error:
            self.trouble = str(error) or "no connection in time"
            return FAILED  # no statement was sent
        try:
            async with asyncio.timeout(self._system.seconds):
                done = await connection.run(self._system.statements[function], key, value)
        except (StatementError, TimeoutError) as error:
            self.trouble = str(error) or "no answer in time"
            undone = isinstance(error, StatementError) and error.undone
            if not undone:
                await self.close()
            return FAILED if undone or function is Function.READ else UNKNOWN
        return self._taken(function, done)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.is_over:
            await self.close()
            self._connection = await self._system.connect(self._system.seconds)
        return self._connection

    def _taken(self, function: Function, done: Done) -> Answer:
        if function is Function.WRITE:
            if done.changed == 0:
                self.trouble = "the server says that no row was changed"
                return FAILED
            return DONE
        found = done.rows[0][0] if done.rows and len(done.rows[0]) else None
        if self._system.is_set:
            return Answer(Outcome.ACKNOWLEDGED, 1 if found else None)
        return Answer(Outcome.ACKNOWLEDGED, None if found is None else number_of(found))
