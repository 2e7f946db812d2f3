"""Secrets stay out of reports: what was observed is not shown at all, and texts lose what looks like a credential."""

from __future__ import annotations

import re
from typing import Any, Final

HIDDEN: Final = "***"
UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What neither XML nor HTML can carry."""
_WORDS: Final = r"password|passwd|pwd|secret|token|api[-_]?key|access[-_]?key|authorization|credential[s]?"
_PATTERNS: Final = (
    (re.compile(r"(?<=://)[^\s/@]+(?=@)"), HIDDEN),  # http://user:password@host
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{4,}"), rf"\1 {HIDDEN}"),
    (
        re.compile(rf"(?i)((?:{_WORDS})[\w-]{{0,64}}[\"']?\s{{0,8}}[=:]\s{{0,8}})(\"[^\"]*\"|'[^']*'|[^\s&,;\"']+)"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), HIDDEN),  # a JSON web token
)


def redact(text: str) -> str:
    """The text, with user names and passwords in addresses, bearer tokens and values of telling names hidden."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


_TELLING: Final = re.compile(rf"(?i){_WORDS}")
_REFERENCES: Final = frozenset({"secretName", "usernameKey", "passwordKey", "tokenKey", "serviceAccountToken"})
"""Names of Secrets and of their keys: not what they hold."""


def redacted(value: Any, under: str = "") -> Any:
    """JSON with the same shape: texts as `redact` gives them, and what telling keys or Secrets hold hidden.

    `under` is the key that it stands under.
    """
    if isinstance(value, dict):
        if _is_secret(value):
            value = {**value, **{part: _hidden(value[part]) for part in ("data", "stringData") if part in value}}
        name = value.get("name")
        if isinstance(name, str) and "value" in value and _is_telling(name):  # a variable, a header
            value = {**value, "value": HIDDEN}
        return {key: redacted(each, str(key)) for key, each in value.items()}
    if isinstance(value, list):
        return [redacted(each, under) for each in value]
    if _is_telling(under) and isinstance(value, str | int | float) and not isinstance(value, bool):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value


def _is_telling(key: str) -> bool:
    return key not in _REFERENCES and _TELLING.search(key) is not None


def _is_secret(value: dict[str, Any]) -> bool:
    """Also one out of a list, whose entries do not say their kind."""
    typed = isinstance(value.get("type"), str) and isinstance(value.get("metadata"), dict)
    return value.get("kind") == "Secret" or (typed and isinstance(value.get("data"), dict))


def _hidden(data: Any) -> Any:
    return dict.fromkeys(data, HIDDEN) if isinstance(data, dict) else HIDDEN


def shown(text: str) -> str:
    """The same, fit to be shown: characters that no document can carry are replaced."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", redact(text))
