"""Evidence in object storage, read as the one who asks: by the variables that other tools for S3 know, too.

The operator's keys stay with the operator. Where the bucket is served is for the user to say, and not for the cluster:
a status that named another server would be sent what is signed with the user's keys.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from bounceback.cli.exits import ERROR, CommandError
from bounceback.report import objects
from bounceback.report.bucket import Access, Bucket, BucketError
from bounceback.report.bundle import LARGEST_KIND
from bounceback.types.outcome import EvidenceKind


def read(url: str, environment: Mapping[str, str] = os.environ) -> tuple[bytes, Mapping[EvidenceKind, bytes]]:
    """The manifest and the kinds that are there. Raises CommandError where there is none, or it cannot be read."""
    try:
        name, below = objects.parsed(url)
    except ValueError as error:
        raise CommandError(f"{error}") from error
    try:
        return asyncio.run(_read(Bucket.of(access_from(name, url, environment)), below))
    except BucketError as error:
        raise CommandError(f"{url}: {error}", ERROR if error.passing else 2) from error


def access_from(bucket: str, url: str, environment: Mapping[str, str]) -> Access:
    """As the variables have it. Raises CommandError naming those that are missing or wrong."""
    key, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
    if not key or not secret:
        raise CommandError(
            f"the evidence is in object storage, {url}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of an account "
            "that may read it (AWS_ENDPOINT_URL where it is not on AWS), or copy it and name the folder with --from"
        )
    return Access(
        bucket,
        region=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
        endpoint=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or "",
        key=key,
        secret=secret,
        token=environment.get("AWS_SESSION_TOKEN", ""),
        authority=_authority(environment.get("AWS_CA_BUNDLE", "")),
    )


def _authority(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8") if file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"AWS_CA_BUNDLE {file} cannot be read") from error


async def _read(bucket: Bucket, below: str) -> tuple[bytes, Mapping[EvidenceKind, bytes]]:
    manifest = await bucket.get(objects.manifest_key(below), LARGEST_KIND)
    if manifest is None:
        raise CommandError(
            f"no evidence is kept at {objects.url(bucket.name, below)}: it was given up for newer, or deleted"
        )
    found = {}
    for kind in EvidenceKind:
        if (data := await bucket.get(objects.kind_key(below, kind), LARGEST_KIND)) is not None:
            found[kind] = data
    return manifest, found
