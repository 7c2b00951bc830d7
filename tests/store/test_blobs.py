"""Blobs: whole or absent, stored once, swept when nobody names them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lambent.store.blobs import Blobs


def test_blob_is_found_by_its_hash_and_stored_once(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    digest = blobs.put(b"content")
    assert digest == hashlib.sha256(b"content").hexdigest() == blobs.put(b"content")
    assert blobs.read(digest) == b"content" and digest in blobs
    assert [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == [digest]


def test_sweep_removes_half_written_and_unnamed_blobs_only(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    kept, unnamed = blobs.put(b"kept"), blobs.put(b"unnamed")
    half = blobs.path(kept).with_name(".tmp-0123")
    half.write_bytes(b"ke")
    assert blobs.sweep({kept}) == 1
    assert kept in blobs and unnamed not in blobs and not half.exists()


@pytest.mark.parametrize("digest", ["", "x" * 64, "../" + "a" * 61, "A" * 64])
def test_what_is_no_hash_names_no_file(tmp_path: Path, digest: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        Blobs(tmp_path).path(digest)
