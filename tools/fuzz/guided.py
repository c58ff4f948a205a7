# SPDX-License-Identifier: Apache-2.0
"""Fuzz one target guided by coverage (atheris, libFuzzer), in a process of its own, which that ends.

`python -m tools.fuzz.guided NAME FINDS ARGUMENTS...`: finds go to the directory FINDS, and the run goes on; the
arguments are libFuzzer's.
"""

import sys
from pathlib import Path

import atheris

from tools.fuzz.finds import Finds
from tools.fuzz.targets import BY_NAME


def main(name: str, finds: str, *arguments: str) -> None:
    """Fuzz until libFuzzer's limits end the process."""
    target = BY_NAME[name]
    with atheris.instrument_imports(include=list(target.measured)):
        feed = target.load()
    atheris.Setup([sys.argv[0], *arguments], Finds(Path(finds), feed).take)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
