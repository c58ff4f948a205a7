# SPDX-License-Identifier: Apache-2.0
"""Entries with a moment of their own are found when it comes, at no cost for the others."""

from hoaflow.mobility.entries import AT_ONCE, Entries


class Entry:
    """An entry that counts how often it is looked at."""

    looks = 0

    def __init__(self, due: float) -> None:
        self._due = due

    @property
    def due(self) -> float:
        Entry.looks += 1
        return self._due


def test_each_entry_is_found_once_when_it_is_due() -> None:
    entries: Entries[Entry] = Entries()
    first, second = entries.put("first", Entry(1.0)), entries.put("second", Entry(2.0))
    assert (entries.due(0.875), entries.next_due()) == ([], 1.0)
    assert entries.due(1.0) == [first]
    assert entries.due(1.5) == []
    assert entries.due(9.0) == [second]
    assert (entries.due(9.0), entries.next_due()) == ([], None)


def test_an_entry_that_is_put_off_or_removed_is_not_found_before() -> None:
    entries: Entries[Entry] = Entries()
    for key in ("later", "gone"):
        entries.put(key, Entry(1.0))
    later = entries.put("later", Entry(5.0))
    entries.remove("gone")
    assert entries.due(1.0) == []
    assert list(entries) == [later]
    assert entries.due(5.0) == [later]


def test_an_entry_may_be_brought_forward() -> None:
    entries: Entries[Entry] = Entries()
    entries.put("one", Entry(5.0))
    sooner = entries.put("one", Entry(1.0))
    assert entries.due(1.0) == [sooner]
    assert entries.due(5.0) == []


def test_what_is_due_all_at_once_comes_in_portions() -> None:
    entries: Entries[Entry] = Entries()
    for number in range(AT_ONCE + 1):
        entries.put(str(number), Entry(1.0))
    assert (len(entries.due(1.0)), len(entries.due(1.0))) == (AT_ONCE, 1)


def test_entries_that_are_not_due_are_not_looked_at() -> None:
    entries: Entries[Entry] = Entries()
    for number in range(10_000):
        entries.put(str(number), Entry(1000.0 + number))
    Entry.looks = 0
    for now in range(1000):
        entries.due(float(now))
        entries.next_due()
    assert Entry.looks == 0


def test_who_reads_all_entries_gets_those_of_that_moment() -> None:
    entries: Entries[Entry] = Entries()
    first = entries.put("first", Entry(1.0))
    reading = iter(entries)
    entries.put("second", Entry(2.0))
    entries.remove("first")
    assert list(reading) == [first]
