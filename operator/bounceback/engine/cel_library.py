"""The `cel` package without its command line, which comes with it and loads 12 MB of terminal libraries in 0.2 s."""

import sys
from types import ModuleType

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402 - only now

__all__ = ["cel"]
