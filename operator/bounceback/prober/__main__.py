"""python3 -m bounceback.prober work|look|control"""

from __future__ import annotations

import sys

USAGE = "usage: python3 -m bounceback.prober work|look|control"


def main(arguments: list[str]) -> int:
    """`control` asks the one that works, and loads nothing but what that takes."""
    if arguments == ["control"]:
        from bounceback.prober.control import main as control

        return control()
    if arguments == ["work"]:
        from bounceback.prober.work import main as work

        return work()
    if arguments == ["look"]:
        from bounceback.prober.look import main as look

        return look()
    print(USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
