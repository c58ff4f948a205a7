# SPDX-License-Identifier: Apache-2.0
r"""A network with two pods for one home agent address, in namespaces, and etcd in the namespace of the test, over TLS.

    cn --- rt === home link (bridge br0: pods ha and hb, each by its hl)
          |  \
         m1   m2

etcd reaches each pod over a link of its own, so a pod can be cut off from it, from the home link, or from both.
"""

import subprocess
from pathlib import Path
from typing import ClassVar

from hoaflow.etcd import EtcdAccess
from tests.support.etcd import CLIENT_PORT, Etcd
from tests.support.mobility import CN, HOME_ADDRESS, HOME_AGENT, HOME_PREFIX, Lab, Node
from tests.support.pki import Authority
from topologies.waiting import patient

GATEWAY = "2001:db8:99::fe"
PODS = {"ha": "2001:db8:99::11", "hb": "2001:db8:99::12"}
SIDES = {"ha": 1, "hb": 2}  # the third octet of the network between etcd and a pod
LEASE = 8
"""Seconds: longer than the default, as this machine may leave a process alone for a while."""


class PodLab(Lab):
    """The namespaces and etcd; a context manager that leaves nothing, also after failure."""

    names: ClassVar[tuple[str, ...]] = ("cn", "rt", "mn", *PODS)

    def __init__(self, directory: Path, lease: int = LEASE) -> None:
        """Describe it. `lease`: seconds of an owner's."""
        super().__init__()
        self._lease = lease
        authority = Authority(directory.with_name("pki"))
        server = authority.etcd("etcd", "127.0.0.1", *(f"10.99.{side}.1" for side in SIDES.values()))
        own = authority.client("pods")
        self.access = EtcdAccess(authority.certificate, own.certificate, own.key)
        options = [f"--listen-client-urls=https://0.0.0.0:{CLIENT_PORT}", "--client-cert-auth"]
        options += [f"--cert-file={server.certificate}", f"--key-file={server.key}"]
        options += [f"--trusted-ca-file={authority.certificate}"]
        self.etcd = Etcd(directory, members=1, options=options, scheme="https")

    def pod(self, name: str, *arguments: str) -> Node:
        """Start a pod, and wait until it has read the cache."""
        own = ["--home-agent", HOME_AGENT, "--home-prefix", HOME_PREFIX, "--home-link", "hl", "--pod", name]
        own += ["--cache", f"etcds://10.99.{SIDES[name]}.1:{CLIENT_PORT}/lab", "--cache-lease", str(self._lease)]
        own += ["--etcd-ca", str(self.access.ca), "--etcd-certificate", str(self.access.certificate)]
        own += ["--etcd-key", str(self.access.key)]
        own += ["--console", f"[{HOME_AGENT}]:7777", "--log-level", "debug", "--log-addresses"]
        node = self._run_module(name, "hoaflow.home_agent", [*own, *arguments])
        node.logged("event=standing-by")
        return node

    def answers(self, pod: str) -> bool:
        """Tell whether the router resolves both the home agent's address and the mobile node's to this pod alone."""
        mac = self.run(pod, "cat /sys/class/net/hl/address").strip()
        known = [self.run("rt", f"ip -6 neigh show {address} dev br0") for address in (HOME_AGENT, HOME_ADDRESS)]
        return all(f"lladdr {mac} " in line for line in known)

    def cut_off(self, name: str, *interfaces: str) -> None:
        """Take a pod's links down."""
        for interface in interfaces:
            self.run(name, f"ip link set {interface} down")

    def stop(self) -> None:
        """Kill all programs, delete the links and the namespaces, end etcd."""
        # The kernel deletes a namespace's links some time after the namespace: the next lab may find them there.
        for side in SIDES.values():
            subprocess.run(["ip", "link", "del", f"etcd{side}"], capture_output=True, timeout=patient(30), check=False)
        super().stop()
        self.etcd.stop()

    def _start(self) -> None:
        for name in self.names:
            self._ip(f"netns add {self.namespace(name)}")
            self.run(name, "ip link set lo up")
        self.run("rt", "sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.forwarding=1")
        self.run("rt", "ip link add br0 type bridge mcast_snooping 0")
        self._veth("cn", "c0", "rt", "r0")
        self._veth("mn", "m1", "rt", "r1")
        self._veth("mn", "m2", "rt", "r2")
        self._veth("mn", "m0", "rt", "h0")
        self.run("rt", "ip link set h0 master br0")
        for name, side in SIDES.items():
            self._veth(name, "hl", "rt", f"h{side}")
            self.run("rt", f"ip link set h{side} master br0")
            self._ip(f"link add etcd{side} type veth peer name e0 netns {self.namespace(name)}")
            self._ip(f"address add 10.99.{side}.1/24 dev etcd{side}")
            self._ip(f"link set etcd{side} up")
            self.run(name, f"ip address add 10.99.{side}.2/24 dev e0")
            self.run(name, "ip link set e0 up")
        self.run("rt", "ip link set br0 up")
        for name, interface, address in (
            ("cn", "c0", CN),
            ("rt", "r0", "2001:db8:1::1"),
            ("rt", "r1", "2001:db8:2::1"),
            ("rt", "r2", "2001:db8:3::1"),
            ("rt", "br0", GATEWAY),
            *((name, "hl", address) for name, address in PODS.items()),
        ):
            self.run(name, f"ip address add {address}/64 dev {interface} nodad")
        self.run("cn", "ip -6 route add default via 2001:db8:1::1")
        for name in PODS:
            self.run(name, f"ip -6 route add default via {GATEWAY}")
        self.etcd.__enter__()
