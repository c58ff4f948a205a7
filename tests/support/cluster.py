# SPDX-License-Identifier: Apache-2.0
"""A real cluster: etcd, controllers, and switches that are connected to all of them; bridge and agents are played."""

import contextlib
import itertools
import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hoaflow.scope import THIS_MEMBER
from tests.support.bench import CN, HOME_AGENT, HOME_PREFIX, MAC, binding, packet
from tests.support.checkout import CHECKOUT
from tests.support.controller import OPENFLOW_PORT, Controller
from tests.support.etcd import Etcd
from tests.support.ovs import Ovs
from tests.support.played_cluster import connect
from tests.support.waiting import wait_for

FAKETIME = CHECKOUT / "build/faketime/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
LEASE = 10  # seconds, as bridges have it by default
RENEWED_EVERY = 1.0  # seconds
FIRST_UDP_PORT = 6900
FLOW = {"decapsulation_address": "2001:db8:d::1", "decapsulation_mac": MAC, "router_mac": MAC}


class Member(Controller):
    """One controller of a cluster, `c1` and so on, with OpenFlow and REST at 127.0.0.`number`."""

    def __init__(
        self,
        ovs: Ovs,
        directory: Path,
        number: int,
        endpoints: Iterable[str],
        settings: str = "",
        own_clock: bool = False,
    ) -> None:
        """Describe a member; with `own_clock`, what it takes for the time of day can be set."""
        self.name, self.address = f"c{number}", f"127.0.0.{number}"
        self._paused = False
        directory = directory / self.name
        directory.mkdir()
        own = f"etcd = {','.join(endpoints)}\nmember = {self.name}\nmember_url = http://{self.address}:8080\n{settings}"
        self._clock = directory / "clock"
        clock = [
            f"LD_PRELOAD={FAKETIME}",
            f"FAKETIME_TIMESTAMP_FILE={self._clock}",
            *("FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_CACHE_DURATION=1"),
        ]
        self.set_clock(0)
        options = ["--ofp-listen-host", self.address]
        super().__init__(ovs, directory, own, self.address, options, environment=clock if own_clock else ())

    @property
    def openflow(self) -> str:
        """Where switches reach it."""
        return f"{self.address}:{OPENFLOW_PORT}"

    @property
    def reaches_etcd(self) -> bool:
        """Whether etcd answers, by its word."""
        return bool(self.get("/v1/cluster")["etcd"]["reachable"])

    @property
    def answers(self) -> bool:
        """Whether its process runs, and is not paused."""
        return self._process is not None and not self._paused

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it; by default with -9."""
        self._paused = False
        super().kill(number)

    def pause(self) -> None:
        """Stop it where it is (SIGSTOP)."""
        self._paused = True
        os.kill(self.pid, signal.SIGSTOP)

    def set_clock(self, hours: int) -> None:
        """Have its clock jump, within a second, so that it is this far ahead, or with a negative number behind."""
        self._clock.write_text(f"{hours:+d}h")

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def say_url(self, url: str) -> None:
        """Have another `member_url` from the next start on."""
        settings = self._config.read_text()
        self._config.write_text(settings.replace(f"member_url = {self.url}\n", f"member_url = {url}\n"))

    def join(self, endpoints: Iterable[str]) -> None:
        """Have it be of the cluster of this etcd from the next start on; without endpoints, be alone."""
        settings = re.sub("^etcd = .*$", f"etcd = {','.join(endpoints)}", self._config.read_text(), flags=re.MULTILINE)
        self._config.write_text(settings)

    def events(self, name: str) -> list[str]:
        """Return the log's lines of one event."""
        return [line for line in self.log.splitlines() if f"event={name} " in f"{line} "]


class Cluster:
    """Three controllers, an etcd of three members, and switches `br1` and so on. A context manager.

    As long as it runs, a thread for each member renews the home agent's lease and the agents' there while it answers:
    one that is paused in the middle of a call delays no other.
    """

    def __init__(
        self,
        ovs: Ovs,
        directory: Path,
        routers: int = 3,
        settings: str = "",
        one_alone: bool = False,
        endpoints: Sequence[str] = (),
    ) -> None:
        """Describe a cluster; with `one_alone`, the first controller begins without etcd and the others.

        `endpoints`: where members reach etcd, if not directly.
        """
        self.ovs = ovs
        self._one_alone = one_alone
        self._directory = directory
        self.etcd = Etcd(directory / "etcd", ovs=ovs)
        reached = endpoints or self.etcd.endpoints
        self.members = [Member(ovs, directory, number, reached, settings, True) for number in (1, 2, 3)]
        self.dpids = range(1, routers + 1)
        self._bindings: dict[str, dict[str, object]] = {}
        self._handovers = itertools.count(1)
        self.unreported: set[Member] = set()  # that the bridge does not reach
        self._parts = contextlib.ExitStack()
        self._ended = threading.Event()
        self._reporting = [threading.Thread(target=self._report, args=(each,), daemon=True) for each in self.members]

    def __enter__(self) -> "Cluster":
        with contextlib.ExitStack() as parts:
            for member in self.members:
                parts.callback(member.kill)
            parts.callback(self.etcd.stop)
            if self._one_alone:
                self.members[0].join([])
                self.members[0].start()
            else:
                self.etcd.__enter__()
                for member in self.members:
                    member.start()
            for dpid in self.dpids:
                self.ovs.add_bridge(f"br{dpid}", dpid)
                self.ovs.add_port(f"br{dpid}", f"cn{dpid}", CN)
                self._add_tunnel_ports(dpid)
            self.connect(*self._answering())
            for thread in self._reporting:
                thread.start()
            parts.callback(self._end_reporting)
            self._parts = parts.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._parts.close()

    def _add_tunnel_ports(self, dpid: int) -> None:
        for place, name in enumerate(("tx", "rx")):
            options = ["remote_ip=flow", "local_ip=flow", "key=0", f"dst_port={FIRST_UDP_PORT + 2 * dpid + place}"]
            self.ovs.vsctl(
                *["add-port", f"br{dpid}", f"{name}{dpid}", "--", "set", "interface", f"{name}{dpid}", "type=geneve"],
                *(f"options:{option}" for option in options),
            )

    def connect(self, *members: Member) -> None:
        """Connect all switches to these members, and to no others."""
        for dpid in self.dpids:
            connect(self.ovs, f"br{dpid}", *(member.openflow for member in members))

    def assert_logs_clean(self, *allow: str) -> None:
        """Fail when a member logged an error that no regular expression of `allow` expects."""
        for member in self.members:
            if member.log_file.exists():
                member.assert_log_clean(allow)

    # Bridge and agents.

    def post(self, *bindings: dict[str, object]) -> None:
        """Have the bridge report bindings to every member that runs; it sends what one has missed when that is back."""
        for each in bindings:
            self._bindings[str(each["home_address"])] = each
        for member in self._answering():
            with contextlib.suppress(OSError):
                member.call("POST", "/v1/bindings", {"bindings": list(bindings)}, headers=THIS_MEMBER)

    def hand_over(self) -> None:
        """Report a new care-of address, and wait until every router sends packets there."""
        number = next(self._handovers)
        care_of_address = f"2001:db8:2::{number:x}"
        self.post(binding(care_of_address, number))
        wait_for(
            f"packets go to {care_of_address}",
            lambda: all(self.is_direct(dpid, care_of_address) for dpid in self.dpids),
            60,
        )

    def post_unseen(self, member: Member, care_of_address: str) -> None:
        """Report a care-of address to a member that is paused, which takes it when it goes on; wait for no answer."""
        body = binding(care_of_address, next(self._handovers))

        def post() -> None:
            with contextlib.suppress(OSError):
                member.call("POST", "/v1/bindings", {"bindings": [body]}, headers=THIS_MEMBER)

        posting = threading.Thread(target=post, daemon=True)
        posting.start()
        self._parts.callback(posting.join)

    def _report(self, member: Member) -> None:
        while not self._ended.wait(RENEWED_EVERY):
            if member.answers and member not in self.unreported:
                with contextlib.suppress(OSError):  # it is paused, or has just ended
                    self._report_to(member)

    def _report_to(self, member: Member) -> None:
        home_agent = f"/v1/home-agents/{HOME_AGENT}"
        announcement = {"home_prefixes": [HOME_PREFIX], "lease": LEASE}
        announced = member.call("PUT", home_agent, announcement, headers=THIS_MEMBER)
        for dpid in self.dpids:
            flow = {**FLOW, "transmit_port": f"tx{dpid}", "receive_port": f"rx{dpid}"}
            path = f"/v1/routers/{dpid:016x}/tunnels/ack"
            member.call("PUT", path, {"revision": 0, "flow": flow}, headers=THIS_MEMBER)
        if announced.body["snapshot"] == "wanted":
            body = {"bindings": list(self._bindings.values())}
            member.call("PUT", f"{home_agent}/bindings", body, headers=THIS_MEMBER)

    def _end_reporting(self) -> None:
        self._ended.set()
        for thread in self._reporting:
            thread.join()

    def _answering(self) -> list[Member]:
        return [member for member in self.members if member.answers]

    # What is seen.

    def masters(self) -> dict[int, str]:
        """Return the members that have a router's gates open, by the members' own word."""
        found: dict[int, str] = {}
        for member in self._answering():
            with contextlib.suppress(OSError):
                for router in member.call("GET", "/v1/routers", headers=THIS_MEMBER).body["routers"]:
                    if router["gates"] and router["master"] is None:
                        found[int(router["dpid"], 16)] = member.name
        return found

    def all_mastered(self) -> dict[int, str] | None:
        """Return the routers' masters once each has one that has its gates open."""
        found = self.masters()
        return found if found.keys() == set(self.dpids) else None

    def spread(self) -> list[int]:
        """Return how many routers each member is master of, by the members' own word."""
        return sorted(Counter((self.all_mastered() or {}).values()).values())

    def watch_flows(self) -> None:
        """Write down from now on what becomes of each switch's flows (`closed_gates`, `has_had`)."""
        for dpid in self.dpids:
            with self._monitored(dpid).open("wb") as output:
                argv = ["ovs-ofctl", "-O", "OpenFlow13", "monitor", f"br{dpid}", "watch:"]
                process = subprocess.Popen(
                    self.ovs.command(*argv), stdout=output, stderr=output, env=self.ovs.environment
                )
            self._parts.callback(process.wait)
            self._parts.callback(process.kill)
        wait_for("all flows are shown", lambda: all(self._gate_lines(dpid) for dpid in self.dpids))

    def closed_gates(self) -> list[str]:
        """Return what the switches have said of gates that have closed since `watch_flows`."""
        return [line for dpid in self.dpids for line in self._gate_lines(dpid) if "event=DELETED" in line]

    def renewals(self, dpid: int) -> int:
        """Return how often a switch's gates have been opened or renewed since `watch_flows`."""
        return len(self._gate_lines(dpid))

    def outlive(self, leases: int) -> None:
        """Wait until each switch's gates, renewed all the time, have stood for so many of the bridge's leases."""
        before = {dpid: self.renewals(dpid) for dpid in self.dpids}
        enough = leases * LEASE / RENEWED_EVERY
        wait_for(
            "gates are renewed",
            lambda: all(self.renewals(dpid) > number + enough for dpid, number in before.items()),
            60,
        )

    def has_had(self, dpid: int, text: str) -> bool:
        """Tell whether a switch has had a flow with a text since `watch_flows`."""
        return text in self._monitored(dpid).read_text()

    def _gate_lines(self, dpid: int) -> list[str]:
        lines = self._monitored(dpid).read_text().splitlines()
        return [
            line
            for line in lines
            if "table=0 " in line and f"ipv6_dst={HOME_PREFIX} " in f"{line} " and "cookie" in line
        ]

    def _monitored(self, dpid: int) -> Path:
        return self._directory / f"br{dpid}.flows"

    def is_direct(self, dpid: int, care_of_address: str) -> bool:
        """Tell whether a router sends packets for the home address to a care-of address."""
        return f"set_field:{care_of_address}->tun_ipv6_dst" in self.ovs.trace(f"br{dpid}", packet())
