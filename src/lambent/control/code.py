"""Downloads of function code: the `Code.Location` of GetFunction, and the answer when somebody follows it.

AWS gives a presigned S3 URL that works for ten minutes; ours is signed with a secret of this process, so it works for
as long and not across a restart. The signature is the only right that is needed, as with AWS.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs, urlencode

from lambent.clock import Clock
from lambent.errors import ApiError

#: Paths under which the server answers downloads. No path of the Lambda API begins like this.
PREFIX = "/_code/"
LIFETIME_S = 600


class CodeLinks:
    """Makes and judges links to the zips of functions."""

    __slots__ = ("_clock", "_endpoint", "_secret")

    def __init__(self, clock: Clock, endpoint: Callable[[], str]) -> None:
        self._clock = clock
        self._endpoint = endpoint
        self._secret = secrets.token_bytes(32)

    def make(self, sha256: str) -> str:
        """A URL that gives the blob of this digest for ten minutes."""
        expires = int(self._clock.wall()) + LIFETIME_S
        query = urlencode({"Expires": expires, "Signature": self._sign(sha256, expires)})
        return f"{self._endpoint()}{PREFIX}{sha256}?{query}"

    def judge(self, path: str, query: str) -> str:
        """The digest that a link means. Raises ApiError (403) for one that is not ours or has expired."""
        sha256 = path.removeprefix(PREFIX)
        values = parse_qs(query)
        expires = values.get("Expires", [""])[0]
        signature = values.get("Signature", [""])[0]
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 16):
            raise ApiError("AccessDeniedException", "The link has no expiry.")
        if not hmac.compare_digest(self._sign(sha256, int(expires)).encode(), signature.encode()):
            raise ApiError("AccessDeniedException", "The signature of the link does not match.")
        if int(expires) < self._clock.wall():
            raise ApiError("AccessDeniedException", "The link has expired.")
        return sha256

    def _sign(self, sha256: str, expires: int) -> str:
        return hmac.new(self._secret, f"{sha256} {expires}".encode(), hashlib.sha256).hexdigest()
