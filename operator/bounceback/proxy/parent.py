"""Processes that are not to outlive the one that began them, however that ends. Standard library only."""

from __future__ import annotations

import ctypes
from typing import Final

PR_SET_PDEATHSIG: Final = 1
_libc: Final = ctypes.CDLL(None)


def die_with_parent(number: int) -> None:
    """The kernel sends that signal to this process when its parent dies (prctl(2), PR_SET_PDEATHSIG)."""
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
