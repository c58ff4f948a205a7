# SPDX-License-Identifier: Apache-2.0
"""Kill and stop processes, and take away what they need of their host."""

import errno
import re
import resource
import signal

from tools.chaos.lab import HOME, START_TIMEOUT, Lab

DESCRIPTORS = 64
MEMORY = 1 << 20  # octets beyond what a process has
FILLING = "filling"


def kill(lab: Lab, target: str) -> None:
    """Kill a process, as a crash would."""
    lab.kill(target)


def restart(lab: Lab, target: str) -> None:
    """Start it again, as the service manager would."""
    lab.restart(target)


def end(lab: Lab, target: str) -> None:
    """End a program in order (SIGTERM)."""
    lab.bed.stop(target)


def stop(lab: Lab, target: str) -> None:
    """Stop a process where it is (SIGSTOP)."""
    lab.signal(target, signal.SIGSTOP)


def resume(lab: Lab, target: str) -> None:
    """Let it go on."""
    lab.signal(target, signal.SIGCONT)


def few_descriptors(lab: Lab, target: str) -> None:
    """Lower the limit of a process's descriptors below what it needs for anything new."""
    _, hard = resource.prlimit(lab.process(target).pid, resource.RLIMIT_NOFILE)
    resource.prlimit(lab.process(target).pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))


def many_descriptors(lab: Lab, target: str) -> None:
    """Give it all that it may have."""
    _, hard = resource.prlimit(lab.process(target).pid, resource.RLIMIT_NOFILE)
    resource.prlimit(lab.process(target).pid, resource.RLIMIT_NOFILE, (hard, hard))


def hour_ahead(lab: Lab, target: str) -> None:
    """Have a program's clock jump an hour ahead."""
    lab.set_clock(target, 1)


def hour_behind(lab: Lab, target: str) -> None:
    """Have it jump an hour back."""
    lab.set_clock(target, -1)


def right_time(lab: Lab, target: str) -> None:
    """Have it jump to the right time."""
    lab.set_clock(target, 0)


def stop_quorum(lab: Lab, _target: str) -> None:
    """Stop two of etcd's three members."""
    for name in ("etcd-c1", "etcd-c2"):
        stop(lab, name)


def resume_quorum(lab: Lab, _target: str) -> None:
    """Let them go on."""
    for name in ("etcd-c1", "etcd-c2"):
        resume(lab, name)


def little_memory(lab: Lab, target: str) -> None:
    """Limit a process's memory to hardly more than what it has."""
    pid = lab.process(target).pid
    with open(f"/proc/{pid}/statm") as statm:
        pages = int(statm.read().split()[0])
    _, hard = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))


def much_memory(lab: Lab, target: str) -> None:
    """Lift the limit; start the process again if it has ended, as the service manager would."""
    if lab.process(target).running:
        _, hard = resource.prlimit(lab.process(target).pid, resource.RLIMIT_AS)
        resource.prlimit(lab.process(target).pid, resource.RLIMIT_AS, (hard, hard))
    revive(lab, target)


def revive(lab: Lab, target: str) -> None:
    """Start a process again if it has ended, as the service manager would."""
    if not lab.process(target).running:
        lab.kill(target)
        lab.restart(target)


def restart_and_relearn(lab: Lab, target: str) -> None:
    """Start a home agent again that keeps nothing, and wait until its mobile nodes have registered anew."""
    restart(lab, target)
    _relearn(lab, target)


def much_memory_and_relearn(lab: Lab, target: str) -> None:
    """Lift the limit, and if the home agent has ended, start it again and wait as well."""
    before = lab.process(target)
    much_memory(lab, target)
    if lab.process(target) is not before:
        _relearn(lab, target)


def _relearn(lab: Lab, target: str) -> None:
    """Wait for the replies to all mobile nodes away from home, which register when their lifetime comes to its end."""
    for node in lab.plan.mobile_nodes:
        if node.home_agent.name == target and lab.where[node.name] != HOME:
            accepted = f"event=registration-reply-sent home_address={re.escape(node.home_address)} .*code=0 "
            lab.process(target).wait_for(accepted, START_TIMEOUT)


def fill_disk(lab: Lab, target: str) -> None:
    """Fill the disk that a process writes to."""
    with (lab.disk(target) / FILLING).open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def free_disk(lab: Lab, target: str) -> None:
    """Make room again; start the process again if it has ended."""
    (lab.disk(target) / FILLING).unlink()
    revive(lab, target)
