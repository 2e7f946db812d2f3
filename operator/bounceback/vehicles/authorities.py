"""Secrets that hold an authority of TLS: read by the operator, in the account's name, when a fault is planned."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from bounceback.kube.client import Kube
from bounceback.kube.errors import KubeError
from bounceback.kube.resources import SECRETS
from bounceback.vehicles.access import way_out
from bounceback.vehicles.errors import FORBIDDEN, Refused

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"


async def read_pair(acting: Kube, namespace: str, account: str, name: str, field: str) -> tuple[bytes, bytes]:
    """The certificate and the key that a Secret of the type kubernetes.io/tls holds, as they are there.

    Raises Refused, said of `field`, where it is not there, may not be read or lacks one of them; KubeError.
    """
    try:
        secret = await acting.get(SECRETS, namespace, name)
    except KubeError as error:
        if error.gone:
            raise Refused(field, "SecretNotFound", f"there is no Secret {name} in {namespace}") from error
        if error.status == 403:
            way = way_out(namespace, account, name)
            message = f"service account {account} of namespace {namespace} must be allowed to get Secret {name}; {way}"
            raise Refused(field, FORBIDDEN, message) from error
        raise
    data = secret.get("data") or {}
    if lacking := [key for key in (CERTIFICATE, KEY) if not data.get(key)]:
        message = f"Secret {name} must hold {CERTIFICATE} and {KEY}, as the type kubernetes.io/tls does; it has no "
        raise Refused(field, "SecretInvalid", message + " and no ".join(lacking))
    try:
        return base64.b64decode(data[CERTIFICATE]), base64.b64decode(data[KEY])
    except binascii.Error as error:  # the API server does not take such a thing
        raise Refused(field, "SecretInvalid", f"Secret {name} must hold base64") from error
