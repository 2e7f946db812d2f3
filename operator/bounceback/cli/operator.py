"""bounceback operator: run the operator, as its container does."""

from __future__ import annotations

import argparse
from importlib import import_module


def arguments(parser: argparse.ArgumentParser) -> None:
    """None: the operator is told all by its environment, which the chart sets."""


def run(options: argparse.Namespace) -> int:
    import_module("bounceback.controller.main").main()  # by name: the commands depend on no other entry point
    return 0
