"""Why a program cannot be executed, from what its file says."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from lambent.runtimes.launching import launch_problem

OTHER_MACHINE = 183 if os.uname().machine == "x86_64" else 62


def elf(machine: int | None, loader: bytes = b"") -> bytes:
    """The head of a 64-bit program with at most one segment, which names its loader."""
    own = {"x86_64": 62, "aarch64": 183}[os.uname().machine]
    head = bytearray(64)
    head[:4] = b"\x7fELF"
    struct.pack_into("<H", head, 18, own if machine is None else machine)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, 1 if loader else 0)
    return bytes(head) + struct.pack("<IIQ", 3, 4, 120) + bytes(40) + loader + b"\0"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"#!/bin/sh\necho hello\n", ""),
        (b"#! /bin/sh -e\n", ""),
        (b"#!/usr/bin/env python3\n", ""),
        (b"#!/bin/sh\r\necho hello\r\n", "no such file or directory"),
        (b"#!/bin/no-such-shell\n", "no such file or directory"),
        (b"#!/etc/passwd\n", "permission denied"),
        (b"#!/opt/bin/python\n", ""),
        (b"#!\n", "exec format error"),
        (b"echo hello\n", "exec format error"),
        (b"", "exec format error"),
        (elf(None), ""),
        (elf(None, b"/bin/sh"), ""),
        (elf(None, b"/lib/ld-no-such-libc.so.1"), "no such file or directory"),
        (elf(OTHER_MACHINE), "exec format error"),
        (b"\x7fELF", "exec format error"),
    ],
)
def test_the_file_tells_the_reason(tmp_path: Path, content: bytes, problem: str) -> None:
    file = tmp_path / "bootstrap"
    file.write_bytes(content)
    file.chmod(0o755)
    assert launch_problem(file) == problem


def test_the_programs_of_this_host_can_be_executed() -> None:
    assert [launch_problem(Path(program)) for program in ("/bin/sh", "/usr/bin/env")] == ["", ""]


def test_a_file_that_nobody_may_execute(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap"
    file.write_bytes(b"#!/bin/sh\n")
    assert launch_problem(file) == "permission denied"
