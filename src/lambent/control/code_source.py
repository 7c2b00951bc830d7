"""Where a function's code comes from: the zip in the request, judged, kept and unpacked before a change."""

from __future__ import annotations

import asyncio

from lambent.control.context import Context
from lambent.errors import ApiError
from lambent.worker.packages import validate_zip


async def store_code(context: Context, content: bytes) -> str:
    """Keep a zip as a blob and unpack it, in threads; returns its digest. Raises ApiError for a zip that is refused.

    It is unpacked already here because only that shows a broken stream or checksum, which the caller is to hear of.
    """
    await asyncio.to_thread(validate_zip, content)
    sha256 = await asyncio.to_thread(context.store.blobs.put, content)
    try:
        await context.packages.unpack(sha256)
    except ApiError:
        await asyncio.to_thread(context.store.blobs.discard, sha256)
        raise
    return sha256
