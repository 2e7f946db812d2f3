"""The CustomResourceDefinitions, generated from the models: `python -m bounceback.api.crd [FOLDER]` writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from bounceback.api import GROUP, VERSION
from bounceback.api.kinds import KINDS, Kind
from bounceback.api.schema import VALIDATIONS, structural

Json = dict[str, Any]
HEADER: Final = "# Generated from the models by `python -m bounceback.api.crd`: change those, not this.\n"


def definition(kind: Kind) -> Json:
    """The CustomResourceDefinition of one kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["bounceback"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _object_schema(kind)},
                    **({"subresources": {"status": {}}} if kind.status else {}),
                    "additionalPrinterColumns": [column.to_json() for column in kind.columns],
                }
            ],
        },
    }


def _object_schema(kind: Kind) -> Json:
    schema: Json = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
            "kind": {"type": "string", "description": f"{kind.kind}."},
            "metadata": {"type": "object"},
            "spec": structural(kind.spec),
        },
    }
    if kind.status:
        schema["properties"]["status"] = structural(kind.status, rules=False)
    if kind.rules:
        schema[VALIDATIONS] = [rule.to_json() for rule in kind.rules]
    return schema


def files() -> dict[str, str]:
    """What stands in crds/: text by file name."""
    return {f"{kind.plural}.yaml": HEADER + _text(definition(kind)) for kind in KINDS}


def _text(document: Json) -> str:
    """What has no parts of its own in one line: a third of a deep document is indentation otherwise."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True, default_flow_style=None)


class _Dumper(yaml.SafeDumper):
    """Every value in full: what stands twice is written twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def main(arguments: Iterable[str]) -> None:
    folder = Path(next(iter(arguments), "crds"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
