"""From a model to the structural schema (OpenAPI v3) that a CustomResourceDefinition takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

Json = dict[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
VALIDATIONS: Final = "x-kubernetes-validations"
LIST_KEYS: Final = "x-kubernetes-list-map-keys"
KEPT: Final = (
    "type",
    "format",
    "description",
    "default",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    VALIDATIONS,
)


class SchemaError(Exception):
    """A model says something that a structural schema cannot."""


def structural(model: type[BaseModel], *, rules: bool = True) -> Json:
    """The schema of the model: nothing referred to, nothing nullable, defaults and bounds and rules kept.

    Fields that the model does not know are left to the API server, which drops them. With `rules` False the rules
    between fields are left out: a status is written by the operator alone.
    """
    document = model.model_json_schema(by_alias=True)
    return _Converter(document.get("$defs", {}), rules).convert(document, model.__name__)


class _Converter:
    def __init__(self, definitions: Mapping[str, Json], rules: bool) -> None:
        self._definitions = definitions
        self._rules = rules

    def convert(self, node: Json, where: str) -> Json:
        node = self._resolved(node, where)
        if node.get(PRESERVE) or "type" not in node:
            return _free_form(node)
        result: Json = {key: node[key] for key in KEPT if key in node and node[key] is not None}
        if not self._rules:
            result.pop(VALIDATIONS, None)
        match node["type"]:
            case "object":
                self._object(node, result, where)
            case "array":
                result["items"] = self.convert(node["items"], f"{where}[]")
                if keys := self._resolved(node["items"], where).get(LIST_KEYS):
                    result |= {"x-kubernetes-list-type": "map", LIST_KEYS: keys}
            case "integer":
                _inclusive(node, result)
        return result

    def _object(self, node: Json, result: Json, where: str) -> None:
        if "properties" in node:
            result["properties"] = {
                name: self._property(field, name in node.get("required", ()), f"{where}.{name}")
                for name, field in node["properties"].items()
            }
            if node.get("required"):
                result["required"] = node["required"]
        elif isinstance(values := node.get("additionalProperties"), dict):
            result["additionalProperties"] = self.convert(values, f"{where}{{}}")
            if self._rules and (bounds := node.get("propertyNames", {})):
                result[VALIDATIONS] = [_key_rule(bounds)]
        else:
            result[PRESERVE] = True

    def _property(self, field: Json, required: bool, where: str) -> Json:
        """An object whose fields all have defaults gets a default itself, or theirs would never come to bear."""
        result = self.convert(field, where)
        optional = any(choice.get("type") == "null" for choice in field.get("anyOf", ()))
        if not required and not optional and "properties" in result and not result.get("required"):
            result.setdefault("default", {})
        return result

    def _resolved(self, node: Json, where: str) -> Json:
        """Without references and without `null`; what stands beside a reference goes before what it refers to."""
        while "$ref" in node or "anyOf" in node:
            beside = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
            if "$ref" in node:
                inner = self._definitions[node["$ref"].rpartition("/")[2]]
            else:
                choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
                if len(choices) != 1:
                    raise SchemaError(f"{where} can be of several types; a structural schema knows one")
                inner = choices[0]
            node = {**inner, **beside}
        return node


def _free_form(node: Json) -> Json:
    """Kept as it is; without a type it may be any value."""
    return {k: node[k] for k in ("type", "description") if k in node} | {PRESERVE: True}


def _inclusive(node: Json, result: Json) -> None:
    """Numeric exclusive bounds are of a later draft than OpenAPI v3."""
    if "exclusiveMinimum" in node:
        result["minimum"] = node["exclusiveMinimum"] + 1
    if "exclusiveMaximum" in node:
        result["maximum"] = node["exclusiveMaximum"] - 1


def _key_rule(bounds: Json) -> Json:
    least, most = bounds.get("minLength", 0), bounds["maxLength"]
    return {
        "rule": f"self.all(key, size(key) >= {least} && size(key) <= {most})",
        "message": f"keys must have {least} to {most} characters",
        "reason": "FieldValueInvalid",
    }
