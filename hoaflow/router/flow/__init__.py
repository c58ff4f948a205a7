# SPDX-License-Identifier: Apache-2.0
"""The `flow` backend: OpenFlow sets the tunnel, the kernel's ip6_tunnel or ipip writes and removes the header.

Two flow-based Geneve ports of the bridge lend OpenFlow their tunnel key; tc diverts their system devices into one
collect-metadata ip6tnl device and back, so that no Geneve packet is ever sent::

    OVS ──transmit port (genev_sys_6941) ══tc egress══► hoaflow6 ──► kernel's routing ──► care-of address
    OVS ◄──receive port (genev_sys_6943) ◄══tc ingress══ hoaflow6 ◄── decapsulation address ◄── bridge's interface

All is in Open vSwitch's own network namespace: its kernel is the router, and the bridge's own interface (LOCAL) is
where packets pass from the one to the other. One per bridge, for all home agents; the kernel has one such ip6tnl
device per namespace, so one per host.

IPv4 outer headers have two ports and devices of their own. ipip takes only outer sources that are addresses of the
namespace in which its device was made, and the home agents' addresses must not be the router's. So the device that
encapsulates is made in a namespace to which every address is its own, and then moved: its outer packets are routed
there, and come to the router's kernel by a link. Another one, made in the router's own namespace, decapsulates, so that
the mark of a packet lasts (`controller.core.pipeline`)::

    OVS ──transmit port (genev_sys_6942) ══tc egress══► hoaflow4s ──► namespace ──hfk-…──► kernel's routing
    OVS ◄──receive port (genev_sys_6944) ◄══tc ingress══ hoaflow4 ◄── 192.0.0.8 ◄── bridge's interface
"""
