"""The few Kubernetes calls that bringing a cluster up needs, with the certificates of a kubeconfig of ours."""

import base64
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from dev.progress import DevError

RETRY_SECONDS: Final = 0.05
APPLY: Final = "application/apply-patch+yaml"

Object = dict[str, Any]


class RefusedError(DevError):
    """The API server answered with an error."""


class Api:
    """One API server, as the user of one kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._address = urlsplit(cluster["server"])
        self._context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile() as pair:  # the ssl module takes certificates from files only
            for part in ("client-certificate-data", "client-key-data"):
                pair.write(base64.b64decode(user[part]))
            pair.flush()
            self._context.load_cert_chain(pair.name)

    def call(self, method: str, path: str, body: Object | None = None, kind: str = "application/json") -> Object:
        """One request; raises RefusedError with the API server's message when the answer is not a success."""
        answer = self._open(method, path, json.dumps(body) if body is not None else None, kind, timeout=10)
        text = answer.read()
        if answer.status >= 300:
            raise RefusedError(f"{method} {path}: {answer.status} {text.decode(errors='replace')[:400]}")
        return dict(json.loads(text)) if text.startswith(b"{") else {}

    def apply(self, path: str, body: Object) -> Object:
        """Server-side apply, as the owner of every field given."""
        return self.call("PATCH", f"{path}?fieldManager=bounceback-dev&force=true", body, APPLY)

    def wait_until_serving(self, deadline: float, alive: Callable[[], bool]) -> None:
        """Until /readyz says ok. `deadline` is of the monotonic clock; gives up early when `alive` says no."""
        reason = "it does not listen"
        while time.monotonic() < deadline and alive():
            try:
                self.call("GET", "/readyz")
                return
            except (OSError, http.client.HTTPException) as error:
                reason = str(error)
            except RefusedError as refused:
                reason = str(refused)
            time.sleep(RETRY_SECONDS)
        raise DevError(f"The API server does not serve: {reason}")

    def wait_for(self, path: str, name: str, met: Callable[[Object], bool], deadline: float) -> Object:
        """Watch the object `name` of a collection until `met`; raises DevError when `deadline` passes or it breaks."""
        while (left := deadline - time.monotonic()) > 0:
            query = f"{path}?watch=true&fieldSelector=metadata.name%3D{name}&timeoutSeconds={max(1, int(left))}"
            try:
                for event in self._events(query, left):
                    if event["type"] in ("ADDED", "MODIFIED") and met(event["object"]):
                        return dict(event["object"])
            except (OSError, http.client.HTTPException) as error:
                raise DevError(f"The API server went away while {path}/{name} was waited for: {error}") from error
        raise DevError(f"{path}/{name} did not become what was waited for in time.")

    def _events(self, path: str, timeout: float) -> Iterator[Object]:
        answer = self._open("GET", path, None, "application/json", timeout)
        if answer.status >= 300:
            raise RefusedError(f"GET {path}: {answer.status} {answer.read().decode(errors='replace')[:400]}")
        try:
            for line in answer:
                yield json.loads(line)
        except TimeoutError:
            return

    def _open(self, method: str, path: str, body: str | None, kind: str, timeout: float) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(
            self._address.hostname or "", self._address.port, timeout=timeout, context=self._context
        )
        connection.request(method, path, body, {"Content-Type": kind, "Connection": "close"})
        return connection.getresponse()
