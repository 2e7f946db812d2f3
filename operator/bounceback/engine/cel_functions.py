"""The functions that expressions have beside the standard ones."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

# A callback that raises is logged by the library before the error reaches us, once for each evaluation: its message
# is in the error.
logging.getLogger("cel").setLevel(logging.ERROR)

STANDARD: Final = frozenset(
    re.findall(
        r"\w+",
        """size has all exists exists_one map filter int uint double string bytes timestamp duration type dyn
        contains startsWith endsWith matches getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear
        getHours getMinutes getSeconds getMilliseconds""",
    )
)

_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([numkMGTPE]|[KMGTPE]i)?)$")
_SUFFIXES: Final[Mapping[str, Decimal]] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10**3),
    **{suffix: Decimal(1000) ** n for n, suffix in enumerate("MGTPE", 2)},
    **{f"{suffix}i": Decimal(1024) ** n for n, suffix in enumerate("KMGTPE", 1)},
}


def quantity(value: object) -> float:
    """A Kubernetes quantity as a number in its base unit: quantity("500Mi") is 524288000.0, quantity("250m") 0.25."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = _QUANTITY.match(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"{value!r} is not a quantity such as 500Mi, 250m or 2")
    number, exponent, suffix = found.groups()
    return float(Decimal(number + (exponent or "")) * _SUFFIXES.get(suffix or "", Decimal(1)))


def total(numbers: list[Any]) -> Any:
    """The sum; 0 for an empty list."""
    return sum(_numbers(numbers))


def least(numbers: list[Any]) -> Any:
    return min(_numbers(numbers))


def greatest(numbers: list[Any]) -> Any:
    return max(_numbers(numbers))


def distinct(values: list[Any]) -> list[Any]:
    """Each value once, in the order of the first ones."""
    return list({_key(value): value for value in reversed(values)}.values())[::-1]


def sets_contains(whole: list[Any], part: list[Any]) -> bool:
    """Whether each value of `part` is in `whole`."""
    return {_key(v) for v in part} <= {_key(v) for v in whole}


def sets_equivalent(one: list[Any], other: list[Any]) -> bool:
    """Whether both lists hold the same values, whatever their order and number."""
    return {_key(v) for v in one} == {_key(v) for v in other}


def _numbers(values: list[Any]) -> list[Any]:
    if wrong := [v for v in values if isinstance(v, bool) or not isinstance(v, int | float)]:
        raise ValueError(f"{wrong[0]!r} is not a number")
    return values


def _key(value: Any) -> str:
    """Equal for equal values; 1 and 1.0 are equal in CEL, 1 and true are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True, default=str)


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "quantity": quantity,
    "sum": total,
    "min": least,
    "max": greatest,
    "distinct": distinct,
    "sets.contains": sets_contains,
    "sets.equivalent": sets_equivalent,
}
NAMESPACES: Final = frozenset(name.split(".")[0] for name in FUNCTIONS if "." in name)
