# SPDX-License-Identifier: Apache-2.0
"""See the packets on an interface, in tcpdump's words."""

import contextlib
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator

from tests.support.waiting import wait_for


@contextlib.contextmanager
def capture(node_command: list[str], interface: str, packet_filter: str) -> Iterator[Callable[[], str]]:
    """Run tcpdump on an interface; what this yields ends it and returns what it said of all packets until then.

    packet_filter: as in pcap-filter(7), without `inbound` and `outbound`, which libpcap heeds after the kernel counted.
    """
    command = [*node_command, "tcpdump", "-l", "-nn", "-v", "--immediate-mode", "-i", interface, packet_filter]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        errors, output = process.stderr, process.stdout
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(output))

        def has_read_all() -> bool:
            process.send_signal(signal.SIGUSR1)  # tcpdump(8): report what was captured, and what the kernel has for it
            captured, received = re.findall(r"(\d+) packets? (?:captured|received)", errors.readline())
            return bool(captured == received)

        def all_lines() -> str:
            wait_for("tcpdump has read what has arrived", has_read_all)
            process.terminate()
            reader.join()
            return "".join(lines).strip()

        try:
            assert "listening" in errors.readline()
            reader.start()
            yield all_lines
        finally:
            process.terminate()
            if reader.is_alive():
                reader.join()
