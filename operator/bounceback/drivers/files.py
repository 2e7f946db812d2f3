"""A file of the target that is damaged for a while: another one is put in its place, and it is kept beside it.

Both names are exchanged in one step (RENAME_EXCHANGE, rename(2)), at the beginning and at the end, so that there is
always a file, and what comes back is the very file that was there, with its owner, mode, times and attributes. What has
it open goes on with the original. The name beside it tells what there is to undo; which of two files is the original
is in the notes (drivers.Notes), written before anything is exchanged.

What others do meanwhile counts for more: a file that the target has put there itself stays, as does one that it has
removed. What it has written into the damaged file stays where that can be told from the damage.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from bounceback.drivers import PREFIX, HoldsNothing, Refused, Site, rooted
from bounceback.drivers.exchanging import copied, exchange, rename_to_nothing
from bounceback.types.files import Damage, Spoil, corrupted, pieces
from bounceback.types.plan import Act, Order

LARGEST: Final = 256 << 20
"""Bytes of a file that is copied: it takes its time, and room beside the original."""
LOOK_SECONDS: Final = 0.02
"""How soon a newer content is withheld from those who are to see an older one."""
UNREAD: Final = 1
"""The time of last access, in seconds, of a file that nobody has read since it was made (relatime, mount(8))."""


def apply(order: Order, site: Site) -> Spoiled:
    spoiled = Spoiled(order, site)
    try:
        spoiled.begin()
    except BaseException:
        spoiled.close()
        raise
    return spoiled


def undo(order: Order, site: Site) -> None:
    """By the agent's notes. Where no container is left that has the folder, nobody sees the file any more."""
    for folder in _folders(order, site):
        with suppress(FileNotFoundError):
            put_back(folder, order, site.notes.kept)


def left(order: Order, site: Site) -> list[str]:
    found = []
    for folder in _folders(order, site):
        for name in (aside(order), newer(order)):
            with suppress(FileNotFoundError):
                os.stat(name, dir_fd=folder, follow_symlinks=False)
                found.append(f"file {name} beside {_act(order).path}")
    return found


def aside(order: Order) -> str:
    """The name of the original while there is another file in its place."""
    return f"{PREFIX}was-{order.injection}"


def newer(order: Order) -> str:
    """The name of a content that came while an older one was shown, until it is the original."""
    return f"{PREFIX}new-{order.injection}"


class Spoiled(HoldsNothing):
    """A file that is damaged; see `drivers.InForce`. It has turns: newer contents are withheld."""

    def __init__(self, order: Order, site: Site) -> None:
        act = _act(order)
        self._order, self._site, self._act = order, site, act
        self._name = act.path.rpartition("/")[2]
        self._place, self._folder = _found(order, site)
        self._frozen: int | None = None
        self._damaged: Identity | None = None
        self._changes = 0
        self._told: list[str] = []
        self.detail = {"with": act.damage.lower(), "container": self._place.process.container}
        self.farewell: dict[str, Any] = {}

    def begin(self) -> None:
        """Raises Refused, OSError."""
        original = self._original()
        _check_room(self._folder, original.st_size, self._act)
        changing = self._act.damage == Damage.STALE
        self._site.notes.write(original=_identity(original), damaged=None, changing=changing)
        if self._act.damage == Damage.REMOVE:
            rename_to_nothing(self._folder, self._name, aside(self._order))
        else:
            if self._act.damage == Damage.STALE and self._frozen is None:
                self._frozen = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
                with _opened(self._folder, self._name) as source:
                    copied(source, self._frozen, original.st_size)
            self._show(aside(self._order))
        self._changes += 1

    def hits(self) -> int:
        """Files changed: once, and each newer content that was withheld."""
        return self._changes

    def turn(self) -> float:
        if self._act.damage != Damage.STALE or self._damaged is None:
            return float("inf")
        with suppress(FileNotFoundError):
            if not self._damaged.is_as_made(os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)):
                self._withhold()
        return LOOK_SECONDS

    def change(self, act: Act | None) -> None:
        assert act is None or isinstance(act, Spoil)
        self._end()
        if act is not None:
            self._act = act
            self.begin()

    def revert(self) -> None:
        self._end()
        self.close()

    def close(self) -> None:
        for each in (self._frozen, self._folder):
            if each is not None:
                with suppress(OSError):
                    os.close(each)
        self._frozen = None

    def _end(self) -> None:
        told = put_back(self._folder, self._order, self._site.notes.kept, self._act)
        self._damaged = None
        self._told += [words for words in told if words not in self._told]
        self.farewell = {"seen": list(self._told)} if self._told else {}

    def _original(self) -> os.stat_result:
        path = self._act.path
        try:
            found = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError as error:
            raise Refused("NoPath", f"there is no {path}") from error
        if stat.S_ISLNK(found.st_mode):
            raise Refused("NotAFile", f"{path} is a symbolic link: name the file that it leads to")
        if not stat.S_ISREG(found.st_mode):
            raise Refused("NotAFile", f"{path} is no regular file")
        if not found.st_size and self._act.damage in (Damage.CORRUPT, Damage.TRUNCATE):
            raise Refused("NothingToHit", f"{path} is empty")
        if self._act.damage == Damage.TRUNCATE and found.st_size <= self._act.keep_bytes:
            raise Refused("NothingToHit", f"{path} has {found.st_size} bytes only")
        return found

    def _show(self, name: str) -> None:
        """Another file in its place, and the one that was there under that name."""
        try:
            with _opened(self._folder, self._name) as source:
                made = self._made(source, name)
            self._site.notes.write(damaged=made.to_json())
            exchange(self._folder, name, self._name)
        except (OSError, Refused):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._folder)
            raise
        self._damaged = made

    def _made(self, source: int, name: str) -> Identity:
        was = os.fstat(source)
        file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._folder)
        try:
            match self._act.damage:
                case Damage.STALE:
                    assert self._frozen is not None
                    copied(self._frozen, file, os.fstat(self._frozen).st_size)
                case Damage.TRUNCATE:
                    copied(source, file, self._act.keep_bytes)
                case _:
                    copied(source, file, was.st_size)
                    _corrupt(self._act, file, was.st_size)
            _dressed(file, source, was)
            return Identity.of(os.fstat(file))
        finally:
            os.close(file)

    def _withhold(self) -> None:
        """What is there now is the original from now on, and the frozen content is shown again."""
        now = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
        self._site.notes.write(newer=_identity(now))
        self._show(newer(self._order))
        os.rename(newer(self._order), aside(self._order), src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._site.notes.write(original=_identity(now), newer=None)
        self._changes += 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A file as we made it: nobody has written to it since."""

    inode: int
    size: int
    modified: int  # nanoseconds

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)

    def is_as_made(self, found: os.stat_result) -> bool:
        return self == Identity.of(found)

    def to_json(self) -> list[int]:
        return [self.inode, self.size, self.modified]


def put_back(folder: int, order: Order, kept: dict[str, Any], act: Spoil | None = None) -> list[str]:
    """The original is where it was, unless others have made that needless; what there is to say of it.

    `kept` are the notes: without them nothing is known, and nothing done. Can be called again. Raises OSError;
    KeyError where a part of them was lost with who wrote it.
    """
    act, name, beside = act or _act(order), _act(order).path.rpartition("/")[2], aside(order)
    original = kept.get("original")
    if original is None:
        return []
    original = _settle_newer(folder, order, kept, original)
    was = _stat(folder, beside)
    if was is None or original is None:
        return []
    if was.st_ino != original:
        never = not kept.get("damaged") and _inode(folder, name) == original
        if never or _is_made(was, kept):  # the exchange was still to come
            os.unlink(beside, dir_fd=folder)
        return []
    if act.damage == Damage.REMOVE:
        return _back_where_nothing_is(folder, name, beside, act)
    now = _stat(folder, name)
    damaged = Identity(*kept["damaged"])
    if now is None:
        os.unlink(beside, dir_fd=folder)
        return [f"the target removed {act.path} meanwhile: it stays so"]
    told = [_was_read(folder, name, now)] if now.st_ino == damaged.inode else []
    if now.st_ino == damaged.inode and not damaged.is_as_made(now):
        told.append(_merged(folder, name, beside, act))
        if (was := _stat(folder, beside)) is None:
            return told
    exchange(folder, beside, name)
    out = os.stat(beside, dir_fd=folder, follow_symlinks=False)
    if out.st_ino != damaged.inode:  # not ours: the target put it there
        exchange(folder, beside, name)
        told.append(f"the target replaced {act.path} meanwhile: its own stays")
    os.unlink(beside, dir_fd=folder)
    return told


def _is_made(found: os.stat_result, kept: dict[str, Any]) -> bool:
    """Whether it is what was to take the original's place."""
    return bool(kept.get("damaged")) and Identity(*kept["damaged"]).is_as_made(found)


def _settle_newer(folder: int, order: Order, kept: dict[str, Any], original: int) -> int | None:
    """An agent that died while it withheld a newer content: that is the original then. Its inode; None: who knows."""
    found = _stat(folder, newer(order))
    if found is None:
        return int(kept["newer"]) if kept.get("newer") and _inode(folder, aside(order)) == kept["newer"] else original
    if found.st_ino == kept.get("newer"):
        os.rename(newer(order), aside(order), src_dir_fd=folder, dst_dir_fd=folder)
        return found.st_ino
    shown = _inode(folder, _act(order).path.rpartition("/")[2])
    if not _is_made(found, kept) and (shown is None or shown != kept.get("newer")):
        return None
    os.unlink(newer(order), dir_fd=folder)  # made, and never exchanged
    return original


def _back_where_nothing_is(folder: int, name: str, beside: str, act: Spoil) -> list[str]:
    try:
        rename_to_nothing(folder, beside, name)
    except FileExistsError:
        os.unlink(beside, dir_fd=folder)
        return [f"the target made {act.path} anew: its own stays"]
    return []


def _merged(folder: int, name: str, beside: str, act: Spoil) -> str:
    """What the target wrote into the damaged file is kept; where the original is no longer wanted it is gone."""
    with _opened(folder, name, os.O_RDWR) as now, _opened(folder, beside, os.O_RDWR) as was:
        if act.damage == Damage.CORRUPT:
            _mend(act, now, was)
        elif act.damage == Damage.TRUNCATE and os.pread(now, act.keep_bytes, 0) == os.pread(was, act.keep_bytes, 0):
            more = os.fstat(now).st_size - act.keep_bytes
            os.lseek(now, act.keep_bytes, os.SEEK_SET)
            os.lseek(was, 0, os.SEEK_END)
            copied(now, was, max(0, more), rewind=False)
            return f"what the target appended to {act.path} meanwhile ({max(0, more)} bytes) is at its end"
    os.unlink(beside, dir_fd=folder)
    return f"what the target wrote to {act.path} meanwhile stays"


def _mend(act: Spoil, now: int, was: int) -> None:
    """Pieces that are as corrupt as they were made are right again, in the file that the target wrote to."""
    for start, end, mask in pieces(act, os.fstat(was).st_size):
        right = os.pread(was, end - start, start)
        if os.pread(now, end - start, start) == corrupted(right, mask):
            os.pwrite(now, right, start)


def _corrupt(act: Spoil, file: int, size: int) -> None:
    for start, end, mask in pieces(act, size):
        os.pwrite(file, corrupted(os.pread(file, end - start, start), mask), start)


def _dressed(file: int, source: int, was: os.stat_result) -> None:
    """Owner, mode, attributes and times of the other; the time of access says whether anybody has read it."""
    os.fchown(file, was.st_uid, was.st_gid)
    os.fchmod(file, stat.S_IMODE(was.st_mode))
    with suppress(OSError):  # a file system without them, or those that only the kernel may set
        for key in os.listxattr(source):
            with suppress(OSError):
                os.setxattr(file, key, os.getxattr(source, key))
    os.utime(file, ns=(UNREAD * 10**9, was.st_mtime_ns))


def _was_read(folder: int, name: str, now: os.stat_result) -> str:
    with _opened(folder, name, os.O_PATH) as file:
        unseen = os.fstatvfs(file).f_flag & os.ST_NOATIME
    if unseen:
        return "whether it was read meanwhile is not known: its mount has noatime"
    return "it was read meanwhile" if int(now.st_atime) != UNREAD else "nobody has read it meanwhile"


def _found(order: Order, site: Site) -> tuple[rooted.Rooted, int]:
    """The folder, open. Raises Refused."""
    act = _act(order)
    parent = act.path.rpartition("/")[0] or "/"
    place, folder = rooted.find(order.pod_uid, act.who, parent, site.proc, os.O_RDONLY | os.O_DIRECTORY)
    try:
        rooted.check(place, folder, act.path)
    except BaseException:
        os.close(folder)
        raise
    finally:
        place.close()
    return place, folder


def _folders(order: Order, site: Site) -> Iterator[int]:
    """That folder in each container that is meant and has it; open for the turn of a loop."""
    parent = _act(order).path.rpartition("/")[0] or "/"
    with suppress(Refused):  # no container any more
        for place in rooted.containers(order.pod_uid, _act(order).who, site.proc):
            with suppress(OSError):
                folder = place.open(parent, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    yield folder
                finally:
                    os.close(folder)
            place.close()


def _check_room(folder: int, size: int, act: Spoil) -> None:
    if act.damage == Damage.REMOVE:
        return
    if size > LARGEST:
        raise Refused("TooLarge", f"{act.path} has {size:,} bytes; at most {LARGEST:,} are copied: use Remove")
    told = os.fstatvfs(folder)
    if 2 * size > told.f_bavail * told.f_frsize:
        raise Refused("NoSpace", f"there is no room for a copy of {act.path} ({size:,} bytes) beside it")


@contextmanager
def _opened(folder: int, name: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    file = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield file
    finally:
        os.close(file)


def _stat(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def _inode(folder: int, name: str) -> int | None:
    found = _stat(folder, name)
    return found.st_ino if found else None


def _identity(found: os.stat_result) -> int:
    return found.st_ino


def _act(order: Order) -> Spoil:
    assert isinstance(order.act, Spoil)
    return order.act
