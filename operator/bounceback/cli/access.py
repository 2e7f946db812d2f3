"""bounceback access: the rights that the operator needs in a namespace, to be read and then applied."""

from __future__ import annotations

import argparse

import yaml

from bounceback.cli.exits import PASSED
from bounceback.cli.freeze import operator_namespace


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("namespace", metavar="NAMESPACE", help="the namespace of the system under test")
    parser.add_argument(
        "--service-account",
        "--account",
        default="bounceback",
        metavar="NAME",
        help="the account of experiments there",
    )
    parser.add_argument(
        "--operator-account", default="bounceback", metavar="NAME", help="the operator's own service account"
    )
    parser.add_argument(
        "--authority-secret",
        action="append",
        default=[],
        metavar="NAME",
        help="a Secret there that tlsFault may have certificates signed by; several times for several",
    )
    operator_namespace(parser)
    for option in ("--kubeconfig", "--context"):  # taken, though no cluster is asked: they stand on every command line
        parser.add_argument(option, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    from bounceback.vehicles.access import access_manifest  # loads the operator's client, which no other command needs

    manifests = access_manifest(
        options.namespace,
        options.service_account,
        options.operator_namespace,
        options.operator_account,
        options.authority_secret,
    )
    print(yaml.safe_dump_all(manifests, sort_keys=False), end="")
    return PASSED
