"""The YAML files that users write: every document with the place of each of its fields."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from bounceback.types.rules import Path as FieldPath

Json = dict[str, Any]
STANDARD_INPUT: Final = "-"
SUFFIXES: Final = (".yaml", ".yml", ".json")
OBJECTS: Final = "a Kubernetes object: a mapping with apiVersion, kind and metadata"
MOST_FIELDS: Final = 200_000
DEEPEST: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """A line and a column, both counted from 1, as editors do."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class UnreadableError(Exception):
    """Not YAML, or not readable at all."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(f"{place}: {message}")
        self.place = place
        self.message = message


@dataclass(frozen=True)
class Document:
    """One object, and where each of its fields stands."""

    data: Json
    places: dict[FieldPath, Place]

    def place(self, path: FieldPath) -> Place:
        """Of the field, or of the closest thing around it that is there."""
        while path not in self.places:
            path = path[:-1]
        return self.places[path]


def files_of(names: Iterable[str]) -> list[str]:
    """The files named; of a folder those directly in it that are YAML or JSON, as kubectl takes them."""
    files: list[str] = []
    for name in names:
        if name != STANDARD_INPUT and Path(name).is_dir():
            files += sorted(str(path) for path in Path(name).iterdir() if path.suffix in SUFFIXES)
        else:
            files.append(name)
    return files


def read(file: str, what: str = OBJECTS) -> list[Document]:
    """All documents of a file ("-": standard input); the items of a List are documents.

    `what` says what one must be, in a message. Raises UnreadableError.
    """
    try:
        text = sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UnreadableError(Place(file, 1, 1), f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableError(Place(file, 1, 1), f"must be UTF-8 text: {error.reason}") from error
    return list(parse(text, "standard input" if file == STANDARD_INPUT else file, what))


def parse(text: str, file: str, what: str = OBJECTS) -> Iterator[Document]:
    """Raises UnreadableError at the first thing that is not YAML, or not an object."""
    loader = _Loader(text)
    try:
        while loader.check_node():
            if (node := loader.get_node()) is None:
                continue
            places: dict[FieldPath, Place] = {}
            _locate(node, (), places, file)
            data = loader.construct_document(node)
            if data is not None:
                yield from _objects(data, places, what)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        raise UnreadableError(place, f"not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UnreadableError(Place(file, 1, 1), f"not YAML: {error}") from error
    finally:
        loader.dispose()


def _objects(data: object, places: dict[FieldPath, Place], what: str) -> Iterator[Document]:
    if not isinstance(data, dict):
        raise UnreadableError(places[()], f"must be {what}")
    if data.get("kind") != "List" or not isinstance(data.get("items"), list):
        yield Document(data, places)
        return
    for index, item in enumerate(data["items"]):
        start: FieldPath = ("items", index)
        below = {path[2:]: place for path, place in places.items() if path[:2] == start}
        yield from _objects(item, below, what)


class _Loader(yaml.SafeLoader):
    """Kubernetes' YAML: no timestamps, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = getattr(key_node, "value", None)
            if key_node.tag != "tag:yaml.org,2002:merge" and key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"field {key} is given twice in one mapping", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _locate(node: yaml.Node, path: FieldPath, places: dict[FieldPath, Place], file: str) -> None:
    """Note where everything stands: a field by its key, an entry of a list by its beginning.

    Aliases are walked like what they stand for; what grows beyond all bounds that way is refused.
    """
    if len(places) > MOST_FIELDS or len(path) > DEEPEST:
        raise UnreadableError(places[()], f"must have at most {MOST_FIELDS:,} fields, {DEEPEST} levels deep")
    places.setdefault(path, Place(file, node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            places[below] = Place(file, key.start_mark.line + 1, key.start_mark.column + 1)
            _locate(value, below, places, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _locate(value, (*path, index), places, file)
