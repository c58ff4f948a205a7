# SPDX-License-Identifier: Apache-2.0
"""Run the whole system in the chaos network, and start, end and change its parts."""

import contextlib
import os
import signal
import struct
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hoaflow.client.access import Access
from hoaflow.client.client import Northbound
from hoaflow.errors import HoaflowError
from tests.support.waiting import wait_for
from tools.chaos.addresses import CONTROLLERS, CORRESPONDENT, MobileNode, Plan, ProxiedNode, management_controller
from tools.chaos.network import ChaosTopo
from tools.chaos.pace import Pace, load
from tools.chaos.programs import URLS, Program, described, disk, module
from tools.chaos.timeline import Inventory, Usage
from tools.chaos.wire import Job
from topologies import addresses as at
from topologies.nodes import checked
from topologies.ovs_router import BRIDGE, OvsRouter
from topologies.processes import Process, ProcessError
from topologies.testbed import Testbed
from topologies.tokens import OPERATOR

START_TIMEOUT = 120.0  # seconds
SETTLED_WITHIN = 120.0  # seconds; `wait_for` adapts it
REST_TIMEOUT = 3.0  # seconds; a controller that is paused does not answer
CLOCK = Path(__file__).with_name("clock")
HOME = 0  # as a link: the home link


class Lab:
    """The whole system, running while the context lasts; all programs and links go by their names."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        """Describe it; logs and records go into `directory`."""
        self.plan, self.directory = plan, directory
        topology = ChaosTopo(plan)
        self.datapath = " and ".join(sorted({topology.datapath_of(router) for router in plan.routers}))
        self.bed = Testbed(topology, directory / "logs")
        self.records, self.beats = directory / "records", directory / "beats"
        self.programs: dict[str, Program] = {}
        self.where: dict[str, int] = {}  # mobile node -> link
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> "Lab":
        with contextlib.ExitStack() as stack:
            for name, size in self._disks().items():  # before the nodes, which inherit the mounts
                self.disk(name).mkdir()
                _run("mount", "-t", "tmpfs", "-o", f"size={size}m", "chaos", str(self.disk(name)))
                stack.callback(_run, "umount", "--lazy", str(self.disk(name)))
            stack.enter_context(self.bed)
            dpids = {router: self.bed.network[router].dpid for router in self.plan.routers}
            self.programs, tokens = described(self.plan, dpids, self.directory)
            access = Access(tokens.file(OPERATOR))
            self.clients = {name: Northbound(url, access) for name, url in zip(CONTROLLERS, URLS, strict=True)}
            self._start()
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._exit.__exit__(*error)

    def disk(self, name: str) -> Path:
        """Return where the small disk of a program is mounted that keeps files."""
        return disk(self.directory, name)

    def _disks(self) -> dict[str, int]:
        """Return the sizes of all small disks, in MiB, by program; etcd reserves 128 for its log in advance."""
        return {each.name: 4 for each in self.plan.home_agents} | {f"etcd-{name}": 256 for name in CONTROLLERS}

    # What runs

    def _start(self) -> None:
        for name in self.programs:
            self.launch(name)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.connect, self.plan.routers))
            list(pool.map(self.set_up, self.plan.routers))
        for name, program in self.programs.items():
            if program.ready is not None:
                self.bed.programs[name].wait_for(program.ready, START_TIMEOUT)
        for node in self.plan.mobile_nodes:
            self.move(node, node.links[0])
        wait_for("all bindings are active", self.all_active, SETTLED_WITHIN)

    def connect(self, router: str, targets: Sequence[str] = ()) -> None:
        """Connect a switch to all controllers, or to these instead."""
        targets = targets or [f"tcp:{management_controller(number)}:{at.OPENFLOW_PORT}" for number in (1, 2, 3)]
        rows = [f"@{name}" for name in CONTROLLERS]
        argv = ["set", "bridge", BRIDGE, f"controller={','.join(rows)}"]
        for row, target in zip(rows, targets, strict=True):
            argv += ["--", f"--id={row}", "create", "controller", f'target="{target}"', "max_backoff=1000"]
            argv += ["inactivity_probe=5000"]
        checked(self.router(router), "ovs-vsctl", "--timeout=60", "--", *argv)

    def set_up(self, router: str) -> None:
        """Run `hoaflow-router setup` on a router."""
        home_agents = [word for each in self.plan.anchors for word in ("--home-agent", each.address)]
        backend = "flow" if router in self.plan.by_flows else "route"
        own = ["setup", "--bridge", BRIDGE, "--backend", backend, *home_agents]
        self.bed.run(*module("hoaflow.router", *own), node=router)

    # Programs

    def launch(self, name: str) -> Process:
        """Start a program without waiting for anything."""
        program = self.programs[name]
        return self.bed.start(name, [*self._with_own_clock(name), *program.command], program.node)

    def _with_own_clock(self, name: str) -> list[str]:
        """Return what makes a Python program take its time of day from `set_clock`."""
        if not self._clock(name).exists():
            self.set_clock(name, 0)
        path = os.pathsep.join(filter(None, (str(CLOCK), os.environ.get("PYTHONPATH"))))
        return ["env", f"PYTHONPATH={path}", f"CHAOS_CLOCK={self._clock(name)}"]

    def _clock(self, name: str) -> Path:
        return (self.directory / f"{name}.clock").resolve()

    def set_clock(self, name: str, hours: int) -> None:
        """Have a program's clock jump so that it is this far ahead, or with a negative number behind."""
        with self._clock(name).open("r+b" if self._clock(name).exists() else "wb") as clock:
            clock.write(struct.pack("d", 3600.0 * hours))

    def process(self, name: str) -> Process:
        """Return a running program, or a router's daemon as `ovs-vswitchd-r1`."""
        if name in self.bed.programs:
            return self.bed.programs[name]
        daemon, _, router = name.rpartition("-")
        return next(each for each in reversed(self.router(router).processes) if each.name == f"{router}-{daemon}")

    def kill(self, name: str) -> None:
        """Kill a program or daemon (SIGKILL)."""
        if name in self.bed.programs:
            self.bed.kill(name)
        else:
            self.process(name).kill()

    def restart(self, name: str) -> None:
        """Start a program or daemon again that was killed, as the host's service manager would."""
        if name in self.programs:
            self.launch(name)
            return
        daemon, _, router = name.rpartition("-")
        if daemon == "ovsdb-server":
            self.router(router).start_database()
        else:
            self.router(router).start_switch()
            self.router(router).configure_kernel()

    @property
    def starting(self) -> bool:
        """Whether a program runs that does not serve yet."""
        return any(
            program.ready is not None and self.bed.programs[name].running
            and not self.bed.programs[name].printed(program.ready)
            for name, program in self.programs.items() if name in self.bed.programs
        )  # fmt: skip

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a program or daemon."""
        os.kill(self.process(name).pid, number)

    def router(self, name: str) -> OvsRouter:
        """Return a router's node."""
        router: OvsRouter = self.bed.network[name]
        return router

    def inventory(self) -> Inventory:
        """Return what there is on all hosts."""
        names = [*self.programs, *(f"ovs-vswitchd-{router}" for router in self.plan.routers)]
        hosts = [*self.plan.routers, *(each.name for each in self.plan.anchors)]
        return Inventory(
            {name: usage(self.process(name).pid) for name in names if self.process(name).running},
            {host: namespaces(self.bed.run("ip", "netns", "list", node=host)) for host in hosts},
        )

    # Links and moves

    def ip(self, node: str | None, *lines: str) -> None:
        """Run lines of `ip` in a node, or where the management network's bridge is, in one go."""
        self.bed.run("ip", "-batch", "-", node=node, stdin="\n".join(lines))

    def move(self, node: MobileNode, link: int) -> None:
        """Attach a mobile node to one of its links, and to no other."""
        wanted = node.home_interface if link == HOME else node.interface(link)
        names = self._interfaces(node)
        lines = [f"link set dev {name} down" for name in names if name != wanted]
        self.ip(node.name, *lines, f"link set dev {wanted} up")
        self.where[node.name] = link

    def flood(self, node: str, destination: str) -> None:
        """Send 3,000 packets within a few seconds; `{:x}` in the destination stands for a number below 1,000."""
        program = (
            "import socket, sys, time\n"
            "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
            "for n in range(3000):\n"
            "    s.sendto(b'x', (sys.argv[1].format(n % 1000), 9)); time.sleep(0.001)\n"
        )
        self.bed.run("python3", "-c", program, destination, node=node)

    # What is said

    def ask(self, controller: str, path: str) -> Any:
        """Return what a controller answers to a GET, None if it does not answer."""
        try:
            answer = self.clients[controller].request("GET", path, (REST_TIMEOUT, REST_TIMEOUT))
        except HoaflowError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def states(self, controller: str) -> dict[str, str] | None:
        """Return the bindings' states by home address, as a controller tells; None if it does not answer."""
        answer = self.ask(controller, "/v1/bindings?limit=1000")
        return None if answer is None else {each["home_address"]: each["state"] for each in answer["bindings"]}

    def objections(self, controller: str) -> list[str]:
        """Return what a controller says against it that all traffic of mobile nodes away from home goes direct."""
        found = []
        try:
            ready = self.clients[controller].request("GET", "/readyz", (REST_TIMEOUT, REST_TIMEOUT))
            if ready.status_code != 200:
                found.append(f"/readyz of {controller}: {ready.json()['detail']}")
        except HoaflowError as error:
            return [f"{controller} does not answer: {error}"]
        for node in self.plan.mobile_nodes:
            expected = "home" if self.where[node.name] == HOME else "direct"
            for address in sorted({node.home_address, node.address}):
                unknown = {"path": "unknown", "reason": "it does not answer"}
                said = self.ask(controller, f"/v1/bindings/{address}/explain") or unknown
                if said["path"] != expected:
                    found.append(f"{controller} says of {node.name}: {said['path']}, not {expected}: {said['reason']}")
        return found

    def doctors_objections(self, router: str) -> list[str]:
        """Return what `hoaflow-router doctor` finds failed on a router."""
        command = module("hoaflow.router", "doctor", "--bridge", BRIDGE)
        try:
            self.bed.run(*command, node=router)
        except ProcessError as error:
            return [f"doctor on {router}: {error}"]
        return []

    def all_active(self) -> bool:
        """Tell whether every controller says of every mobile node away from home that its binding is active."""
        away = {
            binding for node in self.plan.mobile_nodes if self.where.get(node.name) != HOME for binding in node.bindings
        }
        return all(
            (states := self.states(name)) is not None and all(states.get(address) == "active" for address in away)
            for name in CONTROLLERS
        )

    # Traffic

    def points(self) -> list[tuple[str, str]]:
        """Return the links that are watched, by node and interface."""
        found = [("cn", "cn-eth0")]
        found += [("core", f"core-{name}") for name in self.plan.routers]
        found += [(each.name, f"{each.name}-core") for each in self.plan.anchors]
        for node in self.plan.mobile_nodes:
            found += [(node.name, name) for name in self._interfaces(node)]
        for node in self.plan.proxied:
            found += [(node.gateway(link), f"{node.gateway(link)}-up") for link in node.links]
        return found

    def _interfaces(self, node: MobileNode) -> list[str]:
        home = [] if isinstance(node, ProxiedNode) else [node.home_interface]
        return home + [node.interface(link) for link in node.links]

    def start_traffic(self, rate: float) -> None:
        """Start to send and to record."""
        hosts = {CORRESPONDENT: CORRESPONDENT} | {node.name: node.host for node in self.plan.mobile_nodes}
        nodes = {
            "stranger",
            "core",
            *hosts.values(),
            *(node for node, _ in self.points()),
        }
        namespaces = {node: self.bed.namespace(node) for node in sorted(nodes)}
        flows, forgeries = self.plan.flows(), self.plan.forgeries()
        job = Job(namespaces, hosts, self.points(), flows, forgeries, rate, 5.0, str(self.records))
        file = self.directory / "job.json"
        file.write_text(job.dump())
        self.bed.start("pulse", module("tools.chaos.pulse", str(self.beats))).wait_for("event=ready", START_TIMEOUT)
        self.bed.start("wire", module("tools.chaos.wire", str(file))).wait_for("event=ready", START_TIMEOUT)

    def pace(self) -> Pace:
        """Return how slowly programs went on since traffic began."""
        return Pace(load(self.beats.read_text()))


def namespaces(listing: str) -> frozenset[str]:
    """Return the names that `ip netns list` shows. A namespace that is made again has another id beside its name."""
    return frozenset(line.split()[0] for line in listing.splitlines())


def usage(pid: int) -> Usage:
    """Return what a process has."""
    status = Path(f"/proc/{pid}/status").read_text()
    memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return Usage(pid, memory / 1024, len(os.listdir(f"/proc/{pid}/fd")))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
