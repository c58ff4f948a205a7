# SPDX-License-Identifier: Apache-2.0
"""The home agent's journal: what it holds after crashes, damage and full disks."""

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoaflow.home_agent.journal import HEADER, SLACK, Journal, JournalError, Record
from hoaflow.home_agent.timestamp import Timestamp
from hoaflow.mobility.messages import BindingUpdate


def record(number: int, sequence: int | None = 1, care_of: str | None = "2001:db8:2::2") -> Record:
    home_address = f"2001:db8:99::{number + 0x100:x}"
    if care_of is None:
        return Record(home_address, sequence)
    update = BindingUpdate(care_of, "2001:db8:99::1", home_address, care_of, sequence or 0, 60, link_local=True)
    return Record(home_address, sequence, update, 60, Timestamp(1_000_060.125, 160.5, "this boot"))


def write(path: Path, *records: Record) -> None:
    """Write one record after the other, each with a commit of its own, as a process that is then killed."""
    journal = Journal(path)
    known = dict(journal.records)
    for each in records:
        known[each.home_address] = each
        journal.record(each)
        journal.commit(lambda: list(known.values()))
    journal.close()


def read(path: Path) -> Journal:
    journal = Journal(path)
    journal.close()
    return journal


def test_what_was_committed_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, record(1), record(2, sequence=None), record(1, sequence=2), record(3), record(3, 4, care_of=None))
    journal = read(path)
    assert journal.damages == []
    assert journal.records == {
        r.home_address: r for r in (record(1, sequence=2), record(2, sequence=None), record(3, 4, care_of=None))
    }
    assert path.stat().st_mode & 0o077 == 0


def test_mobile_networks_are_found_again(tmp_path: Path) -> None:
    plain = record(1)
    assert plain.update is not None
    networks = ("2001:db8:aa:1::/64", "2001:db8:aa:2::/64")
    router = replace(plain, update=replace(plain.update, mobile_router=True, mobile_networks=networks))
    write(tmp_path / "journal", router)
    journal = read(tmp_path / "journal")
    assert (journal.damages, journal.records) == ([], {router.home_address: router})


def test_a_home_address_of_which_nothing_is_left_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, record(1, sequence=None), record(1, sequence=None, care_of=None))
    read(path)
    assert path.read_bytes() == HEADER


def test_nothing_is_on_the_disk_before_the_commit(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.record(record(1))
    journal.close()
    assert read(path).records == {}


@given(st.data())
def test_whatever_a_crash_cuts_off_the_whole_records_count(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    write(path, *(record(number) for number in range(5)))
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    journal = read(path)
    whole = max(content[:cut].count(b"\n") - 1, 0)
    # Without its line feed a record is whole all the same: its checksum says so.
    assert len(journal.records) in (whole, whole + 1)
    assert list(journal.records.values()) == [record(number) for number in range(len(journal.records))]
    # And it goes on from there: nothing is appended to half a line.
    write(path, record(9))
    after = read(path)
    assert after.damages == []
    assert after.records == journal.records | {record(9).home_address: record(9)}


@given(st.integers(0, 2**32))
def test_a_spoilt_byte_costs_the_records_of_its_line_alone(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    write(path, *(record(number) for number in range(5)))
    content = bytearray(path.read_bytes())
    rng = random.Random(seed)
    position = rng.randrange(len(content))
    content[position] ^= rng.randrange(1, 256)
    path.write_bytes(content)
    journal = read(path)
    assert journal.damages
    assert len(journal.records) >= 3  # a line feed that is gone makes one line of two
    assert all(found == record(int(address[-1], 16)) for address, found in journal.records.items())
    assert path.with_name("journal.damaged").read_bytes() == content
    assert read(path).damages == []


def test_zeroes_after_a_power_failure_are_an_empty_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(bytes(4096))
    journal = read(path)
    assert journal.records == {}
    assert [damage.reason for damage in journal.damages] == ["4096 zero bytes instead of a journal"]


def test_a_file_of_somebody_elses_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "passwd"
    path.write_text("root:x:0:0\n")
    with pytest.raises(JournalError, match="passwd: not a journal of hoaflow-ha"):
        Journal(path)
    assert path.read_text() == "root:x:0:0\n"


def test_it_does_not_grow_with_every_refresh(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, record(1))
    size = path.stat().st_size - len(HEADER)
    journal = Journal(path)
    for number in range(3 * SLACK):
        journal.record(record(1, sequence=number % 10))
        journal.commit(lambda: [record(1)])
        assert path.stat().st_size <= len(HEADER) + size * (SLACK + 4)
    journal.close()
    assert read(path).records == {record(1).home_address: record(1)}


def test_while_it_is_open_nobody_else_reads_it(tmp_path: Path) -> None:
    """A second home agent is refused by the namespace's lock, too, but only after it has read the journal."""
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.record(record(1))
    journal.commit(lambda: [])
    with pytest.raises(JournalError, match="journal: another hoaflow-ha uses it"):
        Journal(path)
    journal.record(record(2))
    assert journal.commit(lambda: [])
    journal.close()
    assert read(path).records == {r.home_address: r for r in (record(1), record(2))}


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("yesterday")),
        lambda path: path.with_name("backup").write_bytes(HEADER) and path.with_name("backup").replace(path),
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, path.stat().st_size - 1),
    ],
    ids=["removed", "moved away", "replaced", "emptied", "cut short"],
)
def test_a_file_that_somebody_changes_is_written_anew_with_the_next_record(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.record(record(1))
    assert journal.commit(lambda: [])
    change(path)
    journal.record(record(2))
    assert not journal.commit(lambda: [record(1), record(2)])
    journal.record(record(3))
    assert journal.commit(lambda: [])
    journal.close()
    found = read(path)
    assert (found.damages, list(found.records.values())) == ([], [record(1), record(2), record(3)])


def test_a_full_disk_is_told_and_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.record(record(1))
    journal.commit(lambda: [])
    full, write = os.open("/dev/full", os.O_WRONLY), os.write
    journal.record(record(2))
    with monkeypatch.context() as filled:
        filled.setattr(os, "write", lambda _, data: write(full, data))
        with pytest.raises(OSError, match="No space left"):
            journal.commit(lambda: [])
    os.close(full)
    journal.commit(lambda: [record(1), record(2)])
    journal.close()
    assert read(path).records == {r.home_address: r for r in (record(1), record(2))}
    assert not path.with_name("journal.new").exists()


def test_a_full_disk_costs_memory_for_each_home_address_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    for sequence in range(50):
        for number in range(20):
            journal.record(record(number, sequence))
    assert journal.unwritten == 20
    journal.commit(lambda: [])
    journal.close()
    assert read(tmp_path / "journal").records == {r.home_address: r for r in (record(n, 49) for n in range(20))}
