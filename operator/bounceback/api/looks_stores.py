"""Looks at stores, as their clients see them: SQL databases, Redis, NATS JetStream."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from bounceback.api.credentials import Login, SecretPart, ServerTls
from bounceback.api.looks import AnyLook, Host
from bounceback.types.fields import Cel, Model, Port
from bounceback.types.rules import Rule, refuse


class Store(Model):
    """A server, and how it is reached."""

    host: Host = Field(description="Host name or address; a name without a dot is a Service of this namespace.")
    login: Login | None = Field(None, description="Who asks; unset: nobody in particular.")
    tls: ServerTls | None = Field(None, description="TLS; unset: none.")

    def secrets(self) -> Iterator[SecretPart]:
        if self.login:
            yield from self.login.secrets("login")
        if self.tls:
            yield from self.tls.secrets("tls")


class Database(StrEnum):
    POSTGRESQL = "PostgreSQL"
    MYSQL = "MySQL"


SQL_PORTS = {Database.POSTGRESQL: 5432, Database.MYSQL: 3306}


class SqlSource(Store):
    """A query to a database."""

    kind: Database = Field(description="PostgreSQL, or MySQL (MariaDB, too).")
    port: Port | None = Field(None, description="The port; unset: 5432 or 3306.")
    database: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="The database's name.")
    query: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="One statement; its first 1,000 rows are read."
    )
    writes: bool = Field(False, description="It may write; unset, it runs in a transaction that may not.")

    @property
    def at_port(self) -> int:
        return self.port or SQL_PORTS[self.kind]


class SqlLook(SqlSource, AnyLook):
    """A query to a database, on a connection of its own; healthy when it is answered, or as the expression says."""

    variables = ("rows", "milliseconds")

    expression: Cel | None = Field(
        None, description="CEL over rows (a list of maps by column) and milliseconds: rows[0].lag < 10."
    )


class RedisSource(Store):
    """A command to a Redis server."""

    port: Port = Field(6379, description="The port.")
    database: int = Field(0, ge=0, le=65_535, description="The number of the database.")
    command: Annotated[list[Annotated[str, Field(max_length=4096)]], Field(min_length=1, max_length=50)] = Field(
        description="The command and its arguments: [LLEN, queue]."
    )


class RedisLook(RedisSource, AnyLook):
    """A command to Redis, on a connection of its own; healthy when it is answered, or as the expression says."""

    variables = ("reply", "milliseconds")

    expression: Cel | None = Field(
        None, description="CEL over reply (text, a number, a list, a map or null) and milliseconds: reply == 'PONG'."
    )


CONSUMER_OF = Rule(
    "!has(self.consumer) || has(self.stream)", "stream must be given with consumer: it is one of a stream", ".stream"
)


class NatsSource(Store):
    """The state of a JetStream stream, and of one of its consumers; without both, of the connection alone."""

    rules: ClassVar[tuple[Rule, ...]] = (CONSUMER_OF,)

    port: Port = Field(4222, description="The port.")
    stream: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s.*>/\\]+$")] | None = Field(
        None, description="The stream's name."
    )
    consumer: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s.*>/\\]+$")] | None = Field(
        None, description="The name of one of its consumers."
    )

    @model_validator(mode="after")
    def _has_its_stream(self) -> Self:
        if self.consumer and not self.stream:
            raise refuse(CONSUMER_OF.message, "stream")
        return self


class NatsLook(NatsSource, AnyLook):
    """A look at NATS, on a connection of its own; healthy when what is named is there, or as the expression says."""

    variables = ("server", "stream", "consumer", "milliseconds")

    expression: Cel | None = Field(
        None,
        description="CEL over server, stream and consumer, as the server tells them, and milliseconds: "
        "stream.state.messages > 0 && consumer.num_pending < 100.",
    )
