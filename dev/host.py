"""What this machine must have before a cluster can run on it, installed with apt-get where that is possible."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from dev import cache
from dev.progress import DevError, run_logged, say

# What the cluster calls, and the Debian package that has it.
PROGRAMS: Final[Mapping[str, str]] = {
    "runc": "runc",
    "nft": "nftables",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "modprobe": "kmod",
    "ethtool": "ethtool",
    "socat": "socat",
    "busybox": "busybox-static",
    "gcc": "gcc libc6-dev",
    "openssl": "openssl",
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
LOCK_SECONDS: Final = 600  # another apt-get on the machine may be at work for that long


def missing(programs: Iterable[str], where: Callable[[str], str | None] = shutil.which) -> list[str]:
    """The Debian packages, sorted, that bring the programs that are not there."""
    absent = {package for program in programs if not where(program) for package in PROGRAMS[program].split()}
    return sorted(absent)


def prepare() -> None:
    """Have all that the cluster calls; raises DevError with what to do where that cannot be had."""
    if os.geteuid() != 0:
        raise DevError("The local cluster makes namespaces, cgroups and network links: run it as root (sudo -E).")
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if packages := missing(PROGRAMS):
        install(packages)
    if packages := missing(PROGRAMS):
        raise DevError(f"These packages were installed, but their programs are not in PATH: {' '.join(packages)}")


def install(packages: list[str]) -> None:
    """Install Debian packages; raises DevError with the command to run by hand where apt-get cannot."""
    by_hand = f"install these packages by hand: {' '.join(packages)}"
    if not shutil.which("apt-get"):
        raise DevError(f"This machine has no apt-get; {by_hand}")
    say(f"installing {' '.join(packages)}")
    log = cache.root() / "log" / "apt"
    log.parent.mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-q", "-y", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with cache.locked("apt"):
        try:
            run_logged([*apt, "update"], log, "apt-get update", env=environment)
            run_logged([*apt, "install", "--no-install-recommends", *packages], log, "apt-get install", env=environment)
        except DevError as failure:
            raise DevError(f"{failure}\nIf this machine reaches no Debian mirror, {by_hand}") from failure
