# SPDX-License-Identifier: Apache-2.0
"""Name the constants of Linux's headers that several modules need and Python's standard library lacks."""

import socket

# linux/socket.h, as plain numbers: what netlink messages hold.
AF_INET, AF_INET6 = int(socket.AF_INET), int(socket.AF_INET6)

# linux/if_ether.h
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD

# asm-generic/socket.h
SO_RCVBUFFORCE = 33

# linux/if_packet.h
SOL_PACKET = 263

# linux/in6.h, linux/icmpv6.h
IPV6_JOIN_ANYCAST, ICMPV6_FILTER = 27, 1

# linux/if.h, linux/if_tunnel.h
IFF_UP, IFF_RUNNING = 0x1, 0x40
IP6_TNL_F_IGN_ENCAP_LIMIT = 0x1

# linux/netlink.h
SOL_NETLINK, NETLINK_GET_STRICT_CHK = 270, 12
NETLINK_NETFILTER = 12
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLM_F_DUMP = 0x300

# linux/rtnetlink.h
RTMGRP_LINK = 0x1
RTM_GETLINK, RTM_GETADDR, RTM_GETNEIGH = 18, 22, 30
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 2, 4, 5, 6
RTA_METRICS, RTA_TABLE, RTA_VIA, RTA_ENCAP_TYPE, RTA_ENCAP = 8, 15, 18, 21, 22
RTAX_MTU = 2
RTN_UNICAST, RTN_LOCAL, RTN_ANYCAST = 1, 2, 4
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK, RT_SCOPE_HOST = 0, 253, 254
MAIN_TABLE, LOCAL_TABLE = 254, 255

# linux/if_addr.h, linux/neighbour.h, linux/lwtunnel.h
IFA_F_NODAD = 0x02
NDA_DST = 1
NUD_PERMANENT = 0x80
LWTUNNEL_ENCAP_SEG6, LWTUNNEL_ENCAP_SEG6_LOCAL = 5, 7

# linux/netfilter/nfnetlink.h
NFNLGRP_NFTABLES = 7

# linux/sched.h
CLONE_NEWNET = 0x40000000
