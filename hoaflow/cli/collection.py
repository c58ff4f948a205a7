# SPDX-License-Identifier: Apache-2.0
"""Collect the contents of a support bundle: versions, the controller's state, and the router on this host."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from hoaflow.cli.client import Client, Json
from hoaflow.cli.errors import CliError

VERSION = {"ovs-vsctl": "--version", "nft": "--version"}
TIMEOUT = 30.0  # seconds, for any one command
LIBRARIES = ("hoaflow", "ryu", "eventlet", "oslo.config", "msgspec", "werkzeug", "pyroute2", "requests", "scapy")
LISTS = {"home-agents": "home_agents", "routers": "routers", "bindings": "bindings"}
OVS = (
    ("ovs-vsctl", "--timeout=10", "show"),
    ("ovs-vsctl", "--timeout=10", "--columns=name,type,ofport,error,external_ids", "list", "interface"),
)
# -P: never a module in the directory of the caller, who may be root.
ROUTER = (sys.executable, "-P", "-m", "hoaflow.router")
OF_BRIDGE = (
    ("ovs-ofctl", "-O", "OpenFlow13", "--timeout=10", "show"),
    ("ovs-ofctl", "-O", "OpenFlow13", "--timeout=10", "dump-flows"),
    (*ROUTER, "status", "--json", "--bridge"),
    (*ROUTER, "doctor", "--json", "--bridge"),
)


class CommandResult(NamedTuple):
    """The exit status and output of a command."""

    status: int
    output: str


class File(NamedTuple):
    """A file of the bundle; `trouble` says why it is incomplete."""

    name: str
    text: str
    trouble: str | None = None


def versions() -> File:
    """Return the versions of programs and libraries on this host."""
    found: dict[str, object] = {"python": platform.python_version(), "kernel": platform.release()}
    found |= {"system": _system(), "machine": platform.machine(), "cpus": os.cpu_count()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    for program in ("ovs-vsctl", "nft", "ip"):
        found[program] = _run((program, VERSION.get(program, "-V"))).output.partition("\n")[0]
    return File("versions.json", _json(found))


def controller(client: Client) -> Iterator[File]:
    """Return the controller's state as one file per call, which holds the refusal if there is one."""
    for probe in ("healthz", "readyz"):
        yield _asked(probe, partial(client.get, probe))
    yield _asked("cluster", partial(client.get, "v1", "cluster"))
    for resource, member in LISTS.items():
        yield _asked(resource, partial(_list, client, member, "v1", resource))
    yield _asked("events", partial(_list, client, "events", "v1", "events", follow="no"))
    try:
        routers = [router["dpid"] for router in client.everything("routers", "v1", "routers")]
    except CliError:
        return  # the file of the routers has the error
    for dpid in routers:
        yield _asked(f"flows-{dpid}", partial(_list, client, "flows", "v1", "routers", dpid, "flows"))
        yield _asked(f"diff-{dpid}", partial(client.get, "v1", "routers", dpid, "diff"))


def router() -> Iterator[File]:
    """Return the state of Open vSwitch and hoaflow's tunnels, if Open vSwitch answers on this host."""
    bridges = _run(("ovs-vsctl", "--timeout=10", "list-br"))
    if bridges.status != 0:
        return
    commands: list[Sequence[str]] = [*OVS]
    commands += [(*command, bridge) for bridge in bridges.output.split() for command in OF_BRIDGE]
    text = "\n".join(f"# {' '.join(command)}\n{_run(command).output}" for command in commands)
    yield File("router.txt", text.replace(sys.executable, "python"))


def log(path: Path, lines: int) -> File:
    """Return the last lines of a log."""
    name = f"logs/{str(path).strip('/').replace('/', '-')}"
    try:
        with path.open(errors="replace") as file:
            return File(name, "".join(deque(file, lines)))
    except OSError as error:
        return File(name, f"{error}\n", f"{path}: {error.strerror}")


def _asked(name: str, ask: Callable[[], object]) -> File:
    try:
        return File(f"controller/{name}.json", _json(ask()))
    except CliError as error:
        return File(f"controller/{name}.json", _json({"error": str(error)}), f"{name}: {error}")


def _list(client: Client, member: str, *path: str, **query: str) -> Json:
    return {member: client.everything(member, *path, **query)}


def _run(command: Sequence[str]) -> CommandResult:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        return CommandResult(-1, f"{error}\n")
    return CommandResult(done.returncode, done.stdout + done.stderr)


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"
