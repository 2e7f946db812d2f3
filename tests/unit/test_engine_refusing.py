"""What counts as an agent's refusal is what its drivers refuse: neither list is ahead of the other."""

from __future__ import annotations

import re
from pathlib import Path

from bounceback import drivers
from bounceback.engine.refusing import OF_PATHS, REFUSALS

NOBODYS_MISTAKE = {"RulesRefused", "TargetGone"}
A_REASON = r'"([A-Z][A-Za-z]+)"'
SAID = re.compile(rf"(?:Refused\(\s*|\breason = ){A_REASON}(?: if .+? else {A_REASON})?")


def test_every_refusal_of_a_driver_is_known() -> None:
    texts = [path.read_text() for path in Path(drivers.__file__).parent.glob("*.py")]
    reasons = {reason for text in texts for found in SAID.findall(text) for reason in found if reason}
    assert reasons - NOBODYS_MISTAKE == REFUSALS
    assert OF_PATHS < REFUSALS
