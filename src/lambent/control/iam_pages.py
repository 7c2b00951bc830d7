"""Pages of IAM's lists: MaxItems and Marker in, IsTruncated and Marker out (IAM's API reference).

A marker names the last item of the page before, so pages stay right when items come and go between them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from lambent.control.query import Form, QueryError

T = TypeVar("T")

#: Items on a page that asks for no number, and the most that one may ask for.
USUAL, MOST = 100, 1000


def paged(form: Form, member: str, items: Iterable[T], key: Callable[[T], str]) -> dict[str, Any]:
    """An answer with the page that the form asks for, in the order of `key`, under the name of the member."""
    limit, after = _limit(form), _after(form)
    found = sorted((item for item in items if key(item) > after), key=key)
    page = found[:limit]
    if len(found) == len(page):
        return {member: page, "IsTruncated": False}
    return {member: page, "IsTruncated": True, "Marker": base64.urlsafe_b64encode(key(page[-1]).encode()).decode()}


def _limit(form: Form) -> int:
    text = form.get("MaxItems", str(USUAL))
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
        raise QueryError("MalformedInput", f"MaxItems is no whole number: {text[:40]}")
    limit = int(text)
    for wrong, bound in ((limit < 1, "greater than or equal to 1"), (limit > MOST, f"less than or equal to {MOST}")):
        if wrong:
            raise QueryError("ValidationError", f"1 validation error detected: Value '{limit}' at 'maxItems' failed to "
                             f"satisfy constraint: Member must have value {bound}")  # fmt: skip
    return limit


def _after(form: Form) -> str:
    try:
        return base64.b64decode(form.get("Marker", ""), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        raise QueryError("ValidationError", "Marker is not one that a list gave.") from None
