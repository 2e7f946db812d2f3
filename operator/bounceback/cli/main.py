"""bounceback: break things on purpose in Kubernetes, and prove that they come back."""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from bounceback.cli.exits import INTERRUPTED, UNREAD, CommandError

COMMANDS: Final = {
    "run": "run experiments from files, and wait for their verdicts",
    "plan": "say what an experiment would touch, and how; touches nothing",
    "lint": "check files without a cluster",
    "status": "show experiments, or one of them in full",
    "report": "write the report of a finished experiment: Markdown, JSON, JUnit or HTML",
    "evidence": "find the evidence of a run, hold it against its digest, write it to files",
    "compare": "a run against earlier ones: what became worse",
    "repaired": "with expect: Manual, say that the repair by hand is done",
    "cancel": "end an experiment: cleared, checked, reported",
    "freeze": "stop all experiments and let none begin, or let them again",
    "access": "print the rights that the operator needs in a namespace",
    "proxy": "break connections without a cluster: a relay between a client and its server",
    "workload": "number operations on a system, read them back, and count what is lost; without a cluster",
    "operator": "run the operator (as its container does)",
    "drain": "before an uninstall: end what runs, and take finalizers away (as the chart's job does)",
    "version": "print the version",
}
EPILOG: Final = """\
exit codes: 0 Passed, 1 Failed, 2 bad input, 3 Inconclusive, 4 Aborted, 5 Error, 130 interrupted twice
"""


def parser_for(chosen: str | None) -> argparse.ArgumentParser:
    """The parser; only the chosen command's module is loaded, so that the others cost nothing."""
    parser = argparse.ArgumentParser(
        "bounceback", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        if name == chosen:
            module = import_module(f"bounceback.cli.{name}")
            module.arguments(command)
            command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parser_for(next((word for word in words if word in COMMANDS), None)).parse_args(words)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except CommandError as error:
        print(f"bounceback {options.command}: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own last flush complains
        return UNREAD
    return code


def _nobody_reads() -> bool:
    """Whether the output is a pipe whose reader has gone: `bounceback status | head -1`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(told & select.POLLERR for _, told in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
