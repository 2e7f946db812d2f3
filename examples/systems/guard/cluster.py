"""The API server, asked as the pod's own account by plain HTTP: no library tries again unseen."""

import http.client
import json
import os
import ssl
from pathlib import Path
from typing import Any

Json = dict[str, Any]
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ANSWER_SECONDS = 5.0


class RefusedError(Exception):
    """What the API server answered."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:300]}")
        self.status = status


def own_namespace() -> str:
    return (ACCOUNT / "namespace").read_text()


def ask(method: str, path: str, body: object = None, kind: str = "application/json") -> Json:
    """Raises RefusedError, and OSError without an answer: what was asked may have been done."""
    tls = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    host = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    connection = http.client.HTTPSConnection(host, timeout=ANSWER_SECONDS, context=tls)
    token = (ACCOUNT / "token").read_text()  # it is renewed now and then
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind, "Connection": "close"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        text = response.read().decode()
    except http.client.HTTPException as error:
        raise OSError(f"no answer: {error}") from error
    finally:
        connection.close()
    if response.status >= 400:
        raise RefusedError(response.status, text)
    answer: Json = json.loads(text)
    return answer
