# SPDX-License-Identifier: Apache-2.0
"""Load nftables rulesets inside a network namespace with libnftables, the library of nft(8).

`hoaflow.tunnel.nfnetlink` reads what is there.
"""

import contextlib
import ctypes
import functools
import os
import re
import threading
from collections.abc import Iterator

from hoaflow.tunnel.errors import NftError as NftError
from hoaflow.tunnel.namespace import Namespace, in_namespace
from hoaflow.tunnel.nfnetlink import DORMANT, OWNER, Contents, NftSocket
from hoaflow.tunnel.rtnetlink import interface_index

# libnftables shares caches among its contexts: one thread at a time.
_lock = threading.Lock()
_meaning_lock = threading.Lock()


def tables(namespace: Namespace) -> set[tuple[str, str]]:
    """Return (family, name) of every table in the namespace."""
    with NftSocket(namespace) as opened:
        return opened.tables()


def meaning(namespace: Namespace, family: str, table: str, ruleset: str, terse: bool) -> Contents:
    """Return what a ruleset's table says once it is loaded, learned once per ruleset. Raises NftError.

    A copy is loaded under another name and dormant (nft(8)), so that no packet meets it: a namespace of its own would
    need more than CAP_NET_ADMIN, which is all that a home agent has in its unit or container. The copy is owned by the
    socket that loaded it, so the kernel removes it with the socket, even if this process is killed.
    """
    # The kernel knows interfaces that packets are sent out of by their indices: made anew, one has another.
    indices = tuple(interface_index(namespace, name) for name in re.findall(r'device "([^"]+)"', ruleset))
    with _meaning_lock:  # two threads' copies would have one name
        return _meaning(namespace, family, table, ruleset, terse, indices)


@functools.cache
def _meaning(
    namespace: Namespace, family: str, table: str, ruleset: str, terse: bool, _indices: tuple[int | None, ...]
) -> Contents:
    copy = f"{table}_copy_{os.getpid()}"
    copied = re.sub(rf"\b{family} {re.escape(table)}(?=\s)", f"{family} {copy}", ruleset)
    # nft 1.0.6 takes one flag a statement.
    owned = copied.replace(f"table {family} {copy} {{", f"table {family} {copy} {{ flags dormant; flags owner;")
    with _loaded(namespace, owned), NftSocket(namespace) as opened:
        contents = opened.table(family, copy, terse)
    if contents is None:
        raise NftError(f"nftables table {family} {table} was taken away while it was looked at")
    return contents._replace(flags=contents.flags & ~(DORMANT | OWNER))


def load(namespace: Namespace, ruleset: str) -> None:
    """Apply a ruleset in nft's own language, as one transaction. Raises NftError, NamespaceError."""
    with _loaded(namespace, ruleset):
        pass


@contextlib.contextmanager
def _loaded(namespace: Namespace, ruleset: str) -> Iterator[None]:
    """Apply a ruleset for the duration of this context: at its end, tables with the flag `owner` go."""
    library = _library()
    context = None

    def run() -> tuple[int, str]:
        nonlocal context
        # A context belongs to the namespace in which it was made.
        context = library.nft_ctx_new(0)
        if not context:
            raise NftError("libnftables has no memory for another context")
        library.nft_ctx_buffer_error(context)
        status = library.nft_run_cmd_from_buffer(context, ruleset.encode())
        return status, library.nft_ctx_get_error_buffer(context).decode()

    with _lock:
        try:
            status, errors = in_namespace(namespace, run)
            if status != 0:
                reason = " ".join(errors.split()) or f"status {status}"
                raise NftError(f"nftables in namespace {namespace or 'current'}: {reason[:500]}")
            yield
        finally:
            if context:
                library.nft_ctx_free(context)


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise NftError("libnftables was not found: install Debian's package nftables") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    for function in ("free", "buffer_error", "get_error_buffer"):
        getattr(library, f"nft_ctx_{function}").argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    return library
