# SPDX-License-Identifier: Apache-2.0
"""Run the whole system in Mininet, to play with: `python -m tools.demo.lab`. Needs root (`make lab`)."""

import argparse
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import requests
from mininet.cli import CLI
from mininet.log import lg

from hoaflow.client.errors import NorthboundError
from tools.demo.directory import InUse, reserved
from tools.demo.interruption import Interrupted, raise_interrupted
from tools.demo.narration import Narrator, quiet_logs
from tools.demo.relay import Relay
from topologies import addresses as at
from topologies.base import MobilityTopo
from topologies.deployment import REST_PORT, Deployment
from topologies.dmm import DmmTopo
from topologies.dmm_deployment import DmmDeployment
from topologies.dual import DualTopo
from topologies.dual_deployment import DualDeployment
from topologies.kernel import has_flow_backend
from topologies.mip4 import Mip4Topo
from topologies.mip4_deployment import Mip4Deployment
from topologies.nemo import NemoTopo
from topologies.nemo_deployment import NemoDeployment
from topologies.nodes import TopologyError
from topologies.ovs_router import KERNEL, USER
from topologies.processes import ProcessError
from topologies.proxy import ProxyTopo
from topologies.proxy_deployment import ProxyDeployment
from topologies.roaming import RoamingTopo
from topologies.single import SingleTopo
from topologies.testbed import Testbed
from topologies.tokens import OPERATOR

TOPOLOGIES: dict[str, tuple[type[MobilityTopo], type[Deployment]]] = {
    "roaming": (RoamingTopo, Deployment),
    "single": (SingleTopo, Deployment),
    "nemo": (NemoTopo, NemoDeployment),
    "mip4": (Mip4Topo, Mip4Deployment),
    "proxy": (ProxyTopo, ProxyDeployment),
    "dmm": (DmmTopo, DmmDeployment),
    "dual": (DualTopo, DualDeployment),
}
HOAFLOW = Path(sys.executable).with_name("hoaflow")
FAILURES = (
    ProcessError,
    TopologyError,
    NorthboundError,
    OSError,
    requests.RequestException,
    subprocess.SubprocessError,
)
HELP = """
    roam 1          move the mobile node to a link: {links}
    look            which path its packets take, and why
    {ping:<16}a command in a node: mn, {nodes}; names become addresses
    programs        what runs, and each one's log
    kill {anchor:<10} kill -9; also {programs}, ...
    start {anchor}
    hoaflow events  the command line, with the operator's token
    help            this list, and Mininet's own commands
    Ctrl-D          ends it, and leaves nothing
"""


class Shell(CLI):
    """Add commands for the mobile node and hoaflow's programs to Mininet's command line."""

    def __init__(self, deployment: Deployment, state: Path, controller: str) -> None:
        """Read commands until the end of input.

        state: directory of a home agent's journal. controller: the URL that `hoaflow` calls.
        """
        self._deployment, self._bed = deployment, deployment.bed
        self._controller = controller
        self.starts = deployment.programs(state)
        super().__init__(self._bed.network)

    def do_help(self, line: str) -> None:
        """Show the lab's commands, and the names of Mininet's: `help`, or `help COMMAND` for one."""
        if not line:
            print(described(self._deployment))
        super().do_help(line)

    def do_roam(self, line: str) -> None:
        """Move the mobile node to a link, by its number or `home`: `roam 1`."""
        links = {str(link): link for link in self._deployment.links()}
        if line not in links:
            print(f"roam: expected {', '.join(links)}, got {line!r}")
            return
        self._deployment.attach(links[line])

    def do_look(self, _line: str) -> None:
        """Show which path the mobile node's packets take, why, and what would change it: `look`."""
        for home in self._deployment.homes():
            self.do_hoaflow(f"explain {home}")

    def do_hoaflow(self, line: str) -> None:
        """Run hoaflow's command line as the operator: `hoaflow COMMAND`. Ctrl-C ends what goes on."""
        environment = {
            "HOAFLOW_CONTROLLER": self._controller,
            "HOAFLOW_TOKEN_FILE": str(self._deployment.tokens.file(OPERATOR)),
        }
        subprocess.run([HOAFLOW, *line.split()], env=os.environ | environment)

    def do_programs(self, _line: str) -> None:
        """Show which programs run, which do not, and where their logs are: `programs`."""
        for name in self.starts:
            program = self._bed.programs.get(name)
            runs = program is not None and program.running
            print(f"{name:<12} {'runs' if runs else 'does not run':<14} {self._bed.logs / f'{name}.log'}")

    def do_kill(self, line: str) -> None:
        """End a program at once (kill -9), as a crash would: `kill PROGRAM`."""
        if line not in self._bed.programs:
            print(f"kill: expected one of {', '.join(self._bed.programs)}, got {line!r}")
            return
        self._bed.kill(line)

    def do_start(self, line: str) -> None:
        """Start a program that was killed: `start PROGRAM`."""
        if line not in self.starts or line in self._bed.programs:
            stopped = ", ".join(name for name in self.starts if name not in self._bed.programs)
            print(f"start: expected one that was killed ({stopped or 'none was'}), got {line!r}")
            return
        try:
            self.starts[line]()
        except FAILURES as error:
            print(f"start: {error}")


def described(deployment: Deployment) -> str:
    """Return what one can do in the lab, in the names of its network."""
    topology = deployment.bed.topology
    hosts = [name for name in sorted(topology.hosts()) if name not in ("core", "mn", "stranger")]
    others = [name for name in deployment.programs(Path()) if not name.startswith("agent-")]
    others.remove(deployment.anchor_program)
    return HELP.format(
        links=", ".join(map(str, deployment.links())),
        ping=f"mn ping {hosts[0]}",
        nodes=", ".join((*hosts, *deployment.routers)),
        anchor=deployment.anchor_program,
        programs=", ".join((*others, f"agent-{deployment.routers[0]}")),
    )


def listening(port: int) -> socket.socket:
    """Open a server socket on 127.0.0.1 at `port`, or at a free port if that is taken."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return socket.create_server(("127.0.0.1", 0))


def run(topology: str, directory: Path, port: int) -> None:
    """Bring everything up, run the shell until its end, and take everything down.

    port: of the dashboard on this host. Raises FAILURES, Interrupted.
    """
    quiet_logs()
    narrator = Narrator()
    datapath = KERNEL if has_flow_backend() else USER
    listener = listening(port)  # before this process is in the private network
    narrator.say(f"building the network {topology}, Open vSwitch with the {datapath} datapath")
    network, kind = TOPOLOGIES[topology]
    with Testbed(network(datapath=datapath), directory / "logs") as bed:
        deployment = kind(bed)
        narrator.say(f"starting {deployment.anchor_name} and {', '.join(deployment.registrars())}")
        deployment.start_anchor(directory / "home-agent.journal")
        deployment.start_mobile_node()
        deployment.start_offload(narrator.say)
        inside = listening(REST_PORT)  # on loopback, for commands in the lab: their token is on no link then
        with Relay(listener, at.MANAGEMENT_ROOT, REST_PORT), Relay(inside, at.MANAGEMENT_ROOT, REST_PORT):
            token = deployment.tokens.file(OPERATOR).read_text().strip()
            narrator.text(f"\ndashboard: http://127.0.0.1:{listener.getsockname()[1]}/   token: {token}")
            narrator.text(described(deployment))
            if sys.stdin.isatty():
                signal.signal(signal.SIGINT, signal.default_int_handler)  # ends a command, as in every shell
            lg.setLogLevel("output")  # of commands in nodes, which a testbed does not show
            Shell(deployment, directory, f"http://127.0.0.1:{inside.getsockname()[1]}")
            raise_interrupted()
        narrator.say("taking everything down")


def main(argv: list[str] | None = None) -> int:
    """Run the lab; return 0 after Ctrl-D, 1 on failure, 128 + N after signal N."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo.lab", description=__doc__)
    parser.add_argument(
        "topology", nargs="?", choices=TOPOLOGIES, default="roaming", help="the network (default: roaming)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("build/lab"), help="directory of state and logs (default: build/lab)"
    )
    parser.add_argument("--port", type=int, default=REST_PORT, help="the dashboard's, if free (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if os.geteuid():
        parser.error("root is needed, for namespaces and a switch of its own: use `make lab`, or sudo")
    directory = arguments.output.resolve()
    raise_interrupted()
    try:
        with reserved(directory):
            run(arguments.topology, directory, arguments.port)
    except Interrupted as interrupted:
        print(f"\ninterrupted by {interrupted}; everything was taken down", file=sys.stderr)
        return interrupted.status
    except InUse as error:
        parser.error(str(error))
    except FAILURES as error:
        print(f"\nthe lab failed: {error}\nlogs are in {directory / 'logs'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
