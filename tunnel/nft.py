# SPDX-License-Identifier: Apache-2.0
"""nftables inside a network namespace, through libnftables: what nft(8) itself is made of.

In this process, not as a program: a handover waits for it, and starting nft takes longer than all the rest.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import re
import threading
from typing import Any

from tunnel.errors import TunnelError
from tunnel.namespace import Namespace, in_namespace

# Contexts share what libnftables keeps of interfaces and the like: one thread at a time.
_lock = threading.Lock()

OUTPUT_JSON, OUTPUT_TERSE = 1 << 4, 1 << 11  # NFT_CTX_OUTPUT_*, libnftables(3)
# Of a listing, what tells when and how often, not what.
PASSING = {"handle", "packets", "bytes", "index"}


class NftError(TunnelError):
    """libnftables is missing, or it refused its input. The ruleset is as it was: nftables is transactional."""


def load(namespace: Namespace, ruleset: str) -> None:
    """Apply a ruleset in nft's own language, as one transaction."""
    _run(namespace, ruleset)


def apply(namespace: Namespace, commands: list[dict[str, Any]]) -> None:
    """Apply commands in nft's JSON (libnftables-json(5)), as one transaction."""
    _run(namespace, json.dumps({"nftables": commands}), OUTPUT_JSON)


def listing(namespace: Namespace, *what: str, terse: bool = False) -> list[dict[str, Any]]:
    """`nft -j list WHAT`: the objects of the answer; `terse`: without the elements of named sets."""
    answer = json.loads(_run(namespace, " ".join(["list", *what]), OUTPUT_JSON | terse * OUTPUT_TERSE))
    return [entry for entry in answer["nftables"] if "metainfo" not in entry]


def tables(namespace: Namespace) -> set[tuple[str, str]]:
    """(family, name) of every table in the namespace."""
    return {(entry["table"]["family"], entry["table"]["name"]) for entry in listing(namespace, "tables")}


def declared(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A listing without what passes (handles, counts): what a ruleset says."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(member) for key, member in value.items() if key not in PASSING}
        return [strip(member) for member in value] if isinstance(value, list) else value

    return [strip(entry) for entry in objects]


@functools.cache
def meaning(ruleset: str, family: str, table: str, terse: bool) -> list[dict[str, Any]]:
    """Return what a ruleset's table is listed as where it has just been loaded. Raises NftError.

    It is loaded under another name and dormant (nft(8)), so that no packet meets it: a namespace of its own would need
    more than CAP_NET_ADMIN, which is all that a home agent has in its unit or container.
    """
    copy = f"{table}_copy_{os.getpid()}"
    copied = re.sub(rf"\b{family} {table}(?=\s)", f"{family} {copy}", ruleset)
    load(None, copied.replace(f"table {family} {copy} {{", f"table {family} {copy} {{ flags dormant;"))
    try:
        objects = declared(listing(None, "table", family, copy, terse=terse))
    finally:
        load(None, f"delete table {family} {copy}")
    for ((kind, members),) in (entry.items() for entry in objects):
        members["name" if kind == "table" else "table"] = table
        if kind == "table":
            del members["flags"]
    return objects


def _run(namespace: Namespace, commands: str, output_flags: int = 0) -> str:
    """Run commands in the namespace and return what they print. Raises NftError, NamespaceError."""
    library = _library()

    def run() -> tuple[int, str, str]:
        # A context belongs to the namespace in which it was made.
        context = library.nft_ctx_new(0)
        if not context:
            raise NftError("libnftables has no memory for another context")
        try:
            library.nft_ctx_buffer_output(context)
            library.nft_ctx_buffer_error(context)
            library.nft_ctx_output_set_flags(context, output_flags)
            status = library.nft_run_cmd_from_buffer(context, commands.encode())
            output, errors = library.nft_ctx_get_output_buffer(context), library.nft_ctx_get_error_buffer(context)
            return status, output.decode(), errors.decode()
        finally:
            library.nft_ctx_free(context)

    with _lock:
        status, output, errors = in_namespace(namespace, run)
    if status != 0:
        reason = " ".join(errors.split()) or f"status {status}"
        raise NftError(f"nftables in namespace {namespace or 'current'}: {reason[:500]}")
    return output


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as error:
        raise NftError("libnftables was not found: install Debian's package nftables") from error
    library.nft_ctx_new.restype = ctypes.c_void_p
    for function in ("free", "buffer_output", "buffer_error", "get_output_buffer", "get_error_buffer"):
        getattr(library, f"nft_ctx_{function}").argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    return library
