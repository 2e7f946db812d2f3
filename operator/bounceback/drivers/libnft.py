"""libnftables(3) in this process, so that this process owns the tables that it makes."""

from __future__ import annotations

import ctypes
import functools

from bounceback.drivers import KernelError
from bounceback.drivers.netlink import NETLINK_NETFILTER, Netlink
from bounceback.drivers.netns import Netns


class Nft:
    """One socket to nf_tables in one network namespace: when it closes, the kernel removes the tables that it owns."""

    def __init__(self, netns: Netns) -> None:
        # libnftables ends the process where the kernel has no nf_tables at all, so ask before.
        Netlink(netns, NETLINK_NETFILTER).close()
        self._library = _library()
        with netns.entered():
            self._context = self._library.nft_ctx_new(0)
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def run(self, rules: str) -> None:
        """One transaction: all of it or nothing. Raises KernelError with nft's own words."""
        failed = self._library.nft_run_cmd_from_buffer(self._context, rules.encode())
        self._library.nft_ctx_get_output_buffer(self._context)  # emptied by being read
        message = self._library.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
        if failed:
            raise KernelError(f"nft: {_first_line(message)}")

    def can(self, rules: str) -> bool:
        """The kernel would accept this; it is asked and then told to forget it."""
        self._library.nft_ctx_set_dry_run(self._context, True)
        try:
            self.run(rules)
        except KernelError:
            return False
        else:
            return True
        finally:
            self._library.nft_ctx_set_dry_run(self._context, False)

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None


def _first_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return next((line for line in lines if "Error:" in line), lines[0] if lines else "failed without a message")


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise KernelError(f"libnftables is not there: {error}") from error
    context = ctypes.c_void_p
    library.nft_ctx_new.restype = context
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [context]
    library.nft_ctx_set_dry_run.argtypes = [context, ctypes.c_bool]
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    for name in ("output", "error"):
        getattr(library, f"nft_ctx_buffer_{name}").argtypes = [context]
        read = getattr(library, f"nft_ctx_get_{name}_buffer")
        read.argtypes, read.restype = [context], ctypes.c_char_p
    return library
