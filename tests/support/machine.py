# SPDX-License-Identifier: Apache-2.0
"""A machine with a systemd of its own: PID 1 of namespaces of its own, over a copy-on-write view of this host's files.

Nothing that it does reaches the host, but the kernel that both run on.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.checkout import CHECKOUT
from tests.support.environment import Environment
from topologies.waiting import patient

TIMEOUT = patient(60.0)  # seconds, for any one command
# Where systemd keeps its cgroups: all in one hierarchy, or its own two beside those of version 1.
HIERARCHIES = ("/sys/fs/cgroup",), ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")
# What would act on the kernel as a whole, or on hardware.
NOT_OURS = (
    *("systemd-sysctl.service", "systemd-modules-load.service", "systemd-binfmt.service", "systemd-udevd.service"),
    *("systemd-random-seed.service", "systemd-remount-fs.service", "systemd-hwdb-update.service"),
    *("systemd-udev-trigger.service", "systemd-tmpfiles-setup-dev.service", "kmod-static-nodes.service"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "proc-sys-fs-binfmt_misc.automount"),
)
# Becomes systemd. $1: a directory; further: cgroups.
BOOT = r"""
set -e
scratch=$1; shift
for cgroup; do echo $$ > "$cgroup/cgroup.procs"; done
exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child bash -ec '
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$0"
    mkdir "$0/changed" "$0/work" "$0/root"
    mount -t overlay overlay -o "lowerdir=/,upperdir=$0/changed,workdir=$0/work" "$0/root"
    cd "$0/root"
    mount --bind /dev dev
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    if [ -d /sys/fs/cgroup/unified ]; then
        mount -t tmpfs tmpfs sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
        mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
    else
        mount -t cgroup2 cgroup2 sys/fs/cgroup
    fi
    for directory in run tmp var/log; do mount -t tmpfs tmpfs "$directory"; done
    mkdir -p run/systemd/system opt/hoaflow-checkout
    mount --bind "$2" opt/hoaflow-checkout
    for unit in $1; do ln -s /dev/null "run/systemd/system/$unit"; done
    ip link set lo up
    mkdir -p host && pivot_root . host && cd / && umount -l host
    export container=hoaflow-test
    exec /lib/systemd/systemd --unit=sysinit.target --log-target=journal --show-status=no
' "$scratch" "$MASKED" "$CHECKOUT"
"""


class Machine(Environment):
    """A running machine with hoaflow in /opt/hoaflow, as the units expect it. A context manager."""

    def __init__(self, directory: Path) -> None:
        self._scratch = directory / "machine"
        self._log = directory / "machine.log"
        self._cgroups = [Path(base, f"hf-machine-{secrets.token_hex(4)}") for base in _hierarchies()]
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0

    def run(self, *argv: str, status: int = 0, stdin: str = "") -> str:
        """Run a command in the machine and return what it prints. Raises RuntimeError when it ends otherwise."""
        done = subprocess.run(
            ["nsenter", "--target", str(self._init), "--all", "--", *argv],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode != status:
            raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def write(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file in the machine."""
        self.run(
            "bash", "-ec", 'mkdir -p "$(dirname "$0")"; cat > "$0"; chmod "$1" "$0"', path, f"{mode:o}", stdin=content
        )

    def journal(self, unit: str) -> str:
        """Return what a unit has logged."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def stop(self) -> None:
        """Switch it off. Harmless when repeated."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)  # unshare takes its child, PID 1, with it, and that all others
            self._process.wait(TIMEOUT)
            self._process = None
        for cgroup in self._cgroups:
            deadline = time.monotonic() + TIMEOUT
            while cgroup.exists() and time.monotonic() < deadline:
                for path, _, _ in os.walk(cgroup, topdown=False):
                    with contextlib.suppress(OSError):  # busy for as long as processes are ending in it
                        os.rmdir(path)
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _start(self) -> None:
        self._scratch.mkdir()
        for cgroup in self._cgroups:
            cgroup.mkdir()
        environment = {**os.environ, "MASKED": " ".join(NOT_OURS), "CHECKOUT": str(CHECKOUT)}
        command = ["bash", "-c", BOOT, "boot", str(self._scratch), *map(str, self._cgroups)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + TIMEOUT
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"systemd does not start here; is this a container?\n{self._log.read_text()}")
            time.sleep(0.1)
        self._install()

    def _is_up(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._init = int(children[0])
        try:
            return "systemd" in Path(f"/proc/{self._init}/comm").read_text() and bool(
                self.run("systemctl", "is-active", "sysinit.target")
            )
        except (RuntimeError, OSError):
            return False

    def _install(self) -> None:
        """Have the checkout's commands in /opt/hoaflow/bin, wherever the checkout lies and whoever may read it."""
        checkout = "/opt/hoaflow-checkout"
        packages = f"{checkout}/.venv/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        self.run("/usr/bin/python3", "-m", "venv", "--without-pip", "--system-site-packages", "/opt/hoaflow")
        site = packages.replace(f"{checkout}/.venv", "/opt/hoaflow")
        self.write(f"{site}/hoaflow.pth", f"{packages}\n{checkout}\n")
        commands = ("hoaflow", "hoaflow-controller", "ha-bridge", "hoaflow-router")
        for name in (*commands, "hoaflow-ha", "hoaflow-fa", "hoaflow-lma", "hoaflow-mag"):
            script = (CHECKOUT / ".venv/bin" / name).read_text().partition("\n")[2]
            self.write(f"/opt/hoaflow/bin/{name}", f"#!/opt/hoaflow/bin/python\n{script}", 0o755)


def _hierarchies() -> tuple[str, ...]:
    return HIERARCHIES[1] if Path("/sys/fs/cgroup/unified").is_dir() else HIERARCHIES[0]
