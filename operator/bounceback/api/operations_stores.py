"""How the operations of a workload are made on stores: SQL databases, NATS JetStream, Redis."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from bounceback.api.credentials import WorkloadTls
from bounceback.api.looks import Host
from bounceback.api.looks_stores import SQL_PORTS, Database
from bounceback.types.fields import Model, Port
from bounceback.types.rules import FieldError

PARAMETERS: Final = ("{key}", "{value}")
PREFIX_PATTERN: Final = r"^[!-~]+$"
NATS_NAME: Final = r"^[^\s.*>/\\]+$"
VARIABLE_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"

Statement = Annotated[str, Field(min_length=1, max_length=4096)]


class Server(Model):
    """Who asks, and how."""

    user: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None, description="The name of the user; unset: nobody in particular."
    )
    password_variable: Annotated[str, Field(min_length=1, max_length=128, pattern=VARIABLE_PATTERN)] | None = Field(
        None, description="The environment variable that has the password, which stands in no file; unset: none."
    )
    tls: WorkloadTls | None = Field(None, description="TLS; unset: none.")


class SqlWorkload(Server):
    """Statements, each committed by itself; {key} and {value} in them are parameters, and never text.

    Acknowledged: the server said that it is committed. Failed: it answered with an error, which rolls back, or that no
    row was changed.
    """

    kind: Database = Field(description="PostgreSQL, or MySQL (MariaDB, too).")
    host: Host = Field(description="Host name or address.")
    port: Port | None = Field(None, description="The port; unset: 5432 or 3306.")
    database: Annotated[str, Field(min_length=1, max_length=63)] = Field(description="The database's name.")
    write: Statement | None = Field(
        None,
        description="Register: {value} to {key}, there or not. Set: {value} added. Counter: 1 added to {key}, there or "
        "not. Queue: {value} put in.",
    )
    read: Statement | None = Field(
        None,
        description="Register, Counter: what {key} has. Set: whether {value} is there. The first column of the first "
        "row; no row, or null: nothing.",
    )
    take: Statement | None = Field(
        None, description="Queue: the next value, out: the first column of the first row; no row: it is empty."
    )
    list: Statement | None = Field(None, description="Set: all values, at the end: the first column of each row.")

    @property
    def at_port(self) -> int:
        return self.port or SQL_PORTS[self.kind]

    @model_validator(mode="after")
    def _parameters_are_no_text(self) -> Self:
        statements = {"write": self.write, "read": self.read, "take": self.take, "list": self.list}
        if problems := tuple(
            ((name,), f"must have {parameter} without quotes: it is a parameter, and no text")
            for name, statement in statements.items()
            for parameter in PARAMETERS
            if any(f"{quote}{parameter}{quote}" in (statement or "") for quote in "'\"`")
        ):
            raise FieldError(problems)
        return self


class NatsWorkload(Server):
    """NATS JetStream: messages that are published and acknowledged by a stream.

    Set: the stream itself is read back, and values must be in it, once. Queue: messages are taken by a consumer, in
    order, each with an acknowledgement that the server confirms.
    """

    host: Host = Field(description="Host name or address.")
    port: Port = Field(4222, description="The port.")
    stream: Annotated[str, Field(min_length=1, max_length=255, pattern=NATS_NAME)] = Field(
        description="The stream's name; it must be there."
    )
    subject: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\s*>]+$")] = Field(
        description="What is published to, and the stream has; {key} stands for that of the run. No wildcards."
    )
    consumer: Annotated[str, Field(min_length=1, max_length=255, pattern=NATS_NAME)] | None = Field(
        None,
        description="Queue: the durable pull consumer that takes, with explicit acknowledgements; it must be there, "
        "and nobody else's.",
    )
    message_id: bool = Field(
        True,
        description="Each message has a Nats-Msg-Id of its own, by which the stream keeps one that comes twice once.",
    )


class RedisWorkload(Server):
    """Redis: SET and GET of a Register, SADD, SISMEMBER and SMEMBERS of a Set, INCR and GET of a Counter, RPUSH and
    LPOP of a Queue. An error that it answers with means that nothing was done."""

    host: Host = Field(description="Host name or address.")
    port: Port = Field(6379, description="The port.")
    database: int = Field(0, ge=0, le=65_535, description="The number of the database.")
    prefix: Annotated[str, Field(min_length=1, max_length=200, pattern=PREFIX_PATTERN)] = Field(
        "bounceback", description="What its keys begin with; the run and the key follow it."
    )
