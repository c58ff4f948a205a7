# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with tunnels and with the kernel around them.

TunnelError
├── LinkError: the kernel refused a link, address, route, rule or setting, or an interface is missing
(hoaflow.tunnel.links) ├── NamespaceError: a network namespace does not exist or cannot be entered
(hoaflow.tunnel.namespace) ├── NftError: libnftables is missing, or nftables refused something └── Seg6Error: the kernel
refused a seg6 route or setting (hoaflow.tunnel.seg6)
"""

from hoaflow.errors import HoaflowError


class TunnelError(HoaflowError):
    """The message says what was expected, what came, and what to do."""


class NftError(TunnelError):
    """nftables refused something, or libnftables is missing. The ruleset is as it was: nftables is transactional."""
