"""`agent clock`: lays out, in a pod that is armed for it, what answers for the clocks of its containers.

It runs once, before they do, as an init container. Each container has a folder of its own in the volume that they
share, in which it finds the library and the page.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from bounceback.drivers.clock_page import empty
from bounceback.types.clock import CONTAINERS_VARIABLE, FOLDER, LIBRARY, PAGE

SOURCE: Final = Path("/usr/lib/bounceback/libbounceback-clock.so")
"""In the image."""


def clock(source: Path = SOURCE, volume: Path = Path(FOLDER)) -> int:
    """1 where it cannot be done, with the reason on standard error: the pod waits, as its containers rely on it."""
    try:
        for name in filter(None, os.environ.get(CONTAINERS_VARIABLE, "").split(",")):
            lay_out(source, volume / name)
    except OSError as error:
        print(f"clock: {error}", file=sys.stderr)
        return 1
    return 0


def lay_out(source: Path, folder: Path) -> None:
    """Anew: whatever was there belonged to programs that have ended. Raises OSError."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    library, page = folder / Path(LIBRARY).name, folder / Path(PAGE).name
    for each in (library, page):
        each.unlink(missing_ok=True)
    shutil.copyfile(source, library)
    library.chmod(0o555)
    page.write_bytes(empty())
    page.chmod(0o666)  # whoever the container's programs run as, they count their answers in it
