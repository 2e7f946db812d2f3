"""An admission webhook: the API server asks it about each order, and it refuses those above LIMIT.

It makes its certificate when it starts, and writes into its own configuration whom the API server is to believe.
"""

import json
import os
import ssl
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import certificates
from answers import Answers, Server
from cluster import RefusedError, ask, own_namespace

CONFIGURATION = os.environ["CONFIGURATION"]
LIMIT = int(os.environ["LIMIT"])
PORT = 8443
PLACE = f"/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/{CONFIGURATION}"


class Reviews(Answers):
    def do_POST(self) -> None:
        review = json.loads(self.body())
        order = review["request"]["object"]
        answer: dict[str, Any] = {"uid": review["request"]["uid"], "allowed": int(order["data"]["size"]) <= LIMIT}
        if not answer["allowed"]:
            answer["status"] = {"code": 403, "message": f"an order is of {LIMIT} at most"}
        self.answer(200, {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": answer})


class Guard(Server):
    request_queue_size = 64  # who stands still still takes connections, as a machine in trouble does

    def __init__(self) -> None:
        host = f"guard.{own_namespace()}.svc"
        self.authority, certificate, key = certificates.own(host, Path("/nowhere"))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with os.fdopen(os.memfd_create("certificate"), "wb") as both:  # there is no file system to write to
            both.write(certificate + key)
            both.flush()
            self.context.load_cert_chain(f"/proc/self/fd/{both.fileno()}")
        super().__init__(("", PORT), Reviews)

    def finish_request(self, request: Any, client_address: Any) -> None:
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)


def show(authority: bytes) -> None:
    """Nothing else of the configuration is changed, whoever changes it."""
    wanted = {"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": b64encode(authority).decode()}
    while True:
        try:
            ask("PATCH", PLACE, [wanted], "application/json-patch+json")
        except (RefusedError, OSError) as error:
            print(f"not known yet: {error}", flush=True)
            time.sleep(0.5)
        else:
            return


if __name__ == "__main__":
    guard = Guard()
    show(guard.authority)
    guard.serve_forever()
