# SPDX-License-Identifier: Apache-2.0
"""Read and change where an endpoint tunnels to: one route per binding, or one entry of a BPF map.

Routes (seg6) write IPv6 outer headers, the program (`hoaflow.tunnel.tunnel_program`) writes IPv4 ones.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from hoaflow.router.endpoint import KERNEL_SIDE, TOUT
from hoaflow.router.ovsdb import EndpointRecord
from hoaflow.tunnel.seg6 import Seg6Routes
from hoaflow.tunnel.tunnel_filter import TunnelMaps

SEG6, PROGRAM = "seg6", "bpf"


class Encapsulation(Protocol):
    """What leads packets for home addresses or prefixes into tunnels. Every call is idempotent. Raises TunnelError."""

    def installed(self) -> dict[str, str]:
        """Return {home address or prefix: care-of address}, read from the kernel."""

    def put_all(self, care_of_addresses: Mapping[str, str]) -> dict[str, str]:
        """Tunnel packets for these to their care-of addresses; returns {home address: reason} of those refused."""

    def remove_all(self, homes: Iterable[str]) -> dict[str, str]:
        """Tunnel no packets for these; returns {home address: reason} of those refused."""


class _Routes(Seg6Routes):
    def put_all(self, care_of_addresses: Mapping[str, str]) -> dict[str, str]:
        return self.encapsulate_all(care_of_addresses, via=KERNEL_SIDE, dev=TOUT)


def kind_of(record: EndpointRecord) -> str:
    """Return by what an endpoint encapsulates: SEG6 or PROGRAM."""
    return SEG6 if ":" in record.home_agent else PROGRAM


@contextlib.contextmanager
def encapsulation(record: EndpointRecord) -> Iterator[Encapsulation]:
    """Open what an endpoint encapsulates by. Raises TunnelError if it is missing."""
    if kind_of(record) == SEG6:
        with _Routes(record.namespace) as routes:
            yield routes
    else:
        with TunnelMaps(record.namespace, TOUT) as maps:
            yield maps
