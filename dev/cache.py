"""Where built things are kept: one folder a thing, named by what it was made from, and made at most once at a time."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from dev.progress import say


def root() -> Path:
    """$BOUNCEBACK_CACHE, or bounceback in the user's cache folder."""
    if chosen := os.environ.get("BOUNCEBACK_CACHE"):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "bounceback"


def digest(*parts: object) -> str:
    """A short name for what something is made from; equal parts give equal names on every machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` of this cache; whoever comes second waits and is told so."""
    path = root() / "locks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that works on {name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entry(kind: str, name: str, make: Callable[[Path], None]) -> Path:
    """The folder `kind/name`, made by `make(folder)` if it is not there yet.

    It appears in one step (a rename) and only when it is complete; an interrupted `make` leaves nothing that counts.
    """
    folder = root() / kind / name
    if folder.is_dir():
        return folder
    with locked(f"{kind}-{name}"):
        if folder.is_dir():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
        try:
            make(unfinished)
            unfinished.chmod(0o755)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder
