"""Pages of lists that are in memory: Marker and MaxItems in, NextMarker out.

A marker names the last item of the page before, so pages stay right when items come and go between them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, TypeVar

from lambent.errors import invalid_parameter

T = TypeVar("T")

#: Items on one page, whatever MaxItems says (API reference).
PAGE = 50


def page(items: Iterable[T], key: Callable[[T], str], params: Mapping[str, Any]) -> tuple[list[T], dict[str, str]]:
    """The page that the parameters ask for, and the answer's `NextMarker` if there are more; `items` sorted by key.

    Raises ApiError for a marker that no list gave.
    """
    after = read_marker(params)
    limit = size(params)
    found = list(islice((item for item in items if key(item) > after), limit + 1))
    return found[:limit], next_marker(key(found[limit - 1])) if len(found) > limit else {}


def size(params: Mapping[str, Any]) -> int:
    """How many items a page may have."""
    return min(int(params.get("MaxItems", PAGE)), PAGE)


def read_marker(params: Mapping[str, Any]) -> str:
    """The key after which the page begins; empty for the first one."""
    try:
        return base64.b64decode(params.get("Marker") or "", altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError, ValueError):
        raise invalid_parameter("The marker is not one that a list gave.") from None


def next_marker(key: str) -> dict[str, str]:
    return {"NextMarker": base64.urlsafe_b64encode(key.encode()).decode()}
