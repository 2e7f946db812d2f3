"""JSON pointers (RFC 6901): the way to a part of an object. Standard library only."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Final

Parts = tuple[str, ...]


class Missing:
    """What stands where nothing is; not null, which is a value."""

    def __repr__(self) -> str:
        return "nothing"

    def __copy__(self) -> Missing:
        return self

    def __deepcopy__(self, _: object) -> Missing:
        return self


MISSING: Final = Missing()


def parts(pointer: str) -> Parts:
    """Raises ValueError for what is no pointer."""
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        raise ValueError(f"{pointer} is no JSON pointer: it must begin with /")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/"))


def pointer(way: Iterable[str]) -> str:
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in way)


def value_at(document: Any, way: Parts) -> Any:
    """What stands there; MISSING where nothing does."""
    for part in way:
        if isinstance(document, dict) and part in document:
            document = document[part]
        elif isinstance(document, list) and part.isdecimal() and int(part) < len(document):
            document = document[int(part)]
        else:
            return MISSING
    return document


def with_value(document: Any, way: Parts, value: Any) -> Any:
    """A copy with that value there, or without what was there where it is MISSING.

    Raises ValueError where there is nothing that could hold it. The end of a list is its length, not "-".
    """
    changed = copy.deepcopy(document)
    holder, last = value_at(changed, way[:-1]), way[-1]
    if isinstance(holder, dict):
        if value is MISSING:
            holder.pop(last, None)
        else:
            holder[last] = value
    elif isinstance(holder, list) and last.isdecimal() and int(last) <= len(holder):
        holder[int(last) : int(last) + 1] = [] if value is MISSING else [value]
    else:
        raise ValueError(f"there is no {pointer(way[:-1])} that could hold {last}")
    return changed
