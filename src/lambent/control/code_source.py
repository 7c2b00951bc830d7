"""Where code comes from: the zip in a request, judged, kept and unpacked before a change names it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lambent.control.context import Context
from lambent.worker.packages import validate_zip


@asynccontextmanager
async def stored(context: Context, content: bytes) -> AsyncIterator[str]:
    """Keep a zip as a blob and unpack it, in threads; gives its digest. Raises ApiError for a zip that is refused.

    It is unpacked already here because only that shows a broken stream or checksum, which the caller is to hear of.
    Within the context it is held; what no row names by its end is free to be collected.
    """
    await asyncio.to_thread(validate_zip, content)
    sha256 = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
    with context.store.blobs.references.held([sha256]):
        await asyncio.to_thread(context.store.blobs.put, content)
        await context.packages.unpack(sha256)
        yield sha256
