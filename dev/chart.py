"""python -m dev.chart: writes what the chart and its page of values repeat of other files.

The chart carries copies of the CRDs, because Helm reads nothing from outside its folder; docs/install.md lists the
values with their meaning from the schema and their defaults from values.yaml.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

PROJECT: Final = Path(__file__).resolve().parent.parent
CHART: Final = PROJECT / "helm" / "bounceback"
PAGE: Final = PROJECT / "docs" / "install.md"
BEGIN: Final = "<!-- values: written by python -m dev.chart -->\n"
END: Final = "<!-- end of values -->\n"


def main() -> int:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


def files() -> dict[Path, str]:
    """What each generated file must hold."""
    copies = {CHART / "files" / "crds" / path.name: path.read_text() for path in (PROJECT / "crds").glob("*.yaml")}
    return {**copies, PAGE: page()}


def page() -> str:
    """docs/install.md with its table of values anew."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    lines = [f"| `{name}` | {default} | {about} |\n" for name, default, about in rows(schema, defaults)]
    return f"{before}{BEGIN}| value | default | meaning |\n|---|---|---|\n{''.join(lines)}{END}{after}"


def rows(schema: dict[str, Any], defaults: Any, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """(name, default, meaning) of every value; an object with fields of its own gives a row for each of them."""
    for name, part in schema["properties"].items():
        if name == "global":
            continue
        if "properties" in part:
            yield from rows(part, defaults[name], f"{prefix}{name}.")
            continue
        yield f"{prefix}{name}", f"`{json.dumps(defaults[name])}`", part["description"]
        for field, about in part.get("items", {}).get("properties", {}).items():
            yield f"{prefix}{name}[].{field}", "", about["description"]


if __name__ == "__main__":
    sys.exit(main())
