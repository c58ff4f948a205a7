# SPDX-License-Identifier: Apache-2.0
"""Running nft(8) inside a network namespace."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tunnel.namespace import Namespace, in_namespace

TIMEOUT = 60.0  # seconds; 100,000 elements take about one


class NftError(Exception):
    """nft is missing, refused its input or did not answer in time. The ruleset is as it was: nft is
    transactional.
    """


def load(namespace: Namespace, ruleset: str) -> None:
    """Apply a ruleset in nft's own language, as one transaction."""
    _nft(namespace, ["-f", "-"], ruleset)


def apply(namespace: Namespace, commands: list[dict[str, Any]]) -> None:
    """Apply commands in nft's JSON (libnftables-json(5)), as one transaction."""
    _nft(namespace, ["-j", "-f", "-"], json.dumps({"nftables": commands}))


def listing(namespace: Namespace, *what: str) -> list[dict[str, Any]]:
    """`nft -j list WHAT`: the objects of the answer."""
    answer = json.loads(_nft(namespace, ["-j", "list", *what], None))
    return [entry for entry in answer["nftables"] if "metainfo" not in entry]


def tables(namespace: Namespace) -> set[tuple[str, str]]:
    """(family, name) of every table in the namespace."""
    return {(entry["table"]["family"], entry["table"]["name"]) for entry in listing(namespace, "tables")}


def _nft(namespace: Namespace, arguments: list[str], text: str | None) -> str:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nft", *arguments], input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )

    try:
        done = in_namespace(namespace, run)
    except FileNotFoundError as error:
        raise NftError("the program nft was not found: install Debian's package nftables") from error
    except subprocess.TimeoutExpired as error:
        raise NftError(f"nft did not answer within {TIMEOUT:g} s in namespace {namespace or 'current'}") from error
    if done.returncode != 0:
        reason = " ".join(done.stderr.split()) or f"ended with {done.returncode}"
        raise NftError(f"nft {' '.join(arguments)} in namespace {namespace or 'current'}: {reason[:500]}")
    return done.stdout
