# SPDX-License-Identifier: Apache-2.0
"""Profile a running controller with py-spy, from outside and without any change to it."""

import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

RATE = 250  # looks a second
TIMEOUT = 60.0  # seconds, for py-spy to write what it has seen
SHOWN = 0.01  # of the time: less is left out of a profile's text
FILES = 6  # in a summary


@dataclass(slots=True)
class Node:
    """Count how often a function was sampled in a call tree, and the functions that it called."""

    count: int = 0
    called: dict[str, "Node"] = field(default_factory=dict)


class Profile:
    """Collect samples: stacks, outermost function first, with their counts; waiting greenlets are not sampled."""

    def __init__(self) -> None:
        self.stacks: Counter[tuple[str, ...]] = Counter()

    @contextmanager
    def of(self, pid: int) -> Iterator[None]:
        """Sample a process RATE times a second while the context lasts.

        Raises FileNotFoundError without py-spy, RuntimeError with what it says when it fails.
        """
        with tempfile.NamedTemporaryFile() as raw:
            spy = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid), "--function"]
            options = ["--rate", str(RATE), "--format", "raw", "--output", raw.name]
            pipe = subprocess.PIPE
            process = subprocess.Popen([*spy, *options], stdout=pipe, stderr=subprocess.STDOUT, text=True)
            assert process.stdout is not None
            process.stdout.readline()  # it has attached itself
            try:
                yield
            finally:
                process.send_signal(signal.SIGINT)
                output, _ = process.communicate(timeout=TIMEOUT)
            if process.returncode != 0:
                raise RuntimeError(f"py-spy ended with {process.returncode}: {output}")
            self.read(Path(raw.name).read_text())

    def read(self, raw: str) -> None:
        """Add samples in py-spy's raw format."""
        for line in raw.splitlines():
            stack, _, count = line.rpartition(" ")
            self.stacks[tuple(stack.split(";"))] += int(count)

    def summary(self) -> str:
        """Return the files in which most time was spent, without what their functions called."""
        files: Counter[str] = Counter()
        for stack, count in self.stacks.items():
            files[stack[-1].rpartition("(")[2].rstrip(")").partition(":")[0]] += count
        total = max(1, self.stacks.total())
        return ", ".join(f"{100 * count / total:.0f} % {name}" for name, count in files.most_common(FILES))

    def text(self) -> str:
        """Return the call tree with each function's share of the time, callees included, in percent."""
        root = Node()
        for stack, count in self.stacks.items():
            node = root
            node.count += count
            for function in stack:
                node = node.called.setdefault(function, Node())
                node.count += count
        lines = [f"{root.count} looks, {RATE} a second. By file: {self.summary()}", ""]
        lines += _lines(root, max(1, root.count), "")
        return "\n".join(lines) + "\n"

    def save(self, path: Path) -> None:
        """Write the call tree to a file."""
        path.write_text(self.text())


def _lines(node: Node, total: int, indent: str) -> Iterator[str]:
    for function, called in sorted(node.called.items(), key=lambda item: -item[1].count):
        if called.count >= SHOWN * total:
            yield f"{indent}{100 * called.count / total:5.1f} %  {function}"
            yield from _lines(called, total, indent + "  ")
