# SPDX-License-Identifier: Apache-2.0
"""Find out whether this kernel can run the `flow` backend, by trying each feature in a new network namespace.

Looking for modules would not do: they may be built in, not loaded yet, or blocked.
"""

import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink import genlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket

from hoaflow.linux import AF_INET, AF_INET6, CLONE_NEWNET
from hoaflow.router.errors import RouterError
from hoaflow.router.flow.diversion import Diversion, Ethernet, divert
from hoaflow.tunnel.tc import Hook

IP6TNL, IPIP = "ip6tnl", "ipip"  # kinds of tunnel devices
TUNNEL_MAC = "02:00:00:00:00:01"  # in Ethernet headers that are there for form's sake


class Feature(NamedTuple):
    """A feature of the kernel: the modules that provide it, and why it is missing (empty if it is not).

    `family`: that of the outer headers that alone need it, or None if both do.
    """

    what: str
    modules: str
    family: int | None
    problem: str

    @property
    def help(self) -> str:
        """What the operator can do if the feature is missing."""
        return (
            f"load it (`modprobe -a {self.modules}`); if the kernel has no such module, run a stock distribution "
            f"kernel, or take --backend route, which needs none of this"
        )


def features() -> list[Feature]:
    """Try all features that the `flow` backend needs. Raises RouterError without root."""
    tries = {
        ("Open vSwitch's kernel datapath", "openvswitch", None): _openvswitch,
        ("Geneve devices", "geneve", None): _geneve,
        ("collect-metadata ip6tnl devices", "ip6_tunnel", AF_INET6): lambda: _tunnel(IP6TNL),
        ("collect-metadata ipip devices", "ipip", AF_INET): lambda: _tunnel(IPIP),
        ("tc diversions", "sch_ingress cls_matchall act_mirred act_vlan", None): _diversions,
    }
    problems = _in_new_namespace(lambda: [_problem(action) for action in tries.values()])
    return [Feature(*facts, problem) for facts, problem in zip(tries, problems, strict=True)]


def add_tunnel(netlink: IPRoute, name: str, kind: str) -> None:
    """Add a collect-metadata device: IP6TNL for payloads of both families, IPIP for IPv4, the only one that it takes.

    It is what `ip link add` makes with `type ip6tnl external mode any` and `type ipip external`.
    """
    data = {"ip6tnl_proto": 0} if kind == IP6TNL else {}
    netlink.link("add", ifname=name, kind=kind, **{f"{kind}_collect_metadata": True}, **data)


def _openvswitch() -> None:
    with GenericNetlinkSocket() as netlink:
        netlink.bind("ovs_datapath", genlmsg)


def _geneve() -> None:
    with IPRoute() as netlink:
        try:
            netlink.link("add", ifname="probe", kind="geneve")
        except NetlinkError as error:
            # The kind is known, but needs an identifier.
            if error.code != errno.EINVAL:
                raise


def _tunnel(kind: str) -> None:
    with IPRoute() as netlink:
        add_tunnel(netlink, f"probe-{kind}", kind)


def _diversions() -> None:
    index = socket.if_nametoindex("lo")
    header = Ethernet(TUNNEL_MAC, TUNNEL_MAC)
    divert(Diversion(index, Hook.EGRESS, index, receive=False))
    divert(Diversion(index, Hook.INGRESS, index, receive=True, header=header))


def _problem(action: Callable[[], None]) -> str:
    """Return why the kernel refuses an action, empty if it does not."""
    try:
        action()
    except NetlinkError as error:
        return os.strerror(error.code)
    except (OSError, RouterError) as error:
        return str(error)
    return ""


def _in_new_namespace(function: Callable[[], list[str]]) -> list[str]:
    """Run `function` in a new network namespace and return its result. Raises RouterError without root."""
    results: list[list[str]] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "no network namespace to try the kernel in")
            results.append(function())
        except Exception as error:  # raised again by the caller's thread
            errors.append(error)

    if os.geteuid() != 0:
        raise RouterError("root is needed to try what the kernel can do")
    # A network namespace belongs to a thread: the namespace and everything in it end with the thread.
    thread = threading.Thread(target=run, name="kernel features")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
