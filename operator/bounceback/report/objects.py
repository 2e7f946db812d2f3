"""A bundle of evidence as objects of a bucket: their keys, and which of them are of one run.

`PREFIX/NAMESPACE/EXPERIMENT/RUN/` holds what a folder of a volume does, under the same names. The manifest is written
first: where there is anything of a run, there is what tells whose it is, and what of it is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from bounceback.report.bundle import MANIFEST, Bundle, file_name
from bounceback.types.outcome import EvidenceKind

Json = dict[str, Any]
SCHEME: Final = "s3://"
TRIED: Final = ".bounceback-tried"
"""What is written and deleted to see whether anything can be; always the same, so that no more than one can stay."""
LONGEST_PREFIX: Final = 128
"""So that the place of every run has room in a status."""
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True)
class Listed:
    """An object, as a bucket lists it."""

    key: str
    bytes: int
    written: str  # in an order that is that of time


@dataclass(frozen=True)
class OfRun:
    """All objects of one run; deleted in this order, its manifest goes last."""

    keys: tuple[str, ...]
    bytes: int
    written: str  # the first of them


def is_bucket(text: str) -> bool:
    return _BUCKET.fullmatch(text) is not None


def is_prefix(text: str) -> bool:
    """Segments with a / between them; empty for none."""
    return not text or (len(text) <= LONGEST_PREFIX and _PREFIX.fullmatch(text) is not None)


def key_of(*parts: str) -> str:
    return "/".join(filter(None, parts))


def home(prefix: str, namespace: str) -> str:
    """What all keys of a namespace lie below."""
    return key_of(prefix, namespace)


def place(prefix: str, owner: Json, run: str) -> str:
    """What the keys of a run lie below. `owner` is the experiment."""
    metadata = owner["metadata"]
    return key_of(home(prefix, str(metadata["namespace"])), str(metadata["name"])[:200], run)


def manifest_key(below: str) -> str:
    return key_of(below, MANIFEST)


def kind_key(below: str, kind: EvidenceKind) -> str:
    return key_of(below, file_name(kind))


def in_order(bundle: Bundle) -> list[tuple[EvidenceKind, bytes]]:
    """Small kinds before large ones, so that a store without much room takes the most of them."""
    return sorted(bundle.packed.items(), key=lambda item: len(item[1]))


def url(bucket: str, below: str) -> str:
    return f"{SCHEME}{bucket}/{below}/"


def parsed(text: str) -> tuple[str, str]:
    """The bucket, and what the keys lie below. Raises ValueError for what is no such URL."""
    bucket, _, below = text.removeprefix(SCHEME).partition("/")
    below = below.strip("/")
    if not text.startswith(SCHEME) or not is_bucket(bucket) or not below:
        raise ValueError(f"must be {SCHEME}BUCKET/PREFIX/NAMESPACE/EXPERIMENT/RUN, not {text!r}")
    return bucket, below


def of_run(text: str, run: str) -> str:
    """The same URL, of another run of the same experiment. Raises ValueError like `parsed`."""
    bucket, below = parsed(text)
    return url(bucket, key_of(below.rpartition("/")[0], run))


def by_run(listed: Iterable[Listed], below: str) -> dict[str, OfRun]:
    """Objects of a namespace by what those of a run lie below; what is not named like evidence is left alone."""
    names = {MANIFEST, *map(file_name, EvidenceKind)}
    found: dict[str, list[Listed]] = {}
    for each in listed:
        experiment, _, name = each.key.removeprefix(f"{below}/").rpartition("/")
        if name in names and experiment.count("/") == 1:
            found.setdefault(f"{below}/{experiment}", []).append(each)
    return {
        where: OfRun(
            tuple(sorted((e.key for e in each), key=lambda key: key.endswith(f"/{MANIFEST}"))),
            sum(e.bytes for e in each),
            min(e.written for e in each),
        )
        for where, each in found.items()
    }
