# SPDX-License-Identifier: Apache-2.0
"""A cluster in one process: each member has an API of its own over a core of its own, and calls the others'."""

import time
from collections.abc import Callable

import eventlet

from controller.cluster.peers import PeerAnswer, PeerCall, PeerFailed, Peers
from controller.cluster.view import Etcd, Member, RouterMaster, View
from controller.core.tunnels import FlowTunnelNames
from controller.rest.members import Members
from hoaflow.addresses import parse_address
from hoaflow.client.access import Access
from hoaflow.scope import ADDRESSEE, THIS_MEMBER
from tests.support.rest_api import HOME_AGENT, SETTINGS, Api

FLOW = FlowTunnelNames(
    "tx", "rx", parse_address("fdb1:b792:6c09::41"), "02:00:00:00:00:0a", "02:00:00:00:00:0b", 1440, None
)
PORTS = {"tx": 10, "rx": 11}


class PlayedCluster:
    """Members by name, who is master of which router, and who does not answer."""

    def __init__(self, *names: str) -> None:
        self.masters: dict[int, str | None] = {}
        self.silent: set[str] = set()
        self.stopped: dict[str, Callable[[], None]] = {}  # members that don't answer, and what happens meanwhile
        self.misdirected: dict[str, str] = {}  # members at whose URL another one answers
        self.newer: set[str] = set()  # those whose answers nobody else understands
        self.calls: list[tuple[str, str, str]] = []  # passed on: to whom, method, target
        self.apis = {name: Api(Members(_Word(self, name), _Direct(self), SETTINGS.request_timeout)) for name in names}

    def view(self, member: str) -> View:
        """Return the cluster as a member knows it."""
        members = {name: Member(name, f"http://{name}:8080", 0.0, "0") for name in self.apis}
        routers = {dpid: RouterMaster(master, 1, 0.0, "played") for dpid, master in self.masters.items()}
        return View("played", member, members, routers, Etcd(True, 0.0))

    def announce(self) -> None:
        """Announce the home agent to each member, and take an empty snapshot."""
        for api in self.apis.values():
            assert api.announce().status_code == 200
            path = f"/v1/home-agents/{HOME_AGENT}/bindings"
            assert api.call("PUT", path, {"bindings": []}).status_code == 200

    def add_router(self, dpid: int, master: str) -> None:
        """Connect a router, whose switch carries out all that its master asks for and whose agent tells everybody."""
        self.masters[dpid] = master
        for name, api in self.apis.items():
            now = time.monotonic()
            api.offload.acknowledge(dpid, 0, {}, {16: FLOW}, {}, now)
            if name == master:
                api.offload.switches.begin_reading(dpid, now)
                api.offload.switches.connect(dpid, PORTS, now)
            else:
                api.offload.connections.stand_by(dpid, PORTS, None, now)
                api.offload.connections.mastered_by(dpid, master)

    def settle(self) -> None:
        """Have the switches confirm all that is due."""
        for dpid, master in self.masters.items():
            assert master is not None
            offload = self.apis[master].offload
            router, now = offload.router(dpid), time.monotonic()
            for urgent in (True, False) * 20:
                take = router.flows.next_urgent_batch if urgent else router.flows.next_batch
                batch = take(now, 500)
                if batch is not None:
                    offload.switches.confirm(router, batch, now)


class _Word:
    """What one member knows of the cluster."""

    def __init__(self, cluster: PlayedCluster, member: str) -> None:
        self._cluster = cluster
        self._member = member
        self.drains: dict[int, bool] = {}

    def view(self) -> View:
        return self._cluster.view(self._member)

    def master_and_generation(self, dpid: int) -> tuple[bool, int]:
        return self._cluster.masters.get(dpid) == self._member, 1

    def record_drain(self, dpid: int, draining: bool) -> None:
        self.drains[dpid] = draining


class _Direct(Peers):
    """Call the other members' APIs without a network."""

    def __init__(self, cluster: PlayedCluster) -> None:
        super().__init__(Access())
        self._cluster = cluster

    def _call(self, member: Member, call: PeerCall) -> PeerAnswer:
        self._cluster.calls.append((member.name, call.method, call.target))
        if member.name in self._cluster.silent:
            raise PeerFailed(member.name, "no answer within 5 s")
        if (meanwhile := self._cluster.stopped.get(member.name)) is not None:
            meanwhile()
            eventlet.sleep(call.seconds)
            raise PeerFailed(member.name, f"no answer within {call.seconds:g} s")
        api = self._cluster.apis[self._cluster.misdirected.get(member.name, member.name)]
        if member.name in self._cluster.newer:
            return PeerAnswer(member.name, 200, "application/json", b"{}")
        headers = {**THIS_MEMBER, ADDRESSEE: member.name}
        found = api.call(call.method, call.target, raw=call.body, headers=headers)
        return PeerAnswer(member.name, found.status_code, found.content_type or "", found.data)
