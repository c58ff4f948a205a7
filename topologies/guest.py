# SPDX-License-Identifier: Apache-2.0
"""Run a command on a kernel with Open vSwitch's datapath and ip6_tunnel: this host's, or an emulated one.

    python -m topologies.guest [--vm] [--time-limit SECONDS] [--writable DIRECTORY] -- COMMAND

Here, if this host's kernel has all that is needed; else (or with --vm) in a guest: Debian's stock kernel under qemu's
software emulation, with this host's file system, so that the command finds the checkout and its environment as they
are; what it writes outside the directories named by --writable is forgotten. Never by /dev/kvm: where that is there
but nested, it may hang. The guest has no network.

The command's output comes through as it is made, and its exit status is returned. What the kernel says is in
build/kernel/guest.log, also when it panics or hangs.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from hoaflow.errors import HoaflowError
from topologies.kernel import has_flow_backend

CHECKOUT = Path(__file__).parents[1]
BUILD = CHECKOUT / "build"
DIRECTORY = BUILD / "kernel"
IMAGE = DIRECTORY / "image" / "vmlinuz"
ENVIRONMENT = DIRECTORY / "environment" / "disk"
LOG = DIRECTORY / "guest.log"  # of the last run that ended
PACKAGES = ("controller", "ha_bridge", "hoaflow", "tests", "tools", "topologies")
BOOT_LIMIT = 900.0  # seconds; about 25 are needed on two idle cores
POLL = 0.2
# The processor's time as the clock, and no defence against what an emulated processor does not suffer from: without
# these, all takes a third longer. Nor are pages cleared before whoever gets them writes into them.
KERNEL_OPTIONS = "clocksource=tsc tsc=reliable mitigations=off init_on_alloc=0"
# The emulator does `rep movsb` octet by octet, by which the kernel copies and clears where that is said to be fast
# (erms, fsrm).
PROCESSOR = "max,-erms,-fsrm"
PATIENCE = 20  # how much longer tests wait there; `make test` runs others beside it
MEMORY = "3G"  # what programs write outside build/ stays in memory, too
PASSED_ON = ("CI", "TERM")
LOG_LINES = 30
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Virtme-ng and qemu, which it starts, end with this process, even if that is killed.
ENDS_WITH_THIS = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


class GuestError(HoaflowError):
    """The guest did not boot, ended before the command, or exceeded the time limit; the message ends with its log."""


def main(argv: list[str] | None = None) -> int:
    """Run a command in the guest and return its exit status, 125 if the guest itself failed."""
    parser = argparse.ArgumentParser(prog="python -m topologies.guest", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vm", action="store_true", help="use the guest even if this host's kernel suffices")
    parser.add_argument(
        "--time-limit", type=float, default=4500, help="the command's limit in seconds (default: %(default)s)"
    )
    parser.add_argument(
        "--writable", action="append", default=[], type=Path, metavar="DIRECTORY",
        help="directory below build/ that the command may write to; repeatable",
    )  # fmt: skip
    parser.add_argument("command", nargs="+", help="the command and its arguments, after `--`")
    arguments = parser.parse_args(argv)
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup, or in the background
            signal.signal(number, _terminate)
    if not arguments.vm and has_flow_backend():
        print("kernel: this host's own", file=sys.stderr, flush=True)
        return subprocess.run(arguments.command, cwd=CHECKOUT).returncode
    try:
        return run(arguments.command, arguments.time_limit, arguments.writable)
    except GuestError as error:
        print(f"kernel: {error}", file=sys.stderr)
        return 125


def _terminate(number: int, _frame: object) -> None:
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)  # a second one must not keep this from ending the guest
    sys.exit(128 + number)


def run(command: Sequence[str], time_limit: float, writable: Sequence[Path]) -> int:
    """Boot a guest of its own, run the command in it, copy its output to stdout and return its exit status.

    time_limit: seconds, after the boot. writable: directories below build/.
    Raises GuestError, OSError, subprocess.CalledProcessError when the guest's parts cannot be made.
    """
    subprocess.run([CHECKOUT / "scripts" / "setup-kernel"], check=True)
    package = (IMAGE.parent / "package").read_text().strip()
    print(f"kernel: {package}, emulated; booting takes about half a minute", file=sys.stderr, flush=True)
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    exchange = Path(tempfile.mkdtemp(prefix="run-", dir=DIRECTORY))
    try:
        guest = _boot(command, exchange, [path.resolve() for path in writable])
        try:
            return _follow(guest, exchange, time_limit)
        finally:
            _end(guest)
            (exchange / LOG.name).replace(LOG)
    finally:
        shutil.rmtree(exchange)


def _boot(command: Sequence[str], exchange: Path, writable: Sequence[Path]) -> subprocess.Popen[bytes]:
    # vng calls its other half by name, and qemu and the like, some of which are in sbin.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    vng = shutil.which("vng", path=path)
    if vng is None:
        raise GuestError("vng is missing from the environment: run `make setup`")
    directories = [exchange, *writable]
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    (exchange / "run").write_text(_script(command, exchange, [*directories, IMAGE.parent]))
    # To compile it there takes ten times as long.
    subprocess.run([sys.executable, "-m", "compileall", "-q", *PACKAGES], cwd=CHECKOUT, check=True)
    leave_out = [f"--exclude=./{name}" for name in ("build", ".git", ".venv")]
    subprocess.run(["tar", "-cf", exchange / "checkout.tar", *leave_out, "."], cwd=CHECKOUT, check=True)
    options = ["--run", str(IMAGE), "--disable-kvm", "--verbose", "--user", "root", "--cwd", str(CHECKOUT)]
    options += ["--cpus", str(min(2, os.cpu_count() or 1)), "--memory", MEMORY]
    # Read-only, so that several guests can have it.
    disk = "-blockdev driver=raw,node-name=environment,read-only=on,file.driver=file,file.read-only=on"
    disk += f",file.locking=off,file.filename={ENVIRONMENT}"
    options += [f"--qemu-opts=-cpu {PROCESSOR} {disk} -device virtio-blk-pci,drive=environment"]
    options += ["--append", KERNEL_OPTIONS]
    options += [f"--rwdir={directory}" for directory in directories] + ["--rodir=/run/usr=/usr"]
    with open(exchange / LOG.name, "ab") as log:  # qemu opens it anew by its descriptor: both have to append
        return subprocess.Popen(
            [*ENDS_WITH_THIS, vng, *options, "--", "bash", str(exchange / "run")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PATH": path},
            start_new_session=True,  # Ctrl-C is for this process
        )


def _script(command: Sequence[str], exchange: Path, kept: Sequence[Path]) -> str:
    """Return the script that the guest runs; it renames the status file into place, so nobody reads half of it.

    The guest's view of the host's files, over 9p, is slow. So the checkout is copied into memory, its environment
    comes from a disk (scripts/setup-kernel), and programs and libraries by a mount that caches: they do not change.
    """
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    build = ""
    for path in kept:
        inside = f"/run/checkout/{path.relative_to(CHECKOUT)}"
        build += f"mkdir -p {inside}; mount --bind {path} {inside}\n"
    return f"""set -e
modprobe -a virtio_blk ext4 tun
tag=$(awk '$2 == "/run/usr" {{ print $1 }}' /proc/mounts)
umount /run/usr
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose "$tag" /run/usr
for part in /usr/bin /usr/sbin /usr/lib/*-linux-gnu; do mount --bind "/run$part" "$part"; done
mkdir -p /run/environment /run/checkout/.venv
mount -o ro /dev/vda /run/environment
for part in /usr/lib/python3* /usr/local/lib/python3*; do
    [ ! -d /run/environment$part ] || mount --bind /run/environment$part $part
done
tar -xf {exchange}/checkout.tar -C /run/checkout
mount --bind /run/environment{CHECKOUT}/.venv /run/checkout/.venv
{build}mount --rbind /run/checkout {CHECKOUT}
cd {CHECKOUT}
{exports}export HOAFLOW_PATIENCE={PATIENCE}
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ip link set lo up
touch {exchange}/started
set +e
{shlex.join(command)} >{exchange}/output 2>&1 </dev/null
echo $? >{exchange}/status.new
mv {exchange}/status.new {exchange}/status
"""


def _follow(guest: subprocess.Popen[bytes], exchange: Path, time_limit: float) -> int:
    """Copy the command's output to stdout until the command ends; return its exit status."""
    log = exchange / LOG.name
    started, status, output = (exchange / name for name in ("started", "status", "output"))
    deadline = time.monotonic() + BOOT_LIMIT
    while not started.exists():
        if guest.poll() is not None:
            raise GuestError(f"the guest ended while it booted.{_last_lines(log)}")
        if time.monotonic() > deadline:
            raise GuestError(f"the guest did not boot within {BOOT_LIMIT:g} s.{_last_lines(log)}")
        time.sleep(POLL)
    deadline = time.monotonic() + time_limit
    copied = 0
    while True:
        # In this order: what was written before the end is copied before it is noticed.
        ended, gone = status.exists(), guest.poll() is not None
        if output.exists():
            with open(output, "rb") as stream:
                stream.seek(copied)
                text = stream.read()
            copied += len(text)
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
        if ended:
            return int(status.read_text())
        if gone:
            raise GuestError(f"the guest ended before the command did: a kernel panic?{_last_lines(log)}")
        if time.monotonic() > deadline:
            raise GuestError(f"the command did not end within {time_limit:g} s.{_last_lines(log)}")
        time.sleep(POLL)


def _end(guest: subprocess.Popen[bytes]) -> None:
    """Kill the guest without a shutdown, as it holds nothing worth saving."""
    try:
        os.killpg(guest.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        guest.wait()


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
    return f" The end of what the guest said, which is in {LOG.relative_to(CHECKOUT)}:" + "".join(
        f"\n    {line}" for line in lines
    )


if __name__ == "__main__":
    sys.exit(main())
