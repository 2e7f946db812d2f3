"""Copies out of the build stage what the image runs, and nothing else: `rootfs.py FOLDER`, run by operator/Dockerfile.

Taken are the files named in KEEP without those in DROP, the shared libraries that they load, and the licence and
package record of each Debian package that one of them came from (scanners read var/lib/dpkg/status.d). Byte code is
compiled once, so that a read-only root costs no start-up time.
"""

import fnmatch
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

STDLIB: Final = "/usr/lib/python3.13"
SITE: Final = "/usr/local/lib/python3.13/dist-packages"  # where pip installs on Debian
# 40 MB of generated source, of which only the byte code is kept.
GENERATED: Final = (f"{SITE}/kubernetes/aio/client/api", f"{SITE}/kubernetes/aio/client/models")

KEEP: Final = (
    "/usr/bin/python3",
    STDLIB,
    SITE,
    "/usr/bin/sh",
    "/usr/bin/ss",
    "/usr/bin/ip",  # /usr/sbin/ip is a link to it
    "/usr/sbin/ip",
    "/usr/sbin/nft",
    "/usr/sbin/tc",
    "/usr/lib/*-linux-gnu/libgcc_s.so.1",  # loaded by name when a thread is cancelled
    "/usr/lib/*-linux-gnu/tc",  # netem's distributions
    "/usr/lib/bounceback",
    "/usr/share/iproute2",
    "/etc/protocols",
    "/etc/services",
    "/etc/nsswitch.conf",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/openssl.cnf",
    "/usr/lib/ssl/openssl.cnf",
    "/etc/os-release",
    "/etc/debian_version",
)
DROP: Final = (
    "*/__pycache__/*",
    "*.pyi",
    "*.pyx",
    "*.pxd",
    "*.c",
    "*.h",
    f"{SITE}/*/tests/*",
    f"{SITE}/*/test_*.py",
    f"{SITE}/*_test.py",
    f"{SITE}/*.dist-info/RECORD",
    # The synchronous client's generated half: its package loads it by need, and we use the asynchronous one.
    f"{SITE}/kubernetes/client/api/[!_]*",
    f"{SITE}/kubernetes/client/models/[!_]*",
    # The colours of 500 languages, which come with the CEL library's own command line.
    f"{SITE}/pygments/lexers/[!_p]*",
    f"{SITE}/pygments/lexers/p[!y]*",
    *(
        f"{STDLIB}/{unused}"
        for unused in (
            "config-*",
            "curses/*",
            "dbm/sqlite3.py",
            "ensurepip/*",
            "idlelib/*",
            "lib-dynload/_curses*",
            "lib-dynload/_dbm*",
            "lib-dynload/_gdbm*",
            "lib-dynload/_sqlite3*",
            "lib-dynload/_test*",
            "lib-dynload/_xxtest*",
            "lib-dynload/readline*",
            "lib-dynload/xx*",
            "pydoc_data/*",
            "sitecustomize.py",
            "sqlite3/*",
            "test/*",
            "tkinter/*",
            "turtle*",
            "venv/*",
        )
    ),
)
FOLDERS: Final = {"dev": 0o755, "proc": 0o555, "sys": 0o555, "run": 0o755, "tmp": 0o1777, "root": 0o700}
MERGED: Final = ("bin", "sbin", "lib", "lib64")  # links into usr/, as everywhere in Debian
TEXTS: Final = {
    "etc/passwd": "root:x:0:0:root:/root:/usr/bin/sh\nbounceback:x:65532:65532::/tmp:/usr/bin/sh\n",
    "etc/group": "root:x:0:\nbounceback:x:65532:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}


def main(folder: str) -> None:
    root = Path(folder)
    files = sorted(with_libraries(set(expanded(KEEP))))
    for source in files:
        copy(source, root)
    for name, mode in FOLDERS.items():
        (root / name).mkdir(exist_ok=True)
        (root / name).chmod(mode)
    for name in MERGED:
        (root / name).symlink_to(f"usr/{name}")
    for name, text in TEXTS.items():
        (root / name).write_text(text)
    (root / "usr/lib/ssl/cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")
    for package in owners(files):
        record(package, root)
    for extension in (root / SITE[1:]).rglob("*.so*"):
        subprocess.run(["strip", "--strip-unneeded", extension], check=True)
    subprocess.run(["ldconfig", "-r", root], check=True)
    compile_all(root)


def expanded(patterns: Iterable[str]) -> Iterator[Path]:
    """The files, and what links among them lead to, that the patterns name; a pattern without a file is an error."""
    for pattern in patterns:
        matches = [Path("/", found) for found in Path("/").glob(pattern[1:])]
        if not matches:
            raise SystemExit(f"rootfs: nothing is at {pattern}")
        for match in matches:
            inside = match.rglob("*") if match.is_dir() else [match]
            for path in inside:
                if not path.is_dir() and not dropped(str(path)):
                    yield from chain(path)


@functools.cache
def unwanted() -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in DROP))


def dropped(path: str) -> bool:
    return unwanted().match(path) is not None


def chain(path: Path) -> Iterator[Path]:
    """The path below its real folder and, while it is a link, what it leads to."""
    here = path.parent.resolve() / path.name
    yield here
    if here.is_symlink():
        yield from chain(here.parent / here.readlink())


def with_libraries(files: set[Path]) -> set[Path]:
    """The files and every shared library that the loader would give them."""
    programs = [path for path in files if not path.is_symlink() and path.read_bytes()[:4] == b"\x7fELF"]
    libraries = set(files)
    for program in programs:
        answer = subprocess.run(["ldd", program], check=False, capture_output=True, text=True).stdout
        if "not found" in answer:
            raise SystemExit(f"rootfs: {program} misses a library\n{answer}")
        for library in re.findall(r"(/\S+) \(0x", answer):
            libraries.update(chain(Path(library)))
    return libraries


def copy(source: Path, root: Path) -> None:
    target = root / str(source)[1:]
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target, follow_symlinks=False)


def owners(files: Iterable[Path]) -> set[str]:
    """The Debian packages that the files came from."""
    answer = subprocess.run(["dpkg-query", "--search", *files], check=False, capture_output=True, text=True).stdout
    return {name.split(":")[0] for line in answer.splitlines() for name in line.rpartition(": ")[0].split(", ")}


def record(package: str, root: Path) -> None:
    """Keep a package's licence, and its name and version for vulnerability scanners."""
    status = subprocess.run(["dpkg-query", "--status", package], check=True, capture_output=True, text=True).stdout
    places = {root / "var/lib/dpkg/status.d" / package: status}
    notice = Path("/usr/share/doc") / package / "copyright"
    if notice.exists():
        places[root / str(notice)[1:]] = notice.read_text(errors="replace")
    for place, text in places.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def compile_all(root: Path) -> None:
    """Byte code that is never checked against its source: the root is read-only."""
    build = [sys.executable, "-m", "compileall", "-q", "-s", str(root), "--invalidation-mode", "unchecked-hash"]
    for folder in GENERATED:
        generated = root / folder[1:]
        subprocess.run([*build, "-b", "-o", "2", generated], check=True)  # without docstrings: half of it
        for source in generated.rglob("*.py"):
            source.unlink()
    subprocess.run([*build, root / STDLIB[1:], root / SITE[1:]], check=True)


if __name__ == "__main__":
    os.umask(0o022)
    main(*sys.argv[1:])
