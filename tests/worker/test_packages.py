"""Packages: unpacked once, whole, read-only; hostile archives refused without a trace."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambent.errors import ApiError
from lambent.limits import UNZIPPED_BYTES, ZIPPED_BYTES
from lambent.store.blobs import Blobs
from lambent.worker import packages
from lambent.worker.packages import PackageStore, validate_zip

UNREADABLE = "Could not unzip uploaded file. Please check your file, then try to upload again."


def archive(*entries: tuple[str, bytes, int]) -> bytes:
    """A zip of entries (name, content, mode with file type)."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as zipped:
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = mode << 16
            zipped.writestr(entry, content)
    return target.getvalue()


def regular(name: str, content: bytes = b"x", mode: int = 0o644) -> tuple[str, bytes, int]:
    return (name, content, stat.S_IFREG | mode)


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for path in root.rglob("*"):
        content = b"" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(root))] = (stat.S_IMODE(path.stat().st_mode), content)
    return found


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


async def test_package_is_unpacked_with_its_modes_readable_and_not_writable(tmp_path: Path, blobs: Blobs) -> None:
    content = archive(
        regular("app.py", b"code"), regular("bin/run", b"#!", 0o700), ("empty/", b"", stat.S_IFDIR | 0o700),
        regular("./a//b", b"old"), regular("a/b", b"new", 0o600), regular("setuid", b"", 0o4755),
    )  # fmt: skip
    store = PackageStore(tmp_path, blobs)
    root = await store.unpack(blobs.put(content))
    assert tree(root) == {
        "app.py": (0o444, b"code"), "bin": (0o555, b""), "bin/run": (0o555, b"#!"), "empty": (0o555, b""),
        "a": (0o555, b""), "a/b": (0o444, b"new"), "setuid": (0o555, b""),
    }  # fmt: skip
    assert stat.S_IMODE(root.stat().st_mode) == 0o555


async def test_package_at_hand_is_unpacked_before_its_blob_is_kept(tmp_path: Path, blobs: Blobs) -> None:
    content = archive(regular("app.py", b"code"))
    store = PackageStore(tmp_path, blobs)
    digest = hashlib.sha256(content).hexdigest()
    root = await store.unpack(digest, content)
    assert tree(root) == {"app.py": (0o444, b"code")} and digest not in blobs
    assert blobs.put(content, digest) == digest and blobs.read(digest) == content
    assert await store.unpack(digest) == root


async def test_many_callers_share_one_unpacking(tmp_path: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = packages._unpack

    def counted(blob: Path, folder: Path) -> None:
        calls.append(blob)
        real(blob, folder)

    monkeypatch.setattr(packages, "_unpack", counted)
    store = PackageStore(tmp_path, blobs)
    digest = blobs.put(archive(regular("app.py")))
    waiting = [asyncio.create_task(store.unpack(digest)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError) and len(set(results[1:])) == 1
    assert await store.unpack(digest) == results[1] and len(calls) == 1


HOSTILE = {
    "leads out": archive(regular("../../evil")),
    "leads out in the middle": archive(regular("a/../../evil")),
    "absolute": archive(regular("/etc/evil")),
    "drive": archive(regular("C:/evil")),
    "backslash": archive(regular("..\\evil")),
    "link": archive(("link", b"/etc/passwd", stat.S_IFLNK | 0o777)),
    "device": archive(("null", b"", stat.S_IFCHR | 0o666)),
    "pipe": archive(("pipe", b"", stat.S_IFIFO | 0o666)),
    "file and directory": archive(regular("a"), regular("a/b")),
    "long name": archive(regular("a" * 256)),
    "long path": archive(regular("/".join(["a" * 200] * 20))),
    "nothing": archive(),
    "no zip": b"this is no zip",
    "empty": b"",
    "cut off": archive(regular("app.py", os.urandom(500)))[:300],
}


@pytest.mark.parametrize("situation", HOSTILE)
async def test_hostile_archives_are_refused_when_sent_and_when_unpacked(
    tmp_path: Path, blobs: Blobs, situation: str
) -> None:
    content = HOSTILE[situation]
    with pytest.raises(ApiError) as caught:
        validate_zip(content)
    assert caught.value.code == "InvalidParameterValueException"
    assert caught.value.message.startswith((UNREADABLE, "Uploaded file must be a non-empty zip"))
    store = PackageStore(tmp_path, blobs)
    with pytest.raises(ApiError):
        await store.unpack(blobs.put(content))
    assert [path.name for path in (tmp_path / "packages").iterdir()] == [".boot"]


async def test_bombs_are_refused_by_their_directory_and_by_what_comes_out(
    tmp_path: Path, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ApiError, match=f"Zipped size must be smaller than {ZIPPED_BYTES} bytes") as caught:
        validate_zip(bytes(ZIPPED_BYTES + 1))
    assert caught.value.status == 413
    # A directory that lies about the size: the stream is cut at what is allowed, or does not match and is refused.
    monkeypatch.setattr(packages, "UNZIPPED_BYTES", 1000)
    with pytest.raises(ApiError, match=f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes"):
        validate_zip(archive(regular("zeros", bytes(5000))))
    lying = archive(regular("zeros", bytes(5000))).replace(struct.pack("<I", 5000), struct.pack("<I", 10))
    validate_zip(lying)
    store = PackageStore(tmp_path, blobs)
    with pytest.raises(ApiError):
        await store.unpack(blobs.put(lying))
    assert [path.name for path in (tmp_path / "packages").iterdir()] == [".boot"]


async def test_broken_stream_is_refused_without_a_trace(tmp_path: Path, blobs: Blobs) -> None:
    content = bytearray(archive(regular("first"), regular("app.py", os.urandom(5000))))
    content[200] ^= 0xFF
    validate_zip(bytes(content))
    store = PackageStore(tmp_path, blobs)
    with pytest.raises(ApiError, match="Could not unzip"):
        await store.unpack(blobs.put(bytes(content)))
    assert [path.name for path in (tmp_path / "packages").iterdir()] == [".boot"]


async def test_missing_blob_is_told_and_tried_again(tmp_path: Path, blobs: Blobs) -> None:
    store = PackageStore(tmp_path, blobs)
    content = archive(regular("app.py"))
    digest = blobs.put(content)
    for path in blobs.take_away(digest):
        path.unlink()
    with pytest.raises(FileNotFoundError):
        await store.unpack(digest)
    blobs.put(content)
    assert (await store.unpack(digest)).is_dir()


async def test_start_discards_half_made_directories_and_those_of_an_earlier_boot(tmp_path: Path, blobs: Blobs) -> None:
    digest = blobs.put(archive(regular("a/b/app.py")))
    root = await PackageStore(tmp_path, blobs).unpack(digest)
    half = root.with_name(".tmp-half")
    (half / "a").mkdir(parents=True)
    (half / "a").chmod(0o555)
    PackageStore(tmp_path, blobs)
    assert root.is_dir() and not half.exists()
    (root.parent / ".boot").write_text("another boot")
    PackageStore(tmp_path, blobs)
    assert not root.exists()


async def test_collecting_removes_what_is_not_in_use(tmp_path: Path, blobs: Blobs) -> None:
    store = PackageStore(tmp_path, blobs)
    kept, unused = [await store.unpack(blobs.put(archive(regular(name)))) for name in ("kept", "unused")]
    assert await store.collect({kept.name}) == 1
    assert kept.is_dir() and not unused.exists()
    assert sorted(path.name for path in kept.parent.iterdir()) == sorted([".boot", kept.name])
    assert (await store.unpack(unused.name)).is_dir()


@given(st.binary(max_size=200), st.integers(0, 400), st.binary(min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_validation_fail_otherwise_than_with_an_api_error(noise: bytes, at: int, patch: bytes) -> None:
    whole = archive(regular("a/app.py", b"content" * 10), regular("b"))
    at %= len(whole)
    for content in (noise, whole[:at] + patch + whole[at + len(patch) :], whole[:at], noise + whole):
        try:
            validate_zip(content)
        except ApiError as error:
            assert error.status in (400, 413)
