# SPDX-License-Identifier: Apache-2.0
r"""A network to roam in, in namespaces: correspondent node, router, home agent, home link with a host, mobile node.

    cn --- rt --- ha === home link (bridge hl: mobile node's m0, host hh)
           |  \
          m1   m2

m1 and m2 are the mobile node's foreign links.
"""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

from tests.support.checkout import CHECKOUT
from tests.support.environment import Environment
from tests.support.ping import ping
from topologies.waiting import patient

PREFIX = "hah-"
HOME_AGENT, HOME_PREFIX, HOME_ADDRESS = "2001:db8:99::1", "2001:db8:99::/64", "2001:db8:99::100"
CN, HOST, CARE_OF_1, CARE_OF_2 = "2001:db8:1::2", "2001:db8:99::200", "2001:db8:2::2", "2001:db8:3::2"
UPLINK, UPLINK_HOP = "2001:db8:10::2", "2001:db8:10::1"
NAMES = ("cn", "rt", "ha", "hh", "mn")
LINKS = (
    ("cn", "c0", "rt", "r0"),
    ("ha", "u0", "rt", "r9"),
    ("mn", "m1", "rt", "r1"),
    ("mn", "m2", "rt", "r2"),
    ("mn", "m0", "ha", "h0"),
    ("hh", "e0", "ha", "h1"),
)
MOBILE_NODES_LINKS = ("m0", "m1", "m2")  # down at first: it starts nowhere
TIMEOUT = patient(60.0)


class Lines:
    """A process's output, line by line, that can be waited for."""

    def __init__(self, process: "subprocess.Popen[str]", stream: Any) -> None:
        self._process, self._condition = process, threading.Condition()
        self.lines: list[str] = []
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            with self._condition:
                self.lines.append(line.rstrip("\n"))
                self._condition.notify_all()

    def wait(self, wanted: Callable[[str], bool], since: int = 0, timeout: float = TIMEOUT) -> str:
        """Return the first line from number `since` on that is wanted."""
        deadline = time.monotonic() + timeout
        with self._condition:
            while True:
                for line in self.lines[since:]:
                    if wanted(line):
                        return line
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError("not within the time; there was:\n" + "\n".join(self.lines))
                self._condition.wait(left)


class Node:
    """A running home agent, mobile node or other process."""

    def __init__(self, namespace: str, arguments: list[str]) -> None:
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *arguments],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.out, self.log = Lines(self.process, self.process.stdout), Lines(self.process, self.process.stderr)

    def event(self, name: str, since: int = 0, timeout: float = TIMEOUT, **facts: object) -> dict[str, Any]:
        """Wait for an event of the mobile node's with these facts."""

        def wanted(line: str) -> bool:
            event = json.loads(line)
            return event["event"] == name and all(event.get(key) == value for key, value in facts.items())

        found: dict[str, Any] = json.loads(self.out.wait(wanted, since, timeout))
        return found

    def logged(self, *texts: str, since: int = 0, timeout: float = TIMEOUT) -> str:
        """Wait for a line of the log that has all these."""
        return self.log.wait(lambda line: all(text in line for text in texts), since, timeout)

    def stop(self, kill: bool = False) -> int:
        """End it by SIGTERM or SIGKILL, and return its exit status."""
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        return self.process.wait(TIMEOUT)


class Lab(Environment):
    """The namespaces; a context manager that leaves nothing, also after failure."""

    names: ClassVar[tuple[str, ...]] = NAMES

    def __init__(self) -> None:
        self._suffix = f"-{os.getpid()}"
        self._indexes = itertools.count(10)
        self._nodes: list[Node] = []

    def stop(self) -> None:
        """Kill all programs and delete the namespaces."""
        for node in self._nodes:
            if node.process.poll() is None:
                node.stop(kill=True)
        for name in self.names:
            subprocess.run(
                ["ip", "netns", "del", self.namespace(name)], capture_output=True, timeout=patient(30), check=False
            )

    def namespace(self, name: str) -> str:
        return f"{PREFIX}{name}{self._suffix}"

    def run(self, name: str, command: str, check: bool = True, stdin: str = "") -> str:
        """Run a command in a namespace and return its output."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace(name), *command.split()],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=3 * TIMEOUT,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{name}: {command}: {done.stdout}{done.stderr}")
        return done.stdout

    def python(self, name: str, program: str, *arguments: str) -> str:
        """Run a Python program in a namespace and return its output."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.namespace(name), sys.executable, "-c", program, *arguments],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=3 * TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def home_agent(self, *arguments: str) -> Node:
        """Start a home agent and wait until it serves."""
        node = self.start_home_agent(*arguments)
        node.logged("event=started")
        return node

    def start_home_agent(self, *arguments: str) -> Node:
        """Start a home agent."""
        own = ["--home-agent", HOME_AGENT, "--home-prefix", HOME_PREFIX, "--home-link", "hl"]
        own += ["--log-level", "debug", "--log-addresses"]
        return self._run_module("ha", "hoaflow.home_agent", [*own, *arguments])

    def other_home_agent(self, *arguments: str) -> Node:
        """Start a second home agent of the home link, on the host there, and wait until it serves."""
        own = ["--home-agent", HOST, "--home-prefix", HOME_PREFIX, "--home-link", "e0"]
        own += ["--log-level", "debug", "--log-addresses"]
        node = self._run_module("hh", "hoaflow.home_agent", [*own, *arguments])
        node.logged("event=started")
        return node

    def mobile_node(self, *arguments: str) -> Node:
        """Start the mobile node."""
        own = ["--home-address", HOME_ADDRESS, "--home-agent", HOME_AGENT, "--home-link", "m0"]
        own += ["--foreign-link", f"m1={CARE_OF_1}/64,2001:db8:2::1"]
        own += ["--foreign-link", f"m2={CARE_OF_2}/64,2001:db8:3::1"]
        node = self._run_module("mn", "topologies.mobile_node", [*own, *arguments])
        node.event("started")
        return node

    def link(self, interface: str, state: str) -> None:
        """Move the mobile node: `up` or `down`."""
        self.run("mn", f"ip link set {interface} {state}")

    def ping(self, name: str, to: str, count: int = 3, size: int = 56, source: str | None = None) -> int:
        """Return how many packets were answered; the first may have to wait for neighbour discovery."""
        bind = ["-I", source] if source else []
        command = ping(count, 3, "-q", "-M", "do", "-s", str(size), *bind, to)
        output = self.run(name, " ".join(command), check=False)
        return int(output.split(" received")[0].split(", ")[-1])

    def script(self, name: str, program: str, *arguments: str) -> Node:
        """Start a Python program in a namespace."""
        return self._started(Node(self.namespace(name), [sys.executable, "-c", program, *arguments]))

    def pinging(self, name: str, to: str) -> Node:
        """Start to send an echo request every 0.1 s; each answer is a line."""
        return self._started(Node(self.namespace(name), ["ping", "-n", "-i", "0.1", to]))

    def get(self, name: str, url: str) -> str:
        """Return what is served at a URL, asked from a node."""
        program = "import sys,urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1], timeout=60).read().decode())"
        return self.python(name, program, url)

    def console(self, *commands: str, name: str = "ha", host: str = "127.0.0.1") -> bytes:
        """Return what the terminal at a host answers to these commands, asked from a node."""
        program = (
            "import socket,sys\n"
            "s=socket.create_connection((sys.argv[1],7777),5)\n"
            "s.sendall(('\\n'.join(sys.argv[2:])+'\\nquit\\n').encode())\n"
            "data=b''\n"
            "while part:=s.recv(65536): data+=part\n"
            "print(data.hex())"
        )
        return bytes.fromhex(self.python(name, program, host, *commands))

    def _run_module(self, name: str, module: str, arguments: list[str]) -> Node:
        return self._started(Node(self.namespace(name), [sys.executable, "-m", module, *arguments]))

    def _started(self, node: Node) -> Node:
        self._nodes.append(node)
        return node

    def _start(self) -> None:
        # Few processes: every one of many tests waits for this, and under emulation each takes long to start.
        self._ip(*(f"netns add {self.namespace(name)}" for name in self.names))
        for name in self.names:
            settings = ["default.accept_dad=0", "all.accept_dad=0"]
            settings += ["all.forwarding=1", "default.forwarding=1"] if name == "rt" else []
            self.run(name, " ".join(["sysctl -qw", *(f"net.ipv6.conf.{setting}" for setting in settings)]))
        self._ip(*(self._link(*ends) for ends in LINKS))
        lines = {name: ["link set lo up"] for name in self.names}
        lines["ha"] += ["link add hl type bridge mcast_snooping 0"]
        lines["ha"] += [f"link set {port} master hl" for port in ("h0", "h1")] + ["link set hl up"]
        for name, interface in (end for ends in LINKS for end in (ends[:2], ends[2:])):
            lines[name] += [f"link set {interface} up"] if interface not in MOBILE_NODES_LINKS else []
        for name, interface, address in (
            ("cn", "c0", CN),
            ("rt", "r0", "2001:db8:1::1"),
            ("rt", "r9", UPLINK_HOP),
            ("ha", "u0", UPLINK),
            ("rt", "r1", "2001:db8:2::1"),
            ("rt", "r2", "2001:db8:3::1"),
            ("ha", "hl", HOME_AGENT),
            ("hh", "e0", HOST),
        ):
            lines[name].append(f"address add {address}/64 dev {interface} nodad")
        lines["cn"].append("route add default via 2001:db8:1::1")
        lines["ha"].append(f"route add default via {UPLINK_HOP}")
        lines["hh"].append(f"route add default via {HOME_AGENT}")
        lines["rt"].append(f"route add {HOME_PREFIX} via {UPLINK}")
        for name, each in lines.items():
            self._ip(*each, within=name)

    def _veth(self, one: str, interface: str, other: str, peer: str) -> None:
        self._ip(self._link(one, interface, other, peer))
        for name, end in ((one, interface), (other, peer)):
            if end not in MOBILE_NODES_LINKS:
                self._ip(f"link set {end} up", within=name)

    def _link(self, one: str, interface: str, other: str, peer: str) -> str:
        # With the same index at both ends, the kernel may announce a second late that one has gone down or come up.
        first, second = next(self._indexes), next(self._indexes)
        ends = f"{interface} index {first} netns {self.namespace(one)} type veth"
        return f"link add {ends} peer name {peer} index {second} netns {self.namespace(other)}"

    def _ip(self, *lines: str, within: str | None = None) -> None:
        """Run `ip LINE` for each of them, in one process; `within`: the node."""
        command = ["ip", *(["-n", self.namespace(within)] if within else []), "-batch", "-"]
        done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=patient(30))
        assert done.returncode == 0, f"{within}: {lines}: {done.stderr}"
