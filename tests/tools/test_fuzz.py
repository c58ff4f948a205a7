# SPDX-License-Identifier: Apache-2.0
"""Each reader of foreign bytes takes its corpus and mutations of it, the same in every run: see docs/fuzzing.md.

`make fuzz` does more, guided by coverage.
"""

import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from tests.support.checkout import CHECKOUT
from tools.fuzz.finds import Finds
from tools.fuzz.mutation import mutations
from tools.fuzz.targets import BY_NAME, CORPUS, TARGETS, Target
from topologies.waiting import patient

ONE_INPUT = 20.0  # seconds of the processor's time; hardly any takes a thousandth


class RanOn(BaseException):
    """Not an Exception, which a reader could take for its own."""


@contextmanager
def bounded() -> Iterator[None]:
    """Raise RanOn in what takes more than ONE_INPUT since the timer was last set."""

    def fail(_number: int, _frame: FrameType | None) -> None:
        raise RanOn

    before = signal.signal(signal.SIGPROF, fail)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_a_reader_raises_nothing_but_what_its_callers_handle(target: Target) -> None:
    feed, corpus = target.load(), target.inputs()
    with bounded():
        for data in (b"", *corpus, *mutations(corpus, target.words, target.short, target.name)):
            signal.setitimer(signal.ITIMER_PROF, ONE_INPUT)
            try:
                feed(data)
            except (Exception, RanOn) as error:
                raise AssertionError(f"a find: {data!r}") from error


def test_each_folder_of_the_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} == set(BY_NAME)


def test_the_short_run_is_the_same_every_time() -> None:
    corpus, words = [b"abcdefgh", b"\x00\x01" * 20], [b"word"]
    first, second, other = (list(mutations(corpus, words, 200, seed)) for seed in ("one", "one", "two"))
    assert first == second != other
    assert len(set(first)) > 150


def test_each_kind_of_find_is_kept_once_with_its_traceback(tmp_path: Path) -> None:
    def feed(data: bytes) -> None:
        if data.startswith(b"a"):
            raise ValueError("never expected")
        assert data != b"b"

    finds = Finds(tmp_path / "finds", feed)
    for data in (b"a1", b"good", b"a2", b"b"):
        finds.take(data)
    kept = {path.read_bytes() for path in (tmp_path / "finds").iterdir() if not path.suffix}
    assert kept == {b"a1", b"b"}
    assert any("never expected" in path.read_text() for path in (tmp_path / "finds").glob("*.txt"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="atheris has packages for x86-64 only")
def test_the_command_fuzzes_a_target_by_coverage(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tools.fuzz", "--only", "token-file", "--seconds", "1"]
    done = subprocess.run(
        [*command, "--seed", "1", "--build", str(tmp_path)],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=patient(600), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    name, executions, edges, _features, finds = done.stdout.splitlines()[-1].split()
    assert (name, finds) == ("token-file", "0")
    assert int(executions.replace(",", "")) > 100
    assert int(edges) > 0
