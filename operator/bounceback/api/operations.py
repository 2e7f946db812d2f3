"""How the operations of a workload are made: by which protocol, and what its answers mean."""

from __future__ import annotations

import json
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from bounceback.api.looks import Url
from bounceback.faults.api_fault import HEADER_PATTERN, VALUE_PATTERN
from bounceback.types.fields import Model
from bounceback.types.rules import refuse

KEY, VALUE = "{key}", "{value}"
PATH_PATTERN: Final = r"^/[!-~]*$"

RpcCode = Annotated[int, Field(ge=-2_147_483_648, le=2_147_483_647)]
Status = Annotated[int, Field(ge=200, le=599)]
Place = Annotated[str, Field(min_length=1, max_length=200)]


class RpcCall(Model):
    """A call by JSON-RPC 2.0, which is the body of a POST. Its result is acknowledged, or is the value; an answer with
    another id says nothing."""

    method: Annotated[str, Field(min_length=1, max_length=256)] = Field(description="What is called.")
    params: Annotated[str, Field(max_length=65_536)] = Field(
        "[]", description='A JSON list or object, in which {key} and {value} are filled in: ["{key}", {value}].'
    )
    unknown_codes: Annotated[list[RpcCode], Field(max_length=20)] = Field(
        default_factory=lambda: [-32603],
        description="Error codes that leave open whether it is done: -32603, an internal error. Any other error says "
        "that it is not.",
    )
    absent_codes: Annotated[list[RpcCode], Field(max_length=20)] = Field(
        default_factory=list, description="read, take: error codes by which the system says that there is none."
    )

    @model_validator(mode="after")
    def _has_params_that_are_some(self) -> Self:
        try:
            found = json.loads(self.params.replace(KEY, "1-1").replace(VALUE, "1"))
        except ValueError as error:
            raise refuse(f"must be JSON once {KEY} and {VALUE} are filled in: {error}", "params") from error
        if not isinstance(found, list | dict):
            raise refuse("must be a JSON list or object", "params")
        return self


class HttpOperation(Model):
    """A request; {key} and {value} in its path and body stand for those of the operation."""

    path: Annotated[str, Field(min_length=1, max_length=2048, pattern=PATH_PATTERN)] = Field(
        description="What follows the address, with a slash first; {key} and {value} stand for those of the operation."
    )
    body: Annotated[str, Field(max_length=65_536)] | None = Field(
        None, description="Sent as it is, but for {key} and {value}; unset: none."
    )

    json_rpc: RpcCall | None = Field(
        None,
        description="Instead of a body: a call by JSON-RPC 2.0. Its answer is judged by what it says, and not by its "
        "status; `field` is where in its result.",
    )

    def has(self, placeholder: str) -> bool:
        params = self.json_rpc.params if self.json_rpc is not None else ""
        return any(placeholder in text for text in (self.path, self.body or "", params))

    @model_validator(mode="after")
    def _has_one_body(self) -> Self:
        if self.json_rpc is not None and self.body is not None:
            raise refuse("must be unset with jsonRpc, which is the body", "body")
        return self


class HttpWrite(HttpOperation):
    """A request that changes something, and what its answers mean. Any other answer, or none, is unknown."""

    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = Field("PUT", description="The method.")
    acknowledged_statuses: Annotated[list[Status], Field(max_length=20)] = Field(
        default_factory=list, description="Status codes by which the system says that it is done; empty: 200 to 299."
    )
    failed_statuses: Annotated[list[Status], Field(max_length=20)] = Field(
        default_factory=list,
        description="Status codes by which it says that nothing was done and nothing will be; empty: 400 to 499.",
    )

    field: Place | None = Field(
        None,
        description="Where in a JSON answer something must be, and no null, for it to be acknowledged: result, of "
        "JSON-RPC. Without it the operation is unknown.",
    )

    @model_validator(mode="after")
    def _mean_one_thing(self) -> Self:
        if both := set(self.acknowledged_statuses) & set(self.failed_statuses):
            words = ", ".join(map(str, sorted(both)))
            raise refuse(f"must not be among acknowledgedStatuses, too: {words}", "failedStatuses")
        return self


class HttpQuestion(HttpOperation):
    """A request that gets a value: answers of 200 to 299 have it. Any other but that there is none says nothing."""

    field: Place | None = Field(
        None, description="Where in a JSON answer the value is: item.value; unset: the whole answer is the value."
    )


class HttpRead(HttpQuestion):
    """A request that asks for a value."""

    method: Literal["GET", "POST"] = Field("GET", description="The method.")
    absent_statuses: Annotated[list[Status], Field(max_length=20)] = Field(
        default_factory=lambda: [404], description="Status codes by which the system says that there is none."
    )


class HttpTake(HttpQuestion):
    """A request that takes the next value out of the queue."""

    method: Literal["POST", "GET", "DELETE"] = Field("POST", description="The method.")
    absent_statuses: Annotated[list[Status], Field(max_length=20)] = Field(
        default_factory=lambda: [204, 404], description="Status codes by which the system says that it is empty."
    )


class HttpList(Model):
    """A request for all values there are: a JSON list, or a number a line."""

    path: Annotated[str, Field(min_length=1, max_length=2048, pattern=PATH_PATTERN)] = Field(
        description="What follows the address, with a slash first; {key} stands for that of the run."
    )
    field: Place | None = Field(None, description="Where in a JSON answer the list is: data.items; unset: it is one.")
    value: Place | None = Field(None, description="Where in an entry its value is; unset: an entry is a value.")


class HttpWorkload(Model):
    """How operations are made by HTTP/1.1, with connections that are kept."""

    url: Url = Field(description="http:// or https:// address of the system; the paths of operations follow it.")
    headers: dict[
        Annotated[str, Field(min_length=1, max_length=64, pattern=HEADER_PATTERN)],
        Annotated[str, Field(min_length=1, max_length=1024, pattern=VALUE_PATTERN)],
    ] = Field(
        default_factory=dict,
        max_length=20,
        description="Headers of every request; {key} and {value} stand for those of the operation.",
    )
    write: HttpWrite | None = Field(
        None,
        description="Register: {value} to {key}. Set: {value} added. Counter: 1 added to {key}. Queue: {value} put in.",
    )
    read: HttpRead | None = Field(None, description="Register, Counter: what {key} has. Set: whether {value} is there.")
    take: HttpTake | None = Field(None, description="Queue: the next value, out.")
    list: HttpList | None = Field(
        None, description="Set: all values, at the end; it shows duplicates, which read cannot."
    )
