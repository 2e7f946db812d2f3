"""bounceback access: the rights that the operator needs in a namespace, to be read and then applied."""

from __future__ import annotations

import argparse
import re
from typing import Final

import yaml

from bounceback.cli.exits import PASSED
from bounceback.cli.freeze import operator_namespace

CLUSTER_OBJECT: Final = re.compile(
    r"(namespaces|[a-z0-9]+\.[a-z0-9]([-a-z0-9.]*[a-z0-9])?)/([a-z0-9]([-a-z0-9.]*[a-z0-9])?)"
)
RESOURCE: Final = re.compile(r"[a-z0-9]+(\.[a-z0-9]([-a-z0-9.]*[a-z0-9])?)?")


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
        "--secret",
        action="append",
        default=[],
        metavar="NAME",
        help="a Secret there that it may read: a probe's login, a tlsFault's authority; several times for several",
    )
    parser.add_argument(
        "--objects",
        action="append",
        default=[],
        type=_resources,
        metavar="RESOURCE,...",
        help="what objectFault may change there: deployments.apps,configmaps; jobs.batch for job probes and repairs, "
        "pods for workloads",
    )
    parser.add_argument(
        "--read",
        action="append",
        default=[],
        type=_resources,
        metavar="RESOURCE,...",
        help="what it may see there beside pods, services and workloads: configmaps,widgets.example.com; for "
        "kubernetes probes and reference runs",
    )
    parser.add_argument(
        "--nodes", action="store_true", help="also the right to change nodes; which of them, a FaultPolicy says"
    )
    parser.add_argument(
        "--cluster-objects",
        action="append",
        default=[],
        type=_named,
        metavar="RESOURCE/NAME,...",
        help="objects without a namespace that objectFault may change, each by name: "
        "validatingwebhookconfigurations.admissionregistration.k8s.io/guard; or namespaces/NAME, to be deleted with "
        "all that is in them and made again. What may be done, a FaultPolicy says",
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
        options.secret,
        [each for listed in options.objects for each in listed],
        [each for listed in options.read for each in listed],
    )
    if options.nodes:
        from bounceback.vehicles.node_access import node_access_manifest

        manifests += node_access_manifest(options.namespace, options.service_account)
    if options.cluster_objects:
        from bounceback.vehicles.cluster_access import cluster_access_manifest

        named = [each for listed in options.cluster_objects for each in listed]
        manifests += cluster_access_manifest(options.namespace, options.service_account, named)
    print(yaml.safe_dump_all(manifests, sort_keys=False), end="")
    return PASSED


def _resources(text: str) -> list[str]:
    """Written as kubectl does. Raises ArgumentTypeError for what is no resource, or is one of the whole cluster."""
    found = [part.strip().lower() for part in text.split(",") if part.strip()]
    if wrong := [each for each in found if not RESOURCE.fullmatch(each)]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} must be a resource as kubectl writes it: deployments.apps")
    return found


def _named(text: str) -> list[tuple[str, str]]:
    """(resource, name) of each. Raises ArgumentTypeError for anything else."""
    found = [(part.strip(), CLUSTER_OBJECT.fullmatch(part.strip())) for part in text.split(",") if part.strip()]
    if wrong := [part for part, match in found if match is None]:
        raise argparse.ArgumentTypeError(
            f"{wrong[0]!r} must be RESOURCE.GROUP/NAME, as kubectl writes resources, or namespaces/NAME"
        )
    return [(match[1], match[3]) for _, match in found if match is not None]
