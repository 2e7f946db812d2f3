"""The file of `bounceback proxy`, read again when it changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bounceback.api.problems import Problem
from bounceback.cli.documents import Document, UnreadableError, read
from bounceback.cli.proxy_file import Protocol, ProxyFile, file_of
from bounceback.types.rules import Path as FieldPath

A_FILE: Final = "a mapping with faults, listeners, or both"

Look = tuple[int, int, int] | None


class WrongFileError(Exception):
    """What is written there is not what it must be: a line for each problem, with its place."""


class FileSource:
    """`path` None: there is none, and nothing in it. The listeners that it names at first are all it may ever name."""

    def __init__(self, path: str | None, listeners: Mapping[str, Protocol]) -> None:
        self._path = path
        self._known = dict(listeners)
        self._first: ProxyFile | None = None
        self._document: Document | None = None
        self._seen = self._look()
        self._doubted: Look = None

    def read(self) -> ProxyFile:
        """Raises UnreadableError or WrongFileError."""
        if self._path is None:
            return ProxyFile()
        documents = read(self._path, A_FILE)
        if len(documents) > 1:
            raise WrongFileError(f"{self._path}: must be one document; found {len(documents)}")
        self._document = document = documents[0] if documents else Document({}, {})
        found, problems = file_of(document.data, self._known)
        if found is None:
            raise WrongFileError("\n".join(f"{self._place(p.path)}: {p}" for p in problems))
        if self._first is None:
            twice = [listener.name for listener in found.listeners if listener.name in self._known]
            if twice:
                raise self.wrong(("listeners",), f"must not have the names of --listen: {', '.join(twice)}")
            self._first = found
        elif found.listeners != self._first.listeners:
            raise self.wrong(("listeners",), "must stay as they were when the proxy was started; start it again")
        return found

    def changed(self) -> ProxyFile | None:
        """The file if it was changed. Who is still writing it is given time until the next look.

        Raises UnreadableError or WrongFileError, once for each change.
        """
        if self._path is None or (look := self._look()) == self._seen:
            return None
        try:
            found = self.read()
            if not self._document or not self._document.data:
                raise WrongFileError(f"{self._path}: must be {A_FILE}; it is empty (faults: [] is none)")
        except (UnreadableError, WrongFileError):
            if look != self._doubted:
                self._doubted = look
                return None
            self._seen = look
            raise
        self._seen = look
        return found

    def wrong(self, path: FieldPath, message: str) -> WrongFileError:
        return WrongFileError(f"{self._place(path)}: {Problem(path, message)}")

    def _place(self, path: FieldPath) -> str:
        if self._document is None or not self._document.places:
            return str(self._path)
        return str(self._document.place(path))

    def _look(self) -> Look:
        if self._path is None:
            return None
        try:
            found = Path(self._path).stat()
        except OSError:
            return (0, 0, 0)
        return (found.st_mtime_ns, found.st_size, found.st_ino)
