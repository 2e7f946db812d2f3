"""How an agent speaks to the API proxy of an armed pod: where they meet, and in which words.

They meet at an abstract unix socket (unix(7)): it belongs to the pod's network namespace, needs no volume, and nobody
outside can reach it. One JSON object a line. The agent begins, and asks; each of its words has one answer, in order:

    {"version": 1, "injection": NAME, "rules": [ApiRule as asdict, ...], "notAfter": UTC seconds} -> {"ok": true, ...}
    {"rules": [...]}    exactly these from now on    -> {"ok": true, "rules": how many}
    {"hits": true}      -> {"hits": N, "seen": N, "behavior": {...}}
    {"inForce": true}   -> {"injections": [NAME, ...]}, those of everybody; who only asks this need not begin
    {"version": 1, "kills": NAME}  -> {"ok": true}: from now on it is the proxy that asks, and rules of this injection
                           may kill clients:
      (asked) {"kill": N, "from": PORT, "to": PORT} -> {"killed": N, "processes": how many held that connection}
    whatever is wrong   -> {"ok": false, "error": words}
    (nobody asked)      -> {"ended": "Terminated"}, and the end: the pod ends, and the proxy with it

The rules are in force as long as the connection is: who dies takes them along. When the agent has nothing more to say
it ends its side; the proxy ends its own once the rules are gone. Standard library only: the agent imports this.
"""

from __future__ import annotations

from typing import Final

ADDRESS: Final = "\0bounceback-api-proxy"
VERSION: Final = 1
PORT: Final = 15443
"""Where the clients of the pod find the proxy, on 127.0.0.1, unless PORT_VARIABLE says otherwise."""
PORT_VARIABLE: Final = "BOUNCEBACK_GATE_PORT"
LINKS_VARIABLE: Final = "BOUNCEBACK_GATE_LINKS"
"""Names, with commas between them, of the account's files that the pod's other containers are to find beside ca.crt."""
LONGEST: Final = 1 << 20
"""Bytes of one word: who says more is not listened to."""
