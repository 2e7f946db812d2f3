"""bounceback version."""

from __future__ import annotations

import argparse

from bounceback.api import API_VERSION


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(options: argparse.Namespace) -> int:
    from importlib.metadata import PackageNotFoundError, version  # slow to load, and needed here only

    try:
        release = version("bounceback")
    except PackageNotFoundError:  # run from a source tree that is not installed
        release = "from source"
    print(f"bounceback {release} ({API_VERSION})")
    return 0
