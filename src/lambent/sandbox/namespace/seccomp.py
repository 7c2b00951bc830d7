"""The guests' system call filter: an allow-list, compiled here to the bytes that seccomp(2) takes.

Answers: allowed; EPERM for what is refused by name (`syscalls.REFUSED`); "not implemented" for everything else,
clone3 included, because a filter cannot look into its structure and libraries then use clone, whose flags are
checked; death for another architecture's calls (32-bit entry), which no honest program makes here. Process 1 loads
the filter into each guest right before exec (`init.c`). The source of the selection: records 5b.9 and the default
profiles of container engines, read for what they refuse.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from lambent.sandbox.namespace import syscalls

Instruction = tuple[int, int, int, int]

# linux/bpf_common.h: load absolute word, jumps, return
_LOAD, _JUMP, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x05, 0x15, 0x35, 0x45, 0x06
# linux/seccomp.h
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
# struct seccomp_data: number, architecture, instruction pointer, six 64-bit arguments (low word first)
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16

#: machine as `platform.machine()` has it -> audit architecture, table, whether the x32 bit exists
ARCHITECTURES: Mapping[str, tuple[int, Mapping[str, int], bool]] = {
    "x86_64": (0xC000003E, syscalls.X86_64, True),
    "aarch64": (0xC00000B7, syscalls.AARCH64, False),
}
_X32_BIT = 0x40000000

#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_NAMESPACE_FLAGS = 0x7E020000
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK, _NETLINK_ROUTE = 1, 2, 10, 16, 0
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
#: PER_LINUX, and the value that only asks
_PERSONALITIES = (0, 0xFFFFFFFF)


def compile_filter(machine: str, allowed: frozenset[str] = syscalls.ALLOWED) -> bytes:
    """An array of struct sock_filter; empty for a machine whose numbers are not known."""
    if machine not in ARCHITECTURES:
        return b""
    architecture, numbers, has_x32 = ARCHITECTURES[machine]
    program: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_JEQ, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    if has_x32:
        program += [(_JGE, 0, 1, _X32_BIT), _errno(EPERM)]
    program += _search(_ranges(_answers(numbers, allowed)))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def _answers(numbers: Mapping[str, int], allowed: frozenset[str]) -> dict[int, tuple[Instruction, ...]]:
    """System call number -> the instructions that answer it, each path ending in a return."""
    answers: dict[int, tuple[Instruction, ...]] = {}
    for name, number in numbers.items():
        if name in allowed:
            answers[number] = _CHECKS.get(name, ((_RETURN, 0, 0, _ALLOW),))
        elif name in syscalls.REFUSED:
            answers[number] = (_errno(EPERM),)
    return answers


def _errno(number: int) -> Instruction:
    return (_RETURN, 0, 0, _ERRNO | number)


def _argument(index: int) -> Instruction:
    """Load the low 32 bits; the kernel takes these arguments as int, so the high bits cannot matter."""
    return (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * index)


def _one_of(index: int, values: tuple[int, ...], found: Instruction, other: Instruction) -> tuple[Instruction, ...]:
    tests = [(_JEQ, len(values) - place, 0, value) for place, value in enumerate(values)]
    return (_argument(index), *tests, other, found)


_YES: Instruction = (_RETURN, 0, 0, _ALLOW)
_CHECKS: Mapping[str, tuple[Instruction, ...]] = {
    "clone": (_argument(0), (_JSET, 0, 1, _NAMESPACE_FLAGS), _errno(EPERM), _YES),
    "ioctl": _one_of(1, (_TIOCSTI, _TIOCLINUX), found=_errno(EPERM), other=_YES),
    "personality": _one_of(0, _PERSONALITIES, found=_YES, other=_errno(EPERM)),
    "socket": (
        _argument(0),
        (_JEQ, 6, 0, _AF_UNIX),
        (_JEQ, 5, 0, _AF_INET),
        (_JEQ, 4, 0, _AF_INET6),
        (_JEQ, 0, 2, _AF_NETLINK),
        _argument(2),
        (_JEQ, 1, 0, _NETLINK_ROUTE),
        _errno(EAFNOSUPPORT),
        _YES,
    ),
}


def _ranges(answers: Mapping[int, tuple[Instruction, ...]]) -> list[tuple[int, tuple[Instruction, ...]]]:
    """(first number, answer) in order, each up to the next one; numbers without an answer are not implemented."""
    missing = (_errno(ENOSYS),)
    ranges: list[tuple[int, tuple[Instruction, ...]]] = [(0, answers.get(0, missing))]
    for number in range(1, max(answers) + 2):
        answer = answers.get(number, missing)
        if answer != ranges[-1][1]:
            ranges.append((number, answer))
    return ranges


def _search(ranges: list[tuple[int, tuple[Instruction, ...]]]) -> list[Instruction]:
    """A balanced tree, since a kernel before 5.11 runs the filter for every system call."""
    if len(ranges) == 1:
        return list(ranges[0][1])
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    pivot = ranges[middle][0]
    if len(below) <= 255:
        return [(_JGE, len(below), 0, pivot), *below, *above]
    return [(_JGE, 0, 1, pivot), (_JUMP, 0, 0, len(below)), *below, *above]
