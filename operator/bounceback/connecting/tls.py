"""TLS to a server, as `tls` of a probe or of a workload has it."""

from __future__ import annotations

import ssl
from typing import Any, Final

from bounceback.api.credentials import ServerTls

NO_TLS: Final = "the server has no TLS, which `tls` asks for"


class NamedContext(ssl.SSLContext):
    """Asks for a name of its own, whatever address or name the connection is made to."""

    server_name: str = ""

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return super().wrap_bio(*args, **{**options, "server_hostname": self.server_name})


def context_of(tls: ServerTls, host: str, trusted: str | None) -> ssl.SSLContext:
    """For connections to that host. `trusted` are certificates of authorities in PEM; None: the system's.

    Raises ValueError where they are none.
    """
    context = NamedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.server_name = tls.server_name or host
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif trusted is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=trusted.encode("ascii", "ignore").decode())  # names in comments
        except ssl.SSLError as error:
            raise ValueError(str(error)) from error
    return context


def mistrust(error: BaseException | None) -> str | None:
    """Why the server's certificate was not taken, where that is what the error comes from."""
    passed: list[BaseException] = []  # libraries raise errors from themselves
    while error is not None and error not in passed:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"certificate not trusted: {error.verify_message}"
        passed.append(error)
        error = error.__cause__ or error.__context__
    return None
