"""The system call filter, run by a small interpreter of the kernel's instructions."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambent.sandbox.namespace import seccomp, syscalls

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS, EAFNOSUPPORT = 0x50001, 0x50026, 0x50061
MACHINES = tuple(seccomp.ARCHITECTURES)


def answer(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel does with this call: a return value of the filter."""
    words = [number, architecture, 0, 0]
    for argument in (*arguments, *[0] * (6 - len(arguments))):
        words += [argument & 0xFFFFFFFF, argument >> 32]
    instructions = list(struct.iter_unpack("<HBBI", program))
    place = accumulator = 0
    while True:
        code, if_true, if_false, value = instructions[place]
        place += 1
        if code == 0x20:
            accumulator = words[value // 4]
        elif code == 0x06:
            return int(value)
        elif code == 0x05:
            place += value
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            place += if_true if holds else if_false


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ask(machine: str, name: str, *arguments: int) -> int:
    architecture, numbers, _ = seccomp.ARCHITECTURES[machine]
    return answer(seccomp.compile_filter(machine), architecture, numbers[name], *arguments)


def test_every_call_gets_the_answer_of_its_list(machine: str) -> None:
    architecture, numbers, _ = seccomp.ARCHITECTURES[machine]
    program = seccomp.compile_filter(machine)
    by_number = {number: name for name, number in numbers.items()}
    for number in range(520):
        name = by_number.get(number)
        got = answer(program, architecture, number)
        if name in syscalls.REFUSED:
            assert got == EPERM, name
        elif name == "socket":
            assert got == EAFNOSUPPORT
        elif name is not None:
            assert got == ALLOW, name
        else:
            assert got == ENOSYS, number


def test_clone3_is_not_implemented_so_that_flags_stay_visible(machine: str) -> None:
    architecture, _, _ = seccomp.ARCHITECTURES[machine]
    assert answer(seccomp.compile_filter(machine), architecture, 435) == ENOSYS


@pytest.mark.parametrize("flag", [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
def test_clone_may_make_threads_and_processes_but_no_namespaces(machine: str, flag: int) -> None:
    assert ask(machine, "clone", 17) == ALLOW
    assert ask(machine, "clone", 0x3D0F00) == ALLOW
    assert ask(machine, "clone", flag | 17) == EPERM


def test_sockets_of_the_internet_unix_and_routing_kind_only(machine: str) -> None:
    for domain in (1, 2, 10):
        assert ask(machine, "socket", domain, 1, 0) == ALLOW
    assert ask(machine, "socket", 16, 3, 0) == ALLOW
    for domain, protocol in ((16, 12), (16, 9), (17, 0), (38, 0), (40, 0), (44, 0)):
        assert ask(machine, "socket", domain, 3, protocol) == EAFNOSUPPORT
    assert ask(machine, "socket", 1 << 32 | 17) == EAFNOSUPPORT  # the high half is not looked at by the kernel


def test_terminals_cannot_be_written_into(machine: str) -> None:
    assert ask(machine, "ioctl", 0, 0x5401) == ALLOW
    assert ask(machine, "ioctl", 0, 0x5412) == EPERM
    assert ask(machine, "ioctl", 0, 1 << 32 | 0x541C) == EPERM


def test_the_personality_can_be_asked_for_and_not_changed(machine: str) -> None:
    assert ask(machine, "personality", 0xFFFFFFFF) == ALLOW
    assert ask(machine, "personality", 0) == ALLOW
    assert ask(machine, "personality", 0x40000) == EPERM


def test_other_architectures_die(machine: str) -> None:
    program = seccomp.compile_filter(machine)
    for other in (0x40000003, 0x40000028, 0xC0000016):
        assert answer(program, other, 39) == KILL


def test_the_x32_entry_is_refused() -> None:
    architecture, numbers, _ = seccomp.ARCHITECTURES["x86_64"]
    assert answer(seccomp.compile_filter("x86_64"), architecture, 0x40000000 | numbers["getpid"]) == EPERM


def test_no_call_is_on_both_lists_and_none_without_a_number() -> None:
    assert not syscalls.ALLOWED & syscalls.REFUSED
    assert syscalls.X86_64.keys() | syscalls.AARCH64.keys() == syscalls.ALLOWED | syscalls.REFUSED
    assert seccomp.compile_filter("riscv64") == b""


def _defined(path: Path, pattern: str) -> Iterator[tuple[str, int]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(pattern, line)
        if match:
            yield match[1], int(match[2])


@pytest.mark.parametrize(
    ("path", "pattern", "table"),
    [
        ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+)\s+(\d+)", syscalls.X86_64),
        ("/usr/include/asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+)\s+(\d+)", syscalls.AARCH64),
    ],
)
def test_numbers_are_those_of_the_kernels_headers(path: str, pattern: str, table: dict[str, int]) -> None:
    if not Path(path).exists():
        pytest.skip(f"needs {path}")
    known = dict(_defined(Path(path), pattern))
    known["newfstatat"] = known.get("newfstatat", known.get("fstatat", 0))
    assert {name: number for name, number in table.items() if name in known and known[name] != number} == {}
    assert len(table.keys() & known.keys()) > 250
