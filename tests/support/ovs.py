# SPDX-License-Identifier: Apache-2.0
"""A real Open vSwitch in a network namespace and a directory of its own, by default with the userspace datapath.

Nothing of it touches the system's Open vSwitch: two userspace `ovs-vswitchd` in one namespace would fight
over the tap devices of their bridges, and the database, sockets and logs lie in the directory. As the
namespace is the switch's own, a controller that it shall reach runs inside as well (`Ovs.command`), and fixed
port numbers do not clash.
"""

import contextlib
import ctypes
import itertools
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.environment import Environment
from tests.support.logs import assert_log_clean
from topologies.waiting import patient

TIMEOUT = round(patient(60))  # seconds, for any one command
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
_CLONE_NEWNET = 0x40000000
_serial = itertools.count()
_libc = ctypes.CDLL(None, use_errno=True)


class Ovs(Environment):
    """ovsdb-server and ovs-vswitchd, running: `netns` names their namespace, `directory` has the logs.

    A context manager: leaving it ends both, and whatever else still runs in the namespace, and removes that.
    """

    def __init__(self, directory: Path, datapath: str = "netdev", beside: "Ovs | None" = None) -> None:
        """datapath: `netdev` (userspace), `dummy` (no devices at all), or `system` where the kernel has one.

        beside: in whose namespace, which has to last longer; for `dummy` alone.
        """
        self.directory = directory
        self.datapath = datapath
        self._beside = beside
        self.netns: str = f"hf-ovs-{os.getpid()}-{next(_serial)}" if beside is None else beside.netns
        self.database = directory / "db.sock"
        self.environment = {**os.environ, "OVS_RUNDIR": str(directory), "OVS_DBDIR": str(directory)}

    def command(self, *argv: str) -> list[str]:
        """Return the command line that runs `argv` inside the namespace, for subprocess.Popen and the like."""
        return ["nsenter", f"--net=/run/netns/{self.netns}", *argv]

    def run(self, *argv: str) -> str:
        """Run a command inside the namespace and return what it prints.

        Raises: RuntimeError with its output when it fails, subprocess.TimeoutExpired after TIMEOUT seconds.
        """
        return _run(self.command(*argv), self.environment)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Have the sockets that the calling thread opens in this context belong to the namespace."""
        with open("/proc/thread-self/ns/net") as outside, open(f"/run/netns/{self.netns}") as inside:
            _setns(inside.fileno())
            try:
                yield
            finally:
                _setns(outside.fileno())

    def vsctl(self, *args: str) -> str:
        """Run `ovs-vsctl ARGS`, which waits until the switch has taken the change over."""
        return self.run("ovs-vsctl", f"--db=unix:{self.database}", f"--timeout={TIMEOUT}", *args)

    def ofctl(self, *args: str) -> str:
        """Run `ovs-ofctl -O OpenFlow13 ARGS`, bridges by name; `--bundle` and the like may come first."""
        return self.run("ovs-ofctl", "-O", "OpenFlow13", f"--timeout={TIMEOUT}", *args)

    def appctl(self, *args: str) -> str:
        """Run `ovs-appctl ARGS`, asked of this ovs-vswitchd."""
        return self.run("ovs-appctl", f"--target={self.directory / 'vswitchd.ctl'}", f"--timeout={TIMEOUT}", *args)

    def trace(self, bridge: str, packet: str) -> str:
        """`ofproto/trace`: what the bridge would do with a packet (ovs-fields(7) syntax, with in_port)."""
        return self.appctl("ofproto/trace", bridge, packet)

    def add_bridge(
        self, name: str, dpid: int, controller_port: int | None = None, inactivity_probe: int = 5000
    ) -> None:
        """Add a bridge (secure, OpenFlow 1.3 and 1.5); with a port, its controller is at 127.0.0.1.

        inactivity_probe: milliseconds, 0 for none; set later, it ends a connection on which a probe is unanswered.
        """
        settings = [
            f"datapath_type={self.datapath}",
            "fail_mode=secure",
            "protocols=OpenFlow13,OpenFlow15",
            f"other-config:datapath-id={dpid:016x}",
        ]
        argv = ["add-br", name, "--", "set", "bridge", name, *settings]
        if controller_port is not None:
            argv += ["--", "set-controller", name, f"tcp:127.0.0.1:{controller_port}"]
            # The default backs off to 8 s between attempts: too slow for tests that restart a controller.
            argv += ["--", "set", "controller", name, "max_backoff=1000", f"inactivity_probe={inactivity_probe}"]
        self.vsctl(*argv)

    def add_port(self, bridge: str, name: str, number: int) -> None:
        """Add an internal port with the OpenFlow port number `number`."""
        self.vsctl(
            *["add-port", bridge, name, "--", "set", "interface", name, "type=internal"],
            f"ofport_request={number}",
        )
        self.run("sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=1")  # it sends nothing of its own
        self.run("ip", "link", "set", "dev", name, "up")  # down, it would be no tunnel port to the controller

    def assert_log_clean(self, allow: Sequence[str] = ()) -> None:
        """Fail when either log has an error that no regular expression of `allow` expects."""
        for daemon in ("ovsdb-server", "ovs-vswitchd"):
            assert_log_clean(self.directory / f"{daemon}.log", allow)

    def stop(self) -> None:
        """End everything and remove the namespace. Harmless when repeated."""
        for daemon in ("ovs-vswitchd", "ovsdb-server"):
            pidfile = self.directory / f"{daemon}.pid"
            if pidfile.exists():  # they remove it when they end
                _end(int(pidfile.read_text()))
        if self._beside is None and Path(f"/run/netns/{self.netns}").exists():
            for pid in _run(["ip", "netns", "pids", self.netns]).split():
                _end(int(pid))
            _run(["ip", "netns", "del", self.netns])

    def _start(self) -> None:
        if os.geteuid() != 0:
            raise PermissionError("a network namespace needs root: run the tests by `make test`")
        if not SCHEMA.exists() or not shutil.which("ovs-vswitchd", path=os.environ["PATH"] + ":/usr/sbin"):
            raise FileNotFoundError("Open vSwitch is not installed (openvswitch-switch): run `make setup`")
        if self._beside is None:
            _run(["ip", "netns", "add", self.netns])
            _run(["ip", "-n", self.netns, "link", "set", "lo", "up"])
        _run(["ovsdb-tool", "create", str(self.directory / "conf.db"), str(SCHEMA)])
        self.start_database()
        self.vsctl("--no-wait", "init")
        self.start_switch()

    def start_database(self) -> None:
        """Start ovsdb-server, again after it was killed."""
        self._daemon("ovsdb-server", f"--remote=punix:{self.database}", str(self.directory / "conf.db"))

    def start_switch(self) -> None:
        """Start ovs-vswitchd, again after it was killed."""
        control = f"--unixctl={self.directory / 'vswitchd.ctl'}"
        kind = {"netdev": ["--disable-system"], "dummy": ["--disable-system", "--enable-dummy=override"]}
        self._daemon("ovs-vswitchd", *kind.get(self.datapath, []), control, f"unix:{self.database}")

    def kill(self, daemon: str) -> None:
        """Kill ovsdb-server or ovs-vswitchd, and wait for its end."""
        _end(int((self.directory / f"{daemon}.pid").read_text()), signal.SIGKILL)

    def _daemon(self, name: str, *args: str) -> None:
        # With --detach the command returns when the daemon is ready.
        log = f"--log-file={self.directory / name}.log"
        pidfile = f"--pidfile={self.directory / name}.pid"
        self.run(name, "--detach", "--no-chdir", log, pidfile, "-vconsole:off", *args)


def _run(argv: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _setns(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _end(pid: int, first: signal.Signals = signal.SIGTERM) -> None:
    """Terminate a process and wait for its end; kill it if that takes longer than TIMEOUT seconds."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (first, signal.SIGKILL):
            signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], TIMEOUT)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)
    raise TimeoutError(f"process {pid} did not end")
