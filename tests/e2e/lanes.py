"""A client of the Kubernetes API with lanes: each asks for an object of its own, again and again, and says what it got.

Runs in a pod by its text; the standard library is all that it has. Its argument: {lane: what it does}, as JSON.
"""

import contextlib
import http.client
import json
import os
import pathlib
import ssl
import sys
import threading
import time
from typing import Any

PLACE = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
NAMESPACE = (PLACE / "namespace").read_text()
CORE = f"/api/v1/namespaces/{NAMESPACE}"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"
PAUSE = 0.4
WATCH_SECONDS = 8
TRUST = ssl.create_default_context(cafile=PLACE / "ca.crt")
saying = threading.Lock()


class Connection:
    """To the API server, as the pod's account, begun anew whenever it broke."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._http: http.client.HTTPSConnection | None = None

    def open(self, method: str, path: str, body: Any = None) -> http.client.HTTPResponse:
        if self._http is None:
            host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
            self._http = http.client.HTTPSConnection(host, port, timeout=self._patience, context=TRUST)
        token = (PLACE / "token").read_text()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._http.request(method, path, None if body is None else json.dumps(body), headers)
        return self._http.getresponse()

    def close(self) -> None:
        if self._http is not None:
            self._http.close()
        self._http = None


class Lane:
    def __init__(self, name: str, what: str) -> None:
        self.name = name
        self.what = what
        self.path = f"{CORE}/configmaps/{name}"
        self.connection = Connection(60 if what == "watch" else 5)
        self.number = 0

    def say(self, verb: str, **told: object) -> None:
        with saying:
            print(json.dumps({"lane": self.name, "verb": verb, "at": time.time(), **told}), flush=True)

    def ask(self, verb: str, method: str, path: str, body: Any = None) -> Any:
        """What was answered, and said so; None where it was an error, or nothing."""
        began = time.monotonic()
        try:
            answer = self.connection.open(method, path, body)
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            self.say(verb, error=type(error).__name__, took=time.monotonic() - began)
            return None
        told: dict[str, object] = {"code": answer.status, "took": time.monotonic() - began}
        told["headers"] = {key.lower(): value for key, value in answer.getheaders()}
        found = None
        if answer.status < 300:
            found = json.loads(text)
        else:
            told["text"] = text.decode(errors="replace")
        self.say(verb, **told)
        return found

    def get(self) -> None:
        self.ask("get", "GET", self.path)

    def list(self) -> None:
        found = self.ask("list", "GET", f"{CORE}/configmaps?fieldSelector=metadata.name%3D{self.name}")
        if found is not None:
            self.say("listed", count=len(found["items"]))

    def update(self) -> None:
        found = self.ask("get", "GET", self.path)
        if found is not None:
            self.number += 1
            self.ask("update", "PUT", self.path, {**found, "data": {"number": str(self.number)}})

    def create(self) -> None:
        self.number += 1
        name = f"{self.name}-{self.number}"
        self.ask("create", "POST", LEASES, {"metadata": {"name": name}})
        found = self.ask("get", "GET", f"{LEASES}/{name}")
        self.say("made", there=found is not None)

    def watch(self) -> None:
        """For as long as the API server lets it."""
        threading.Thread(target=self.touch, daemon=True).start()
        while True:
            try:
                self.follow()
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.say("watch", error=type(error).__name__)
            else:
                self.say("watch", error="")
            self.connection.close()
            time.sleep(PAUSE)

    def follow(self) -> None:
        query = f"watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}"
        answer = self.connection.open(
            "GET", f"{CORE}/configmaps?{query}&fieldSelector=metadata.name%3D{self.name}&resourceVersion=0"
        )
        if answer.status != 200:
            self.say("watch", code=answer.status)
            return
        for line in answer:
            event = json.loads(line)  # ValueError where it is cut
            data = event["object"].get("data") or {}
            sent = float(data.get("at", 0))
            told = {"number": int(data.get("number", 0)), "late": time.time() - sent if sent else 0.0}
            self.say("event", type=event["type"], code=event["object"].get("code"), **told)

    def touch(self) -> None:
        """So that there is something to see."""
        other = Connection(3)
        while True:
            self.number += 1
            with contextlib.suppress(OSError, http.client.HTTPException):
                body = {"metadata": {"name": self.name}, "data": {"number": str(self.number), "at": str(time.time())}}
                other.open("PUT", self.path, body).read()
                time.sleep(PAUSE / 2)
                continue
            other.close()

    def go(self) -> None:
        while True:
            getattr(self, self.what)()
            time.sleep(PAUSE)


if __name__ == "__main__":
    for lane, what in json.loads(sys.argv[1]).items():
        threading.Thread(target=Lane(lane, what).go, daemon=True).start()
    threading.Event().wait()
