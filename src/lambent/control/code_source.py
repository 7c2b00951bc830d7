"""Where code comes from: a zip in the request or an object in S3, judged, kept and unpacked before a change."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from lambent.control.context import Context, not_served
from lambent.errors import invalid_parameter
from lambent.limits import UNZIPPED_BYTES, ZIPPED_BYTES
from lambent.worker.packages import validate_zip

_FROM_BUCKET = ("S3Bucket", "S3Key", "S3ObjectVersion")


def check_source(code: Mapping[str, Any], what: str) -> None:
    """Exactly one source; `what` says of what. Raises ApiError."""
    bucket = [member for member in _FROM_BUCKET if code.get(member)]
    if "ZipFile" in code:
        if bucket or "ImageUri" in code:
            raise invalid_parameter(f"Please do not provide other {what} parameters when providing a ZipFile.")
        return
    if "ImageUri" in code:
        raise invalid_parameter("Please don't provide ImageUri when updating a function with packageType Zip.")
    if not bucket:
        raise invalid_parameter("Please provide a source for function code.")
    if "S3Bucket" not in bucket or "S3Key" not in bucket:
        raise invalid_parameter("S3Bucket and S3Key are needed together.")


@asynccontextmanager
async def stored(context: Context, code: Mapping[str, Any]) -> AsyncIterator[tuple[str, int]]:
    """Keep a zip as a blob and unpack it, both at once, in threads; gives its digest and its size in bytes.

    Raises ApiError for code that cannot be fetched, and for a zip that is refused. It is unpacked already here because
    only that shows a broken stream or checksum, which the caller is to hear of. Within the context it is held; what no
    row names by its end is free to be collected.
    """
    content: bytes = code["ZipFile"] if "ZipFile" in code else await _fetch(context, code)
    # An object in S3 may be larger than a request (quotas page).
    await asyncio.to_thread(validate_zip, content, ZIPPED_BYTES if "ZipFile" in code else UNZIPPED_BYTES)
    sha256 = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
    with context.store.blobs.references.held([sha256]):
        kept = asyncio.to_thread(context.store.blobs.put, content, sha256)
        for ended in await asyncio.gather(kept, context.packages.unpack(sha256, content), return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended
        yield sha256, len(content)


async def _fetch(context: Context, code: Mapping[str, Any]) -> bytes:
    if context.s3 is None:
        raise not_served("Code from S3 without the setting s3_endpoint")
    return await asyncio.to_thread(context.s3.get, code["S3Bucket"], code["S3Key"], code.get("S3ObjectVersion"),
                                   context.region)  # fmt: skip
