"""Real servers for the tests: Debian's packages, unpacked into the cache; nothing is installed on the machine."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dev import cache
from dev.progress import DevError, UnsupportedError, run_logged, say

# A program, where its package has it, and the packages that it takes; of several names in one entry the first there is.
PROGRAMS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "redis-server": ("usr/bin/redis-server", ("redis-server", "redis-tools", "libjemalloc2", "liblzf1")),
    "nats-server": ("usr/sbin/nats-server", ("nats-server",)),
    "mariadbd": ("usr/sbin/mariadbd", ("mariadb-server-core", "libaio1t64 libaio1", "liburing2")),
    "prometheus": ("usr/bin/prometheus", ("prometheus",)),
}
LIBRARIES: Final = ("usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu")


def fetch(program: str) -> tuple[Path, dict[str, str]]:
    """The program, and the environment that it runs in.

    Raises UnsupportedError with the reason where its packages cannot be had.
    """
    path, packages = PROGRAMS[program]

    def make(folder: Path) -> None:
        if not shutil.which("apt-get"):
            raise UnsupportedError(f"There is no {program} here: it comes by apt-get from a Debian mirror.")
        say(f"fetching {program}")
        log = cache.root() / "log" / "stores"
        log.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="bounceback-stores-") as work:
            try:
                chosen = [_first(names.split()) for names in packages]
                run_logged(["apt-get", "-q", "download", *chosen], log, "apt-get download", cwd=Path(work))
            except DevError as failure:
                raise UnsupportedError(f"There is no {program} here: {failure}") from failure
            for package in Path(work).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, folder], check=True)
        folder.chmod(0o755)

    found = cache.entry("stores", f"{program}-{cache.digest(packages, _release())}", make)
    libraries = ":".join(str(found / each) for each in LIBRARIES)
    return found / path, {**os.environ, "LD_LIBRARY_PATH": libraries}


def _first(names: list[str]) -> str:
    """The first of them that the mirror has; Debian renames libraries from one release to the next."""
    for name in names[:-1]:
        if subprocess.run(["apt-cache", "show", name], capture_output=True).returncode == 0:
            return name
    return names[-1]


def _release() -> str:
    path = Path("/etc/os-release")
    return path.read_text() if path.exists() else ""
