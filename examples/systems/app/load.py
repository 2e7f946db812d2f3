"""What the web tier does where its container has limits: it knows when it has too much to do, and says no.

WORK_MILLISECONDS  of its processor's time go into each page and order; 0: it has no limits, and nothing here is done
STATE              a folder that outlives a restart of the container, and belongs to one process at a time

Work that took SLOW_SECONDS, or a thread that could not be started, opens the breaker: for REST_SECONDS requests
are answered 503 at once, so that those that are under way come to their end.

FLAW breaks one promise:
  open-breaker  the breaker never closes again
  stale-lock    who finds the folder locked waits for its owner to unlock it, which may have ended without doing so
"""

import os
import threading
import time
from pathlib import Path

FLAW = os.environ.get("FLAW", "")
WORK_SECONDS = int(os.environ.get("WORK_MILLISECONDS", "0")) / 1000
STATE = os.environ.get("STATE", "")
SLOW_SECONDS = 3.0
REST_SECONDS = 1.0


class Breaker:
    """Open while there is too much to do."""

    def __init__(self) -> None:
        self.until = 0.0
        self.lock = threading.Lock()

    @property
    def open(self) -> bool:
        return time.monotonic() < self.until

    def trip(self, why: str) -> None:
        with self.lock:
            if not self.open:
                print(f"too much to do: {why}", flush=True)
            self.until = float("inf") if FLAW == "open-breaker" else max(self.until, time.monotonic() + REST_SECONDS)


breaker = Breaker()


def work() -> None:
    """What a page takes, by this thread's own clock. How long the store takes is not ours to judge."""
    if not WORK_SECONDS:
        return
    began = time.monotonic()
    end = time.thread_time() + WORK_SECONDS
    while time.thread_time() < end:
        pass
    if (seconds := time.monotonic() - began) > SLOW_SECONDS:
        breaker.trip(f"the work of a request took {seconds:.1f} s")


def own_state() -> None:
    """The folder is this process's from now on."""
    if not STATE:
        return
    mark = Path(STATE, "lock")
    while FLAW == "stale-lock" and mark.exists():
        print("the state belongs to somebody else: waiting", flush=True)
        time.sleep(1)
    mark.write_text(str(os.getpid()))
