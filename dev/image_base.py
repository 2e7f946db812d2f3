"""The base of the image where no registry is in reach: Debian as debootstrap makes it from the machine's mirror."""

import contextlib
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dev import cache, host
from dev.progress import DevError, run_logged, say

NAME: Final = "debian:trixie-slim"  # what operator/Dockerfile starts from
SUITE: Final = "trixie"
# What the published slim image leaves out too; the licences in usr/share/doc stay.
NOT_KEPT: Final = ("dev", "var/cache/apt", "var/lib/apt/lists", "usr/share/man", "usr/share/locale", "usr/share/info")


def key() -> str:
    """Changes when the base would be made in another way."""
    return cache.digest(SUITE, platform.machine(), NOT_KEPT)


def archive() -> Path:
    """The base's root folder as a .tar, made once."""
    return cache.entry("base", folder().name, make) / "root.tar"


def folder() -> Path:
    """Where the base is, or will be; without it the next build makes it from the packages of that day."""
    return cache.root() / "base" / f"{SUITE}-{key()}"


def make(folder: Path) -> None:
    """Make root.tar in the folder; raises DevError with the end of debootstrap's log."""
    if os.geteuid() != 0:
        raise DevError("debootstrap makes a root folder that belongs to root: run as root, or start Docker or Podman.")
    if not shutil.which("debootstrap"):
        host.install(["debootstrap", "debian-archive-keyring"])
    say(f"making the base {NAME} with debootstrap, about half a minute")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        root = Path(scratch, "root")
        log = cache.root() / "log" / "debootstrap"
        log.parent.mkdir(parents=True, exist_ok=True)
        run_logged(["debootstrap", "--variant=minbase", SUITE, str(root), *mirror()], log, "debootstrap")
        for unwanted in NOT_KEPT:
            empty(root / unwanted)
        with tarfile.open(folder / "root.tar", "w", format=tarfile.PAX_FORMAT) as packed:
            packed.add(root, arcname=".")


def empty(folder: Path) -> None:
    for inside in folder.iterdir() if folder.is_dir() else ():
        if inside.is_dir() and not inside.is_symlink():
            shutil.rmtree(inside)
        else:
            inside.unlink()


def mirror() -> list[str]:
    """The Debian mirror that this machine's apt uses; none leaves the choice to debootstrap."""
    if not shutil.which("apt-get"):
        return []
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(REPO_URI)", "Created-By: Packages"],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    return first_mirror(listing.splitlines())


def first_mirror(lines: Iterable[str]) -> list[str]:
    """Of `origin|label|address` lines the first address of Debian itself, not of its security archive."""
    for line in lines:
        with contextlib.suppress(ValueError):
            origin, label, address = line.split("|")
            if origin == label == "Debian":
                return [address]
    return []
