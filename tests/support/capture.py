# SPDX-License-Identifier: Apache-2.0
"""See the packets on an interface, in tcpdump's words."""

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def capture(node_command: list[str], interface: str, packet_filter: str) -> Iterator[Callable[[], str]]:
    """Run tcpdump on an interface; what this yields ends it and returns its lines. It listens from the beginning."""
    command = [*node_command, "tcpdump", "-l", "-nn", "-v", "--immediate-mode", "-i", interface, packet_filter]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        errors, output = process.stderr, process.stdout
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(output))

        def all_lines() -> str:
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
