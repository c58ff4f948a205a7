# SPDX-License-Identifier: Apache-2.0
"""The `flow` backend: OpenFlow sets the tunnel, the kernel's ip6_tunnel writes and removes the header.

Two flow-based Geneve ports of the bridge lend OpenFlow their tunnel key; tc diverts their system devices into one
collect-metadata ip6tnl device and back, so that no Geneve packet is ever sent::

    OVS ──transmit port (genev_sys_6941) ══tc egress══► hoaflow6 ──► kernel's routing ──► care-of address
    OVS ◄──receive port (genev_sys_6943) ◄══tc ingress══ hoaflow6 ◄── decapsulation address ◄── bridge's interface

All is in Open vSwitch's own network namespace: its kernel is the router, and the bridge's own interface (LOCAL) is
where packets pass from the one to the other. One per bridge, for all home agents; the kernel has one such ip6tnl
device per namespace, so one per host.
"""
