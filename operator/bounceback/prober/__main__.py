"""python3 -m bounceback.prober work|control"""

from __future__ import annotations

import sys

USAGE = "usage: python3 -m bounceback.prober work|control"


def main(arguments: list[str]) -> int:
    """`control` asks the one that works, and loads nothing but what that takes."""
    if arguments == ["control"]:
        from bounceback.prober.control import main as control

        return control()
    if arguments == ["work"]:
        from bounceback.prober.work import main as work

        return work()
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
