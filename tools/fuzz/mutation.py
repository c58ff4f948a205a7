# SPDX-License-Identifier: Apache-2.0
"""Mutate inputs by a seed, the same way on every machine: for the short run, without coverage."""

import random
from collections.abc import Callable, Iterator, Sequence

LARGEST = 4096  # bytes of a mutated input
_BYTES = (0, 1, 4, 8, 0x20, 0x7F, 0x80, 0xFF)


def mutations(corpus: Sequence[bytes], words: Sequence[bytes], count: int, seed: str) -> Iterator[bytes]:
    """Yield so many mutated inputs: each a few changes away from one of the corpus."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(corpus)[:LARGEST])
        for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
            chance.choice(_CHANGES)(data, chance, corpus, words)
        yield bytes(data[:LARGEST])


def _at(data: bytearray, chance: random.Random) -> int:
    return chance.randrange(len(data) + 1)


def _flip(data: bytearray, chance: random.Random, *_: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _set(data: bytearray, chance: random.Random, *_: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.choice(_BYTES)


def _resize(data: bytearray, chance: random.Random, *_: Sequence[bytes]) -> None:
    """Set two bytes, as if they were a length, to a little more or less or to an extreme."""
    at = _at(data, chance)
    order = chance.choice(("big", "little"))
    length = int.from_bytes(data[at : at + 2], "little" if order == "little" else "big")
    changed = chance.choice((length - 1, length + 1, length - 4, length + 4, 0, 1, 0xFFFF)) & 0xFFFF
    data[at : at + 2] = changed.to_bytes(2, "little" if order == "little" else "big")


def _delete(data: bytearray, chance: random.Random, *_: Sequence[bytes]) -> None:
    at = _at(data, chance)
    del data[at : at + chance.choice((1, 2, 4, 8, 40))]


def _repeat(data: bytearray, chance: random.Random, *_: Sequence[bytes]) -> None:
    at = _at(data, chance)
    data[at:at] = data[at : at + chance.choice((1, 4, 8, 40))] * chance.choice((1, 2, 20))


def _cut(data: bytearray, chance: random.Random, *_: Sequence[bytes]) -> None:
    del data[_at(data, chance) :]


def _insert(data: bytearray, chance: random.Random, _corpus: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = _at(data, chance)
    data[at:at] = chance.choice(words) if words else chance.randbytes(chance.choice((1, 2, 4)))


def _overwrite(data: bytearray, chance: random.Random, _corpus: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = _at(data, chance)
    word = chance.choice(words) if words else chance.randbytes(chance.choice((1, 2, 4)))
    data[at : at + len(word)] = word


def _splice(data: bytearray, chance: random.Random, corpus: Sequence[bytes], _words: Sequence[bytes]) -> None:
    other = chance.choice(corpus)
    data[_at(data, chance) :] = other[chance.randrange(len(other) + 1) :]


_CHANGES: tuple[Callable[..., None], ...] = (
    *(_flip, _flip, _set, _set, _resize, _resize, _delete, _repeat, _cut, _insert, _overwrite, _overwrite, _splice),
)
