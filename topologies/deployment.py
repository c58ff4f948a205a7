# SPDX-License-Identifier: Apache-2.0
"""Deploy hoaflow and Mobile IPv6 on a testbed: start each program where it belongs, and do what an operator would.

Home agent and bridge run in node `ha`, the mobile node in `mn`, the tunnel agents on the routers, the controller in
the root namespace. The management network joins them.
"""

import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hoaflow.client.access import Access
from hoaflow.client.client import Northbound
from hoaflow.client.errors import Unreachable
from topologies import addresses as at
from topologies.ovs_router import BRIDGE
from topologies.processes import Process, ProcessError
from topologies.testbed import Testbed
from topologies.tokens import BRIDGE as BRIDGES
from topologies.tokens import OPERATOR, Tokens
from topologies.waiting import patient

REST_PORT = 8080
REST = f"http://{at.MANAGEMENT_ROOT}:{REST_PORT}"
# Seconds; where something ends early, nobody waits for its events.
REST_TIMEOUT = patient(20.0)
START_TIMEOUT = 120.0  # for several programs at once
EVENT_TIMEOUT = 60.0
# The security association between mobile node and home agent (RFC 4285); of this emulation only.
KEY = "686f61666c6f77206f6e6c7920696e2061206c61"

HOME = "home"


def keys_of(home_address: str) -> str:
    """Return the content of a key file for the mobile node."""
    return f'["{home_address}"]\nspi = 256\nkey = "{KEY}"\n'


class Backend(NamedTuple):
    """Record the backend that a router uses (flow or route), and the reason that `setup` gave."""

    name: str
    reason: str


class HomeAgentSite(NamedTuple):
    """Say where a home agent runs: its node, home link, address and home prefix, and its program's name here."""

    program: str
    node: str
    home_link: str
    home_agent: str
    home_prefix: str


class Deployment:
    """Start, stop and drive the programs of a testbed; each wait is bounded and raises ProcessError.

    The class attributes are what differs with the protocol: the anchor in words, as a program and as an address, where
    its prefixes and the mobile node are.
    """

    anchor_name: ClassVar[str] = "home agent"
    anchor_program: ClassVar[str] = "home-agent"
    anchor: ClassVar[str] = at.HOME_AGENT
    anchored_prefix: ClassVar[str] = at.HOME_PREFIX
    home: ClassVar[str] = at.HOME_ADDRESS
    """What the controller has a binding for."""
    home_address: ClassVar[str] = at.HOME_ADDRESS
    further_prefixes: ClassVar[tuple[str, ...]] = ()
    """Prefixes outside the anchored one that lead to the anchor, too: of mobile networks, of the other family."""
    correspondent: ClassVar[str] = at.CORRESPONDENT
    keys_file: ClassVar[str] = keys_of(at.HOME_ADDRESS)
    bridge_options: ClassVar[tuple[str, ...]] = ()
    unsent_is_lost: ClassVar[bool] = True
    """Whether what the mobile node can't send, as it has no link, is lost by whoever manages its mobility."""
    wrong_outer: ClassVar[str] = at.STRANGER
    """Outer source of a forged tunnel packet with the mobile node's inner source."""
    wrong_inner: ClassVar[str] = "2001:db8:99::200"
    """Inner source of a forged tunnel packet with the outer source of link 1."""
    other_clients: ClassVar[Mapping[str, str]] = {}
    """Further clients of the REST API, by name, and what each may do, as TOML."""

    def __init__(self, bed: Testbed, lifetime: int = 60, lease: int = 10, install: str = "everything") -> None:
        """Write keys and tokens; `lifetime` of bindings, `lease` of bridge and agents, both in seconds.

        `install`: which bindings' flows the routers have, as for `hoaflow-router run`.
        """
        self.bed = bed
        self.lifetime = lifetime
        self.lease = lease
        self.install = install
        self.routers = bed.topology.routers
        self.keys = bed.logs.parent / "keys.toml"
        self.keys.touch(mode=0o600)
        self.keys.write_text(self.keys_file)
        dpids = {router: bed.network[router].dpid for router in self.routers}
        self.anchored = (self.anchored_prefix, *self.further_prefixes)
        self.tokens = Tokens(bed.logs.parent, self.anchor, self.anchored, dpids, self.other_clients)
        self.client = Northbound(REST, Access(self.tokens.file(OPERATOR)))

    # Starting

    def start_anchor(self, journal: Path | None = None) -> Process:
        """Start `hoaflow-ha` and wait until it serves; bindings outlive it in the file JOURNAL."""
        where = HomeAgentSite(self.anchor_program, self.bed.topology.anchor, "ha-home", at.HOME_AGENT, at.HOME_PREFIX)
        return self.serving(self.launch_home_agent(where, self.keys, journal, *self.anchor_options()))

    def launch_home_agent(self, where: HomeAgentSite, keys: Path, journal: Path | None, *options: str) -> Process:
        """Start `hoaflow-ha` there, without waiting until it serves."""
        command = [sys.executable, "-m", "hoaflow.home_agent", "--home-agent", where.home_agent]
        command += ["--home-prefix", where.home_prefix, "--home-link", where.home_link, "--keys", str(keys)]
        command += ["--log-addresses", *options]
        command += [] if journal is None else ["--journal", str(journal)]
        return self.bed.start(where.program, command, node=where.node)

    def serving(self, home_agent: Process) -> Process:
        """Wait until a home agent serves, and return it."""
        home_agent.wait_for(r"event=started ", START_TIMEOUT)
        return home_agent

    def start_mobile_node(self) -> list[Process]:
        """Start what registers the mobile node, and wait until it can register."""
        command = [sys.executable, "-m", "topologies.mobile_node", "--home-address", at.HOME_ADDRESS]
        command += ["--home-agent", at.HOME_AGENT, "--home-link", "mn-home", "--lifetime", str(self.lifetime)]
        for link in self.bed.topology.foreign_links:
            address = f"{at.care_of_address(link)}/64"
            command += ["--foreign-link", f"mn-f{link}={address},{at.foreign_gateway(link)}"]
        command += self.mobile_node_options()
        process = self.bed.start("mobile-node", [*command, "--keys", str(self.keys)], node="mn")
        process.wait_for(r'"event": ?"(started|ready)"', START_TIMEOUT)
        return [process]

    def registrars(self) -> dict[str, Callable[[], Process]]:
        """Return how each program is started that registers the mobile node, by name."""
        return {"mobile-node": lambda: self.start_mobile_node()[0]}

    def anchor_options(self) -> list[str]:
        """Return further options of the anchor."""
        return []

    def mobile_node_options(self) -> list[str]:
        """Return further options of the mobile node."""
        return []

    def start_controller(self) -> Process:
        """Start the controller and wait until its REST API answers."""
        settings = self.bed.logs.parent / "controller.conf"
        lines = ["[hoaflow]", "log_addresses = true", f"tokens_file = {self.tokens.controllers}"]
        settings.write_text("\n".join([*lines, f"agent_lease = {self.lease}", ""]))
        command = [str(Path(sys.executable).with_name("ryu-manager")), "--config-file", str(settings)]
        command += ["--ofp-listen-host", at.MANAGEMENT_ROOT, "--ofp-tcp-listen-port", str(at.OPENFLOW_PORT)]
        command += ["--wsapi-host", at.MANAGEMENT_ROOT, "--wsapi-port", str(REST_PORT), "controller/app.py"]
        process = self.bed.start("controller", command)
        deadline = time.monotonic() + patient(START_TIMEOUT)
        while True:
            try:
                self.rest("GET", "/healthz")
                return process
            except Unreachable:
                if time.monotonic() > deadline or not process.running:
                    raise
                time.sleep(0.05)

    def set_up_routers(self) -> dict[str, str]:
        """Run `hoaflow-router setup` on all routers at once; return by router why it chose its backend."""
        with ThreadPoolExecutor() as pool:
            return dict(zip(self.routers, pool.map(self._set_up_router, self.routers), strict=True))

    def _set_up_router(self, router: str) -> str:
        command = [sys.executable, "-m", "hoaflow.router", "setup", "--bridge", BRIDGE]
        command += [word for anchor in self.anchors for word in ("--home-agent", anchor)]
        said = self.bed.run(*command, node=router)
        found = re.search(r"^backend (?:flow|route), because: (.*)$", said, re.MULTILINE)
        if found is None:
            raise ProcessError(f"hoaflow-router setup did not say on {router} which backend it takes: {said}")
        return found[1]

    def tear_down_routers(self) -> None:
        """Run `hoaflow-router teardown` on all routers at once."""
        command = [sys.executable, "-m", "hoaflow.router", "teardown", "--bridge", BRIDGE]
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda router: self.bed.run(*command, node=router), self.routers))

    def start_agent(self, router: str) -> Process:
        """Start `hoaflow-router run` on a router, without waiting until it is connected."""
        command = [
            sys.executable,
            "-m",
            "hoaflow.router",
            "run",
            "--bridge",
            BRIDGE,
            "--controller",
            REST,
            "--log-addresses",
            "--install",
            self.install,
        ]
        command += ["--token-file", str(self.tokens.file(router))]
        return self.bed.start(f"agent-{router}", command, node=router)

    def start_bridge(self) -> Process:
        """Start `ha-bridge` beside the home agent, without waiting for its first announcement."""
        return self.start_bridge_of(self.anchor, self.anchored, self.bed.topology.anchor, "bridge", BRIDGES)

    def start_bridge_of(self, anchor: str, anchored: Iterable[str], node: str, name: str, client: str) -> Process:
        """Start an `ha-bridge` called NAME beside an anchor in NODE, with the token of CLIENT, without waiting."""
        command = [sys.executable, "-m", "ha_bridge", "--controller", REST, "--home-agent", anchor]
        command += [word for prefix in anchored for word in ("--home-prefix", prefix)]
        command += ["--lease", str(self.lease), *self.bridge_options]
        command += ["--renew", str(self.lease * 0.3), "--log-addresses", "--token-file", str(self.tokens.file(client))]
        return self.bed.start(name, command, node=node)

    def programs(self, state: Path) -> dict[str, Callable[[], Process]]:
        """Return what starts each program, by name; `state` is the directory of the home agent's journal."""
        starts: dict[str, Callable[[], Process]] = {
            self.anchor_program: partial(self.start_anchor, state / "home-agent.journal"),
            **self.registrars(),
            "controller": self.start_controller,
            "bridge": self.start_bridge,
        }
        return starts | {f"agent-{router}": partial(self.start_agent, router) for router in self.routers}

    @property
    def anchors(self) -> tuple[str, ...]:
        """Return the addresses of all anchors."""
        return (self.anchor,)

    def start_offload(self, tell: Callable[[str], None] = lambda _: None) -> dict[str, Backend]:
        """Start all of hoaflow; return each router's backend once bindings are known and routers ready.

        tell: is called with each step before it is done.
        """
        tell("starting the controller")
        controller = self.start_controller()
        tell(f"setting up a tunnel endpoint on {', '.join(self.routers)}")
        reasons = self.set_up_routers()
        tell(f"starting the tunnel agents, and the bridge beside the {self.anchor_name}")
        for router in self.routers:
            self.start_agent(router)
        self.start_bridge()
        tell(f"waiting until the switches are connected and the {self.anchor_name}'s bindings known")
        for anchor in self.anchors:
            controller.wait_for(
                rf"event=home-agent-synced (?:.* )?home_agent={re.escape(anchor)}(?: |$)", START_TIMEOUT
            )
        backends = {}
        for router, reason in reasons.items():
            dpid = self.bed.network[router].dpid
            controller.wait_for(f"event=router-connected router={dpid}", EVENT_TIMEOUT)
            backends[router] = Backend(self._announced_backend(dpid), reason)
        return backends

    def _announced_backend(self, dpid: str) -> str:
        """Return the backend that the tunnel agent has announced to the controller."""
        limit = patient(START_TIMEOUT)
        deadline = time.monotonic() + limit
        while (backend := self.rest("GET", f"/v1/routers/{dpid}")["backend"]) is None:
            if time.monotonic() > deadline:
                raise ProcessError(f"the agent of router {dpid} announced no backend within {limit:g} s")
            time.sleep(0.1)
        return str(backend)

    # What happens

    def attach(self, link: str | int) -> float:
        """Take the mobile node off its link, then attach it to HOME or to a foreign link by number.

        Returns when it left, in seconds since the epoch.
        """
        links = self.links()
        commands = [f"link set dev {name} down" for place, name in links.items() if place != link]
        commands.append(f"link set dev {links[link]} up")
        moment = time.time()
        self.bed.run("ip", "-batch", "-", node="mn", stdin="\n".join(commands))
        return moment

    def links(self) -> dict[str | int, str]:
        """Return the mobile node's interface on each link, HOME or a foreign link's number."""
        return {HOME: "mn-home"} | {number: f"mn-f{number}" for number in self.bed.topology.foreign_links}

    def care_of_address(self, link: str | int) -> str:
        """Return the mobile node's care-of address on a link; at home, the home address."""
        return self.home_address if link == HOME else at.care_of_address(int(link))

    def acknowledgement(self, link: str | int) -> str:
        """Return what the anchor logs when it has acknowledged a move to a link, as a regular expression."""
        ended = f"home_address={self.home_address} care_of_address={self.care_of_address(link)} status=0 "
        return f"event=binding-ack-sent {re.escape(ended)}"

    def set_anchor_link(self, up: bool) -> None:
        """Connect the anchor's link to the core, or cut it.

        The kernel forgets the routes of a link that is down, so they are set again.
        """
        node = self.bed.topology.anchor
        self.bed.set_link(node, f"{node}-core", up)
        if up:
            own, hop = f"{at.router_side(9)}/64", at.core_side(9)
            if ":" not in self.anchor:
                own, hop = at.ipv4(own), at.ipv4(hop)
            self.bed.run("ip", "addr", "replace", own, "dev", f"{node}-core", node=node)
            self.bed.run("ip", "route", "replace", "default", "via", hop, node=node)

    def rest(self, method: str, path: str, body: Any = None) -> Any:
        """Call the controller's REST API as the operator and return the decoded JSON body.

        Raises NorthboundError; requests.HTTPError for any other answer that is an error.
        """
        answer = self.client.request(method, path, (REST_TIMEOUT, REST_TIMEOUT), body)
        answer.raise_for_status()
        return answer.json()

    def homes(self) -> tuple[str, ...]:
        """Return the home addresses and prefixes of the mobile node that are of interest now."""
        return (self.home,)

    def binding(self) -> dict[str, Any] | None:
        """Return the mobile node's binding as the controller reports it, None if it has none."""
        answer = self.client.request("GET", f"/v1/bindings/{self.home}", (REST_TIMEOUT, REST_TIMEOUT))
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def binding_of(self, home_address: str) -> dict[str, Any] | None:
        """Return the binding of a home address or mobile network as the controller lists it, None if there is none."""
        (found,) = self.rest("GET", f"/v1/bindings?home_address={home_address}")["bindings"] or [None]
        return dict(found) if found else None


def event_time(match: re.Match[str]) -> float:
    """Return the `time=` of a matched log line in seconds since the epoch. Raises ValueError if it has none."""
    found = re.search(r"\btime=(\S+)", match.string)
    if found is None:
        raise ValueError(f"no time= in {match.string!r}")
    return datetime.fromisoformat(found[1]).timestamp()
