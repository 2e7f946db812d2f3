"""bounceback proxy: faults on connections by hand or in a CI job, without a cluster."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Final

from bounceback.cli.exits import CommandError

TOKEN_VARIABLE: Final = "BOUNCEBACK_PROXY_TOKEN"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="[NAME=]HOST:PORT[/udp|/dns]",
        help="where connections come to; with an --upstream each, several times for several",
    )
    parser.add_argument(
        "--upstream", action="append", default=[], metavar="HOST:PORT", help="where they go on to, in the same order"
    )
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="with --write-kubeconfig: the cluster to stand before (default: kubectl's)"
    )
    parser.add_argument("--context", metavar="NAME", help="of that kubeconfig (default: its current one)")
    parser.add_argument(
        "--write-kubeconfig",
        metavar="FILE",
        help="stand before a Kubernetes API server, and write the kubeconfig of who goes through there",
    )
    parser.add_argument(
        "--api-listen",
        default="127.0.0.1:0",
        metavar="HOST:PORT",
        help="where the Kubernetes API is served; loopback only (default: 127.0.0.1, a port that is free)",
    )
    parser.add_argument(
        "--for",
        dest="seconds",
        type=float,
        metavar="SECONDS",
        help="end after so long (default: when the command ends, or with Ctrl-C)",
    )
    parser.add_argument("--fault", metavar="FILE", help="a YAML file with faults (and listeners); edits are taken up")
    parser.add_argument(
        "--control", metavar="HOST:PORT", help="serve the HTTP control API there; anything but loopback needs a token"
    )
    parser.add_argument(
        "--token-file", metavar="FILE", help=f"the bearer token that it asks for (or the variable {TOKEN_VARIABLE})"
    )
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="when it ends, wait this long for connections to close before they are reset (default: 0)",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how counters are shown")
    parser.add_argument(
        "client",
        nargs="*",
        metavar="-- COMMAND",
        help="a client of the Kubernetes API: run with KUBECONFIG set to that of --write-kubeconfig",
    )


def run(options: argparse.Namespace) -> int:
    from bounceback.cli.proxying import run_proxy  # uvloop and the rest load only for who uses them

    if len(options.listen) != len(options.upstream):
        raise CommandError(
            f"each --listen must have an --upstream: {len(options.listen)} and {len(options.upstream)} are given"
        )
    if not options.write_kubeconfig and (options.kubeconfig or options.context):
        raise CommandError("--kubeconfig and --context must have --write-kubeconfig: clients need one that leads here")
    if options.client and not options.write_kubeconfig:
        raise CommandError("-- COMMAND must be with --write-kubeconfig: it is a client of a Kubernetes API")
    if not options.listen and not options.fault and not options.write_kubeconfig:
        raise CommandError(
            "must have --listen and --upstream, a --fault file with listeners, or --write-kubeconfig for a cluster"
        )
    if options.seconds is not None and options.seconds <= 0:
        raise CommandError("--for must be above 0")
    if options.drain_seconds < 0:
        raise CommandError("--drain-seconds must be 0 or more")
    return run_proxy(options, _token(options.token_file))


def _token(file: str | None) -> str:
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "")
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"--token-file {file}: cannot be read: {error}") from error
    if not token:
        raise CommandError(f"--token-file {file}: must hold a token")
    return token
