"""What becomes of the keys of ConfigMaps and Secrets."""

from __future__ import annotations

import base64
from typing import Annotated, ClassVar

from pydantic import Field

from bounceback.faults.object_kinds.base import ByWhom, KeysKind, changed, named
from bounceback.types.objects import Change, Json

DataKey = Annotated[str, Field(min_length=1, max_length=253)]
DataValue = Annotated[str, Field(max_length=16_384)]


class DataDrift(KeysKind):
    """Keys of a ConfigMap or a Secret have other values, or are gone: configuration that drifted, a stale password."""

    targets: ClassVar[tuple[str, ...]] = ("ConfigMap", "Secret")

    set: dict[DataKey, DataValue] = Field(
        default_factory=dict, max_length=20, description="Keys that get these values, in plain text for a Secret too."
    )
    remove: list[DataKey] = Field(default_factory=list, max_length=20, description="Keys that are removed.")

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        if target.get("immutable"):
            raise ValueError(f"{named(target)} is immutable: the API server lets nobody change its data")
        data, binary = target.get("data") or {}, target.get("binaryData") or {}
        if absent := [key for key in self.remove if key not in data and key not in binary]:
            raise ValueError(f"{named(target)} has no key {', '.join(absent)} that could be removed")
        secret = target["kind"] == "Secret"
        plain = {key: _encoded(value) if secret else value for key, value in self.set.items() if key not in binary}
        bytes_ = {key: _encoded(value) for key, value in self.set.items() if key in binary}
        if same := [key for key, value in (plain | bytes_).items() if (data | binary).get(key) == value]:
            raise ValueError(f"key {', '.join(same)} of {named(target)} has that value already")
        wanted = {"data": self._left(data) | plain, "binaryData": self._left(binary) | bytes_}
        return [changed(target, {(field,): value for field, value in wanted.items() if field in target or value})]

    def _left(self, data: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in data.items() if key not in self.remove}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
