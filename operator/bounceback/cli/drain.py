"""bounceback drain: end what runs before the operator goes, as the chart's job does."""

from __future__ import annotations

import argparse
from importlib import import_module


def arguments(parser: argparse.ArgumentParser) -> None:
    """None: it is told all by its environment, as the operator is."""


def run(options: argparse.Namespace) -> int:
    code: int = import_module("bounceback.controller.drain").main()  # by name, as the operator is
    return code
