# SPDX-License-Identifier: Apache-2.0
"""Assemble BPF programs from readable instructions with labels. Pure, no I/O.

Only what the tunnel program needs. Instructions: RFC 9669; helper functions: bpf-helpers(7). For little-endian hosts.
"""

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

INSTRUCTION = struct.Struct("<BBhi")
PSEUDO_MAP_FD = 1


class Register(IntEnum):
    """R0 has results, R1 to R5 have arguments and are lost in calls, R6 to R9 are kept, FP ends the stack."""

    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)


class Helper(IntEnum):
    """Functions of the kernel that a program may call."""

    MAP_LOOKUP = 1
    RANDOM = 7
    STORE_BYTES = 9
    LOAD_BYTES = 26
    CHECKSUM_DIFFERENCE = 28
    ADJUST_ROOM = 50
    SET_CONGESTION_EXPERIENCED = 97


class Size(IntEnum):
    """How much is loaded or stored: 4 octets, 2, or 1."""

    WORD, HALF, BYTE = 0x00, 0x08, 0x10


class Instruction(NamedTuple):
    """An instruction; a jump names its `target`. A `label` alone is none, but a place to jump to."""

    code: int = 0
    dst: int = 0
    src: int = 0
    offset: int = 0
    immediate: int = 0
    target: str = ""
    label: str = ""


def label(name: str) -> Instruction:
    """Name the place of the next instruction."""
    return Instruction(label=name)


def move(dst: Register, source: Register | int) -> Instruction:
    """Dst := source."""
    return _arithmetic(0xB0, dst, source)


def add(dst: Register, source: Register | int) -> Instruction:
    """Dst += source."""
    return _arithmetic(0x00, dst, source)


def and_(dst: Register, source: Register | int) -> Instruction:
    """Dst &= source."""
    return _arithmetic(0x50, dst, source)


def or_(dst: Register, source: Register | int) -> Instruction:
    """Dst |= source."""
    return _arithmetic(0x40, dst, source)


def xor(dst: Register, source: Register | int) -> Instruction:
    """Dst ^= source."""
    return _arithmetic(0xA0, dst, source)


def shift_right(dst: Register, bits: int) -> Instruction:
    """Dst >>= bits, without sign."""
    return _arithmetic(0x70, dst, bits)


def to_network_order(dst: Register) -> Instruction:
    """Dst := the 16 bits of dst in network order, or back."""
    return Instruction(0xDC, dst, immediate=16)


def load(dst: Register, base: Register, offset: int, size: Size = Size.WORD) -> Instruction:
    """Dst := what is at base + offset."""
    return Instruction(0x61 | size, dst, base, offset)


def store(base: Register, offset: int, source: Register | int, size: Size = Size.WORD) -> Instruction:
    """Store source at base + offset."""
    if isinstance(source, Register):
        return Instruction(0x63 | size, base, source, offset)
    return Instruction(0x62 | size, base, offset=offset, immediate=_signed(source))


def jump(target: str) -> Instruction:
    """Go to a label."""
    return Instruction(0x05, target=target)


def jump_if_equal(register: Register, value: int, target: str) -> Instruction:
    """Go to a label if the register has this value."""
    return Instruction(0x15, register, immediate=value, target=target)


def jump_unless_equal(register: Register, value: Register | int, target: str) -> Instruction:
    """Go to a label unless the register has this value."""
    if isinstance(value, Register):
        return Instruction(0x5D, register, value, target=target)
    return Instruction(0x55, register, immediate=value, target=target)


def call(helper: Helper) -> Instruction:
    """R0 := helper(R1, …)."""
    return Instruction(0x85, immediate=helper)


def map_address(dst: Register, descriptor: int) -> list[Instruction]:
    """Dst := the map that this process has open by this descriptor."""
    return [Instruction(0x18, dst, PSEUDO_MAP_FD, immediate=descriptor), Instruction()]


EXIT = Instruction(0x95)


def assemble(program: Iterable[Instruction]) -> bytes:
    """Return the program's code. Raises KeyError for a jump to a label that is not there."""
    instructions: list[Instruction] = []
    places: dict[str, int] = {}
    for each in program:
        if each.label:
            places[each.label] = len(instructions)
        else:
            instructions.append(each)
    return b"".join(
        INSTRUCTION.pack(
            each.code,
            each.dst | each.src << 4,
            places[each.target] - index - 1 if each.target else each.offset,
            each.immediate,
        )
        for index, each in enumerate(instructions)
    )


def _arithmetic(operation: int, dst: Register, source: Register | int) -> Instruction:
    if isinstance(source, Register):
        return Instruction(0x0F | operation, dst, source)
    return Instruction(0x07 | operation, dst, immediate=source)


def _signed(value: int) -> int:
    """Return 32 bits as the signed number that an instruction holds."""
    return value - (1 << 32) if value >> 31 > 0 else value
