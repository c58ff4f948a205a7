# SPDX-License-Identifier: Apache-2.0
"""Give this process, and all it starts from then on, private network and mount namespaces.

Names of namespaces, bridges and interfaces then cannot meet those of the machine or of another run, and when
the last process in it has ended, the kernel removes everything. /run is private as well: the names of
`ip netns` and the sockets of Open vSwitch are there, so every program finds this network's by its defaults.
"""

import ctypes
import os
import subprocess
from types import TracebackType

from hoaflow.linux import CLONE_NEWNET

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
PREPARE = (
    ("mount", "--make-rprivate", "/"),
    ("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"),
    ("mkdir", "/run/netns", "/run/openvswitch"),
    ("mount", "-t", "sysfs", "sysfs", "/sys"),  # so that it shows the private network's interfaces
    ("ip", "link", "set", "dev", "lo", "up"),
)
libc = ctypes.CDLL(None, use_errno=True)


def _call(function: str, *arguments: int) -> None:
    """Call a function of libc and raise OSError with its errno when it returns non-zero."""
    if getattr(libc, function)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{function}{arguments}: {os.strerror(number)}; this needs root")


class Sandbox:
    """Give this thread, and what it starts, a private network while the context lasts.

    Raises OSError when not permitted, subprocess.CalledProcessError when the namespaces cannot be prepared.
    """

    def __enter__(self) -> "Sandbox":
        self._directory = os.getcwd()
        self._outside = {
            kind: os.open(f"/proc/thread-self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
            for kind, name in ((CLONE_NEWNET, "net"), (CLONE_NEWNS, "mnt"))
        }
        _call("unshare", CLONE_NEWNET | CLONE_NEWNS)
        try:
            for command in PREPARE:
                subprocess.run(command, check=True, timeout=10)
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Return to the namespaces that were current on entry."""
        _call("unshare", CLONE_FS)  # a mount namespace is not entered while threads share root and directory
        for kind, descriptor in self._outside.items():
            _call("setns", descriptor, kind)
            os.close(descriptor)
        os.chdir(self._directory)  # entering a mount namespace moves a process to its root
