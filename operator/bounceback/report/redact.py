"""Secrets stay out of reports: what was observed is not shown at all, and texts lose what looks like a credential."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What neither XML nor HTML can carry."""
_WORDS: Final = r"password|passwd|pwd|secret|token|api[-_]?key|access[-_]?key|authorization|credential[s]?"
_PATTERNS: Final = (
    (re.compile(r"(?<=://)[^\s/@]+(?=@)"), HIDDEN),  # http://user:password@host
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{4,}"), rf"\1 {HIDDEN}"),
    (re.compile(rf"(?i)([\w-]*(?:{_WORDS})[\w-]*[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;\"']+)"), rf"\1{HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"), HIDDEN),  # a JSON web token
)


def redact(text: str) -> str:
    """The text, with user names and passwords in addresses, bearer tokens and values of telling names hidden."""
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def shown(text: str) -> str:
    """The same, fit to be shown: characters that no document can carry are replaced."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", redact(text))
