# SPDX-License-Identifier: Apache-2.0
"""Fuzz each target for a while, guided by coverage: `make fuzz FUZZ='--seconds N --only NAME'`."""

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.fuzz.targets import TARGETS, Target

BUILD = Path(__file__).parents[2] / "build/fuzz"
ONE_INPUT = 10  # seconds that one input may take
MEMORY = 2048  # megabytes that the process may take
LARGEST = 4096  # bytes of an input
LONGEST_WORD = 64  # bytes that libFuzzer takes
SLACK = 900.0  # seconds besides, to load, and to read what was learned on a busy machine

_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERAGE = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a target: inputs tried, edges and features covered, and the files of finds."""

    target: Target
    executions: int
    edges: int
    features: int
    finds: list[Path]

    def __str__(self) -> str:
        return f"{self.target.name:<22}{self.executions:>12,}{self.edges:>8,}{self.features:>10,}{len(self.finds):>7}"


def main(argv: list[str] | None = None) -> int:
    """Fuzz, and tell what was found; return 1 if anything was."""
    options = _options().parse_args(argv)
    chosen = [target for target in TARGETS if not options.only or target.name in options.only]
    print(f"{'target':<22}{'executions':>12}{'edges':>8}{'features':>10}{'finds':>7}")
    results = []
    for target in chosen:
        work = Work(target, options.build / target.name)
        results.append(work.merge() if options.merge else work.fuzz(options.seconds, options.seed))
        print(results[-1], flush=True)
    finds = [path for result in results for path in result.finds]
    for path in finds:
        print(f"\n{path}")
        beside = path.with_suffix(".txt")
        print(beside.read_text() if beside.exists() else f"it takes more than {ONE_INPUT} s or {MEMORY} MB, or crashes")
    if finds:
        print("\nMend each, and keep its input in the corpus: tests/data/fuzz/NAME/ (docs/fuzzing.md)")
    return bool(finds)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fuzz FUZZ=...", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--only", action="append", choices=[target.name for target in TARGETS], help="this target")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time (default)")
    parser.add_argument("--build", type=Path, default=BUILD, help="where to work (default: build/fuzz)")
    parser.add_argument(
        "--merge", action="store_true", help="do not fuzz: add to the corpus what was found to cover more than it does"
    )
    return parser


class Work:
    """Work on a target in a directory, where what it learns stays for the next time."""

    def __init__(self, target: Target, directory: Path) -> None:
        self._target, self._directory = target, directory
        self._learned, self._finds = directory / "corpus", directory / "finds"

    def fuzz(self, seconds: int, seed: int) -> Result:
        """Fuzz for a while, from what is known."""
        shutil.rmtree(self._finds, ignore_errors=True)
        for directory in (self._learned, self._finds):
            directory.mkdir(parents=True, exist_ok=True)
        words = self._directory / "words"
        escaped = ("".join(f"\\x{byte:02x}" for byte in word[:LONGEST_WORD]) for word in self._target.words)
        words.write_text("".join(f'"{word}"\n' for word in escaped))
        limits = (f"-max_total_time={seconds}", f"-timeout={ONE_INPUT}", f"-rss_limit_mb={MEMORY}")
        ways = (f"-seed={seed}", f"-dict={words}", f"-artifact_prefix={self._finds}/", "-print_final_stats=1")
        said = self._run(*limits, *ways, str(self._learned), str(self._target.corpus), timeout=seconds + SLACK)
        (self._directory / "log").write_text(said)
        return self._result(said, sorted(path for path in self._finds.iterdir() if path.suffix != ".txt"))

    def merge(self) -> Result:
        """Add to the corpus what was learned that covers more."""
        return self._result(self._run("-merge=1", str(self._target.corpus), str(self._learned), timeout=None), [])

    def _run(self, *arguments: str, timeout: float | None) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "tools.fuzz.guided", self._target.name, str(self._finds)]
        command += [f"-max_len={LARGEST}", *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False)
        said = done.stdout.decode(errors="replace")
        if not _COVERAGE.search(said):
            raise SystemExit(f"{self._target.name} could not be fuzzed:\n{said}")
        return said

    def _result(self, said: str, finds: list[Path]) -> Result:
        executions = _EXECUTIONS.search(said)
        edges, features, _ = map(int, _COVERAGE.findall(said)[-1])
        return Result(self._target, int(executions[1]) if executions else 0, edges, features, finds)


if __name__ == "__main__":
    sys.exit(main())
