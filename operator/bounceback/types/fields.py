"""The base of every model and the field types that they share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bounceback.types.rules import Rule

NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
OBJECT_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"


class Model(BaseModel):
    """camelCase outside, snake_case inside; unknown fields are errors; values do not change once made.

    `rules` are what its validators hold to, in the API server's language; `list_keys` are the fields that tell the
    entries of a list of these apart.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    rules: ClassVar[tuple[Rule, ...]] = ()
    list_keys: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        described = handler.resolve_ref_schema(schema)
        if cls.rules:
            described["x-kubernetes-validations"] = [rule.to_json() for rule in cls.rules]
        if cls.list_keys:
            described["x-kubernetes-list-map-keys"] = list(cls.list_keys)
        return schema

    def to_json(self) -> dict[str, Any]:
        """As it stands in a Kubernetes object: camelCase, nothing that is unset."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class StatusModel(Model):
    """What we wrote ourselves, maybe by a newer version: fields that are not known are kept out, not refused."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


Name = Annotated[str, Field(min_length=1, max_length=63, pattern=NAME_PATTERN)]
"""A name within one object: an RFC 1123 label."""

ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=OBJECT_NAME_PATTERN)]
"""The name of a Kubernetes object: an RFC 1123 subdomain."""

LabelValue = Annotated[str, Field(max_length=63)]
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
Port = Annotated[int, Field(ge=1, le=65535)]
Percent = Annotated[int, Field(ge=0, le=100)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Seconds = Annotated[int, Field(ge=1, le=86_400)]
Text = Annotated[str, Field(max_length=1024)]
Cel = Annotated[str, Field(min_length=1, max_length=4096)]
"""A CEL expression: its syntax is checked by `bounceback lint` and when the object is first seen."""
