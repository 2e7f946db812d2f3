"""Whom we take for the API server: who the authority of the day signed for, which a cluster may replace."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration

log = logging.getLogger(__name__)
Mark = tuple[int, int, int]


class Trust:
    """The TLS context of a configuration, made anew when the file with the authority is another one.

    A pod's is replaced by the kubelet. Who asks for each request goes on by a new connection with the new one, and
    whoever is taken out of the file is believed no more. A file that cannot be read leaves the one before, and is
    tried again by whoever asks next: what was against it may have passed.
    """

    def __init__(self, configuration: Configuration) -> None:
        """Raises OSError (ssl.SSLError is one) where no context can be made."""
        self._configuration = configuration
        self._seen = self._mark()
        self._told = self._seen  # of which a warning was given
        self._context = self._made()

    def context(self) -> ssl.SSLContext:
        if (found := self._mark()) not in (None, self._seen):
            try:
                self._context = self._made()
            except (OSError, ValueError) as error:
                if found != self._told:
                    log.warning("the cluster's authority in %s: %s; the one before stays", self._file, error)
                self._told = found
            else:
                self._seen = found
        return self._context

    @property
    def _file(self) -> str | None:
        return self._configuration.ssl_ca_cert or None

    def _mark(self) -> Mark | None:
        if self._file is None:
            return None
        try:
            found = Path(self._file).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _made(self) -> ssl.SSLContext:
        """From files, data or the cluster's bundle, with the client's certificate where it has one."""
        from kubernetes.aio.client import ApiClient  # as late as in Kube.connected

        context: ssl.SSLContext = ApiClient(self._configuration).rest_client.ssl_context
        return context
