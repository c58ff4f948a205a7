# SPDX-License-Identifier: Apache-2.0
"""Replace addresses by labels, the same label for the same address.

A reader still sees which addresses are the same, but not whose they are.
"""

import ipaddress
import re
from collections.abc import Iterable

# Whatever may be, or contain, an IPv6 address; one in 32 hexadecimal digits, as nft and OpenFlow write it; IPv4.
_CANDIDATE = re.compile(
    r"(?P<v6>(?:(?<!\w)[0-9A-Fa-f]+)?(?::[0-9A-Fa-f]*){2,}(?:(?:\.\d{1,3}){3})?)"
    r"|\b0x(?P<hex>[0-9A-Fa-f]{32})\b"
    r"|(?<![\w.])(?P<v4>(?:\d{1,3}\.){3}\d{1,3})(?![\w]|\.\d)"
)

Address = ipaddress.IPv6Address | ipaddress.IPv4Address


class Pseudonyms:
    """Assign labels to addresses, which replace all addresses except the kept ones."""

    def __init__(self) -> None:
        self._kept: set[Address] = set()
        self._labels: dict[Address, str] = {}
        self._counts: dict[str, int] = {}

    def keep(self, texts: Iterable[str]) -> None:
        """Leave these addresses, and the first ones of these prefixes, as they are."""
        for text in texts:
            address = _parsed(text.partition("/")[0])
            if address is not None:
                self._kept.add(address)

    def label(self, text: str, kind: str) -> str:
        """Return the label of an address, made of `kind` and a number if it is new."""
        address = _parsed(text.partition("/")[0])
        if address is None:
            return text
        if address not in self._labels:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._labels[address] = f"{kind}-{self._counts[kind]}"
        return self._labels[address]

    def applied(self, text: str) -> str:
        """Return a text with all addresses replaced except the kept ones."""
        return _CANDIDATE.sub(self._replaced, text)

    def _replaced(self, match: re.Match[str]) -> str:
        if match["hex"]:
            whole = ":".join(match["hex"][i : i + 4] for i in range(0, 32, 4))
            return match[0] if self._is_kept(whole) else self.label(whole, "address")
        if match["v4"]:
            return match[0] if self._is_kept(match[0]) else self.label(match[0], "address")
        return self._in_run(match[0])

    def _in_run(self, run: str) -> str:
        """Replace the address in a run of hexadecimal digits and colons.

        A colon may precede it, as in `set_field:2001:db8::1`, or follow it.
        """
        groups = run.split(":")
        for length in range(len(groups), 2, -1):
            for start in range(len(groups) - length + 1):
                text = ":".join(groups[start : start + length])
                if _parsed(text) is None:
                    continue
                shown = text if self._is_kept(text) else self.label(text, "address")
                before, after = groups[:start], groups[start + length :]
                return ":".join([*before, shown, *after])
        return run

    def _is_kept(self, text: str) -> bool:
        address = _parsed(text)
        return address in self._kept or (
            address is not None and (address.is_loopback or address.is_unspecified or address.is_multicast)
        )


def _parsed(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
