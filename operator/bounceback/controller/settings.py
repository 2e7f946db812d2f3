"""What the operator is told by its surroundings; the chart sets these variables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from bounceback.kube.client import Json
from bounceback.report.objects import is_bucket, is_prefix
from bounceback.report.redact import redact

MEBIBYTE: Final = 1024 * 1024
MOST_MEBIBYTES: Final = 1024 * 1024
_ENDPOINT: Final = re.compile(r"https?://[A-Za-z0-9.\[\]:-]{1,253}/?")


class StoreKind(StrEnum):
    """Where evidence is kept."""

    CONFIG_MAPS = "ConfigMaps"
    VOLUME = "Volume"
    OBJECT_STORAGE = "ObjectStorage"
    NONE = "None"


@dataclass(frozen=True)
class BucketSettings:
    """Where a bucket is, and where its keys are mounted; not the keys."""

    bucket: str = ""
    endpoint: str = ""  # empty: AWS
    region: str = "us-east-1"
    prefix: str = ""
    keys: str = "/etc/bounceback/object-storage"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> BucketSettings:
        """Raises ValueError naming the variable that is wrong."""

        def given(name: str, default: str) -> str:
            return environment.get(f"BOUNCEBACK_EVIDENCE_{name}") or default

        bucket, prefix = given("BUCKET", ""), given("PREFIX", "").strip("/")
        if not is_bucket(bucket):
            raise ValueError(f"BOUNCEBACK_EVIDENCE_BUCKET must be the name of a bucket, not {bucket!r}")
        if not is_prefix(prefix):
            raise ValueError(f"BOUNCEBACK_EVIDENCE_PREFIX must be names with / between them, not {prefix!r}")
        endpoint, plain = given("ENDPOINT", ""), given("ALLOW_HTTP", "false") == "true"
        if endpoint and not _ENDPOINT.fullmatch(endpoint):
            raise ValueError(f"BOUNCEBACK_EVIDENCE_ENDPOINT must be https://HOST[:PORT], not {redact(endpoint)!r}")
        if endpoint.startswith("http://") and not plain:
            raise ValueError(
                f"BOUNCEBACK_EVIDENCE_ENDPOINT must begin with https://, not {endpoint!r}, unless "
                "BOUNCEBACK_EVIDENCE_ALLOW_HTTP is true: evidence would be sent in clear"
            )
        return cls(bucket, endpoint.rstrip("/"), given("REGION", cls.region), prefix, given("KEYS", cls.keys))


@dataclass(frozen=True)
class EvidenceSettings:
    """How evidence is kept."""

    store: StoreKind = StoreKind.CONFIG_MAPS
    directory: str = "/evidence"  # of the volume
    run_bytes: int = 4 * MEBIBYTE  # compressed, at the most
    namespace_bytes: int = 16 * MEBIBYTE  # of all runs of a namespace; the oldest go first
    bucket: BucketSettings = BucketSettings()  # of object storage

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> EvidenceSettings:
        """Raises ValueError naming the variable that is wrong."""

        def mebibytes(name: str, default: int) -> int:
            text = environment.get(name)
            if not text:
                return default
            if not text.isdecimal() or not 1 <= int(text) <= MOST_MEBIBYTES:
                raise ValueError(f"{name} must be a whole number of MiB from 1 to {MOST_MEBIBYTES}, not {text!r}")
            return int(text) * MEBIBYTE

        store = environment.get("BOUNCEBACK_EVIDENCE_STORE") or cls.store
        if store not in list(StoreKind):
            raise ValueError(f"BOUNCEBACK_EVIDENCE_STORE must be {', '.join(StoreKind)}, not {store!r}")
        directory = environment.get("BOUNCEBACK_EVIDENCE_DIRECTORY") or cls.directory
        if not directory.startswith("/"):
            raise ValueError(f"BOUNCEBACK_EVIDENCE_DIRECTORY must be a path from /, not {directory!r}")
        run = mebibytes("BOUNCEBACK_EVIDENCE_RUN_MEBIBYTES", cls.run_bytes)
        namespace = mebibytes("BOUNCEBACK_EVIDENCE_NAMESPACE_MEBIBYTES", cls.namespace_bytes)
        if namespace < run:
            raise ValueError("BOUNCEBACK_EVIDENCE_NAMESPACE_MEBIBYTES must be no less than that of a run")
        stored = BucketSettings.from_environment(environment) if store == StoreKind.OBJECT_STORAGE else cls.bucket
        return cls(StoreKind(store), directory, run, namespace, stored)


@dataclass(frozen=True)
class Settings:
    namespace: str  # its own: NodePods, journal, lease and freeze live here
    identity: str  # this replica's name
    account: str  # its service account: the rollback pod's, too
    image: str  # of the agents: the operator's own
    pull_policy: str
    watch_namespaces: tuple[str, ...]  # empty: all
    own_addresses: tuple[str, ...]  # its probes come from here: never touched by a fault
    metrics_port: int
    runs_at_once: int
    webhook_port: int = 9443  # where the API server asks us
    admission: str = ""  # name of the Service and configuration of faults by admission; empty: there are none
    arming: str = ""  # name of the webhook's Service, Secret and configuration; empty: pods are not armed
    arming_resources: Json = field(default_factory=dict)  # of the proxy in an armed pod
    tolerations: tuple[Json, ...] = ()  # its own, for the rollback pods
    arming_needs_secret: bool = False  # the image is pulled with Secrets
    arming_asks_nodes: bool = True  # whether they can have the image
    evidence: EvidenceSettings = EvidenceSettings()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises ValueError naming the variable that is wrong."""

        def number(name: str, default: int) -> int:
            text = environment.get(name, str(default))
            if not text.isdigit():
                raise ValueError(f"{name} must be a whole number, not {text!r}")
            return int(text)

        def several(name: str) -> tuple[str, ...]:
            return tuple(part.strip() for part in environment.get(name, "").split(",") if part.strip())

        def parsed(name: str, default: str) -> Any:
            try:
                return json.loads(environment.get(name) or default)
            except ValueError as error:
                raise ValueError(f"{name} must be JSON: {error}") from error

        return cls(
            namespace=environment.get("BOUNCEBACK_NAMESPACE", "bounceback-system"),
            identity=environment.get("BOUNCEBACK_POD_NAME") or environment.get("HOSTNAME", "operator"),
            account=environment.get("BOUNCEBACK_SERVICE_ACCOUNT", "bounceback"),
            image=environment.get("BOUNCEBACK_IMAGE", "bounceback:dev"),
            pull_policy=environment.get("BOUNCEBACK_IMAGE_PULL_POLICY", "IfNotPresent"),
            watch_namespaces=several("BOUNCEBACK_WATCH_NAMESPACES"),
            own_addresses=several("POD_IPS") or several("POD_IP"),
            metrics_port=number("BOUNCEBACK_METRICS_PORT", 8080),
            runs_at_once=number("BOUNCEBACK_RUNS_AT_ONCE", 100),
            webhook_port=number("BOUNCEBACK_WEBHOOK_PORT", 9443),
            admission=environment.get("BOUNCEBACK_ADMISSION", ""),
            arming=environment.get("BOUNCEBACK_ARMING", ""),
            arming_resources=parsed("BOUNCEBACK_ARMING_RESOURCES", "{}"),
            tolerations=tuple(parsed("BOUNCEBACK_TOLERATIONS", "[]")),
            arming_needs_secret=environment.get("BOUNCEBACK_ARMING_NEEDS_SECRET") == "true",
            arming_asks_nodes=environment.get("BOUNCEBACK_ARMING_ASKS_NODES") != "false",
            evidence=EvidenceSettings.from_environment(environment),
        )
