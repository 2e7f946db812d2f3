"""python3 -m bounceback.gate [ready]"""

from __future__ import annotations

import sys

USAGE = "usage: python3 -m bounceback.gate [ready]"


def main(arguments: list[str]) -> int:
    """Without a word it serves until SIGTERM; `ready` says whether it does, by its exit code. `certify` is its own."""
    if arguments == ["ready"]:
        from bounceback.gate.ready import ready

        return ready()
    if arguments == ["certify"]:
        from bounceback.gate.certifying import certify

        return certify()
    if arguments:
        print(USAGE, file=sys.stderr)
        return 2
    from bounceback.gate.serve import serve

    return serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
