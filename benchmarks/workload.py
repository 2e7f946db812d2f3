"""How many operations a second `bounceback workload` makes and accounts for, beside wrk, which only counts answers.

    python -m benchmarks.workload [--seconds 10] [--clients 32] [--patience 60]

The server is nginx, one worker: it says yes to every write and keeps nothing. So every acknowledged write must be found
lost in the end, or the account is wrong. Needs nginx and wrk. Exits 1 when a promise is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.api_proxy_place import free_port, started
from benchmarks.machine import Stretch, quiet

LEAST_PER_SECOND = 10_000
CONFIGURATION: Final = """
daemon off; worker_processes 1; pid {folder}/pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{
    listen 127.0.0.1:{port};
    location / {{ if ($request_method = GET) {{ return 404; }} return 204; }}
  }}
}}
"""
SCRIPT: Final = """
wrk.method, wrk.body = 'PUT', '1152921504606846976'
function done(summary, latency)
  print(string.format('\\n[%d, %d, %d]', summary.requests, summary.duration, latency:percentile(99)))
end
"""

Json = dict[str, Any]


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """The port of a server that says yes and forgets."""
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION.format(folder=folder, port=port))
    with started(["nginx", "-p", f"{folder}/", "-c", str(file)], port):
        yield port


def ours(folder: Path, port: int, load: Json, seconds: int) -> Json:
    """What the command says."""
    body = {
        "model": "Register",
        "http": {
            "url": f"http://127.0.0.1:{port}",
            "write": {"path": "/registers/{key}", "body": "{value}"},
            "read": {"path": "/registers/{key}"},
        },
        "load": load,
        "seconds": seconds,
    }
    file = folder / "workload.yaml"
    file.write_text(json.dumps(body))
    words = [sys.executable, "-m", "bounceback", "workload", str(file), "-o", "json"]
    found: Json = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=False).stdout)
    return found


def theirs(folder: Path, port: int, clients: int, seconds: int) -> tuple[float, float]:
    """By wrk, of one thread: requests a second, and p99 in seconds."""
    script = folder / "wrk.lua"
    script.write_text(SCRIPT)
    url = f"http://127.0.0.1:{port}/registers/1-1"
    words = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "-s", str(script), url]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout
    requests, microseconds, p99 = json.loads(said.splitlines()[-1])
    return requests / microseconds * 1e6, p99 / 1e6


def row(what: str, rate: float, p99: float, account: str, held: str) -> None:
    print(f"| {what} | {rate:,.0f} | {p99 * 1000:.1f} ms | {account} | {held} |", flush=True)


def account_of(found: Json) -> tuple[str, bool]:
    """In words, and whether every acknowledged write was found lost."""
    acknowledged, lost = found["operations"]["acknowledged"], found["flaws"]["Lost"]["count"]
    return f"{acknowledged:,} acknowledged, {lost:,} found lost", acknowledged == lost > 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Operations a second, accounted for.")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--patience", type=float, default=60.0, help="seconds to wait for a quiet moment")
    arguments = parser.parse_args()
    quiet(arguments.patience)
    stretch, kept = Stretch(), {True: "held", False: "MISSED"}
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as port:
        folder, seconds = Path(name), arguments.seconds
        print("| | operations/s | p99 | account | |\n|---|---|---|---|---|")
        closed = ours(folder, port, {"closed": {"clients": arguments.clients}}, seconds)
        rate, p99 = closed["operations"]["perSecond"], closed["latencySeconds"]["write"]["p99"]
        words, right = account_of(closed)
        fits = rate >= LEAST_PER_SECOND and right
        row(f"ours, {arguments.clients} clients; at least {LEAST_PER_SECOND:,}", rate, p99, words, kept[fits])
        paced = ours(folder, port, {"open": {"perSecond": LEAST_PER_SECOND}}, seconds)
        rate, p99 = paced["operations"]["perSecond"], paced["latencySeconds"]["write"]["p99"]
        words, right = account_of(paced)
        late = paced["latencySeconds"]["late"]["p99"] * 1000
        row(
            f"ours, a fixed rate of {LEAST_PER_SECOND:,}",
            rate,
            p99,
            f"{words}; begun {late:.1f} ms late (p99)",
            kept[right],
        )
        row(f"wrk, {arguments.clients} connections", *theirs(folder, port, arguments.clients, seconds), "none", "")
    print(stretch.closing())
    return 0 if fits and right else 1


if __name__ == "__main__":
    sys.exit(main())
