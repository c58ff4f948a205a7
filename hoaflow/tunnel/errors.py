# SPDX-License-Identifier: Apache-2.0
"""The errors of tunnels and of the kernel around them.

TunnelError
├── BpfError: the kernel refused a BPF program or map (hoaflow.tunnel.bpf)
├── LinkError: the kernel refused a link, an address, a neighbour or a setting (hoaflow.tunnel.links)
│   └── MissingInterface: an interface that something belongs to is missing
├── MissingParent: a namespace or an interface is missing that was to be read (hoaflow.tunnel.actual_state)
├── NamespaceError: a network namespace does not exist or cannot be entered (hoaflow.tunnel.namespace)
├── NftError: libnftables is missing, or nftables refused something
├── Seg6Error: the kernel refused a seg6 route or setting (hoaflow.tunnel.seg6)
├── TcError: the kernel refused a filter or a qdisc (hoaflow.tunnel.tc)
└── Unmendable: something is not as declared and could not be made so (hoaflow.tunnel.declaration)
"""

from hoaflow.errors import HoaflowError


class TunnelError(HoaflowError):
    """Something failed in the kernel; the message says what was expected, what came, and what to do."""


class NftError(TunnelError):
    """nftables refused something, or libnftables is missing. The ruleset is unchanged, as nftables is transactional."""
