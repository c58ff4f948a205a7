# SPDX-License-Identifier: Apache-2.0
"""Keep subscribers' addresses out of logs.

A home address says who somebody is and a care-of address where; a log of both, where somebody was and when. Each is
replaced by a short keyed hash, so that lines on the same address can still be found together. Every address anywhere in
a line counts as a subscriber's, in free text too, except in fields that name a part of the network.
"""

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from hashlib import blake2s
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton

from hoaflow.errors import HoaflowError

# Fields with addresses of the operator's own network, which say nothing of a subscriber.
PUBLIC = frozenset(
    {"time", "level", "event", "home_agent", "home_agents", "home_prefix", "home_prefixes", "controller", "rest", "url"}
    | {"console", "metrics", "openflow", "peer", "client"}
)
# Addresses that are nobody's: this host, and none.
NOBODY = frozenset(ipaddress.ip_address(text).packed for text in ("::1", "::", "127.0.0.1", "0.0.0.0"))
KEY_SIZE = 32  # bytes, the longest that BLAKE2s takes
HASH_SIZE = 5  # bytes: at 100,000 addresses, two that are confused would be a rare accident

# What may be an address: one hexadecimal number, as nftables has it; IPv6; IPv4.
_CANDIDATE = re.compile(
    r"0x[0-9a-f]{32}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,8}(?:(?:\.\d{1,3}){3})?|\d{1,3}(?:\.\d{1,3}){3}",
    re.IGNORECASE | re.ASCII,
)


class KeyUnreadable(HoaflowError):
    """The file with the key is unusable; the message says why."""


class AddressHider:
    """Replace addresses by `#` and ten hexadecimal digits, the same for the same address and key."""

    def __init__(self, key: bytes | None = None, allowed: bool = False, public: Iterable[str] = ()) -> None:
        """Share `key` among parts whose lines shall match; by default it is random.

        `allowed`: show addresses as they are. `public`: texts with addresses of the operator's own, which may be shown
        anywhere.
        """
        self._key = blake2s(key).digest() if key is not None else os.urandom(KEY_SIZE)
        self._allowed = allowed
        self._public = {_packed(found) for text in public for found in _CANDIDATE.findall(text)} - {None}

    def hidden(self, fields: Mapping[str, object]) -> Mapping[str, object]:
        """Return fields with subscribers' addresses replaced. Numbers, true, false and null keep their types."""
        if self._allowed:
            return fields
        return {
            name: value
            if name in PUBLIC or value is None or isinstance(value, int | float)
            else _CANDIDATE.sub(self._replacement, str(value))
            for name, value in fields.items()
        }

    def _replacement(self, found: re.Match[str]) -> str:
        text = found[0]
        packed = _packed(text)
        if packed in self._public or packed in NOBODY:
            return text
        if packed is not None:
            # A colon behind an address may belong to the text.
            return self._hash(packed) + (":" if text.endswith(":") and not text.endswith("::") else "")
        # None that can be read, but what else has so many colons? Times and MAC addresses have fewer.
        return self._hash(text.encode()) if "::" in text or text.count(":") > 6 else text

    def _hash(self, packed: bytes) -> str:
        return "#" + blake2s(packed, digest_size=HASH_SIZE, key=self._key).hexdigest()


def _packed(text: str) -> bytes | None:
    """Return the packed address of a candidate, None if it is none."""
    if text[:2].lower() == "0x":
        return bytes.fromhex(text[2:])
    for candidate in (text, text.rstrip(":"), text.lstrip(":")):
        try:
            return inet_pton(AF_INET6 if ":" in candidate else AF_INET, candidate)
        except (OSError, ValueError):
            continue
    return None


def read_key(path: Path) -> bytes:
    """Return the key in a file. Raises KeyUnreadable, also for less than 16 bytes, which could be guessed."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise KeyUnreadable(f"{path}: {error.strerror}") from None
    if len(key) < 16:
        raise KeyUnreadable(f"{path}: expected a secret of at least 16 bytes, got {len(key)}")
    return key
