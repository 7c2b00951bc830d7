"""Code from S3: one signed GET to an S3-compatible endpoint, in the caller's thread.

Buckets are named in the path, so that any endpoint will do. What the endpoint refuses becomes AWS's words for it (fact
sheet 9.5). Not here: retries, redirects to other regions, and code that stays in its bucket.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import http.client
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

from lambent.errors import ApiError, invalid_parameter
from lambent.limits import UNZIPPED_BYTES

#: For each answer of the endpoint to begin, and for each read of it.
TIMEOUT_S = 30.0
_NO_BODY = hashlib.sha256(b"").hexdigest()
_ERROR_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class S3Source:
    """An endpoint (`http://host:port`) and the keys that it knows. `wall` tells the time, in seconds."""

    endpoint: str
    access_key: str
    secret_key: str
    wall: Callable[[], float]

    def get(self, bucket: str, key: str, version: str | None, region: str) -> bytes:
        """An object's content. Blocks. ApiError for what the endpoint refuses, and when it cannot be reached."""
        url = urlsplit(self.endpoint)
        secure = url.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        path = f"{url.path.rstrip('/')}/{quote(bucket, safe='-_.~')}/{quote(key, safe='/-_.~')}"
        query = f"versionId={quote(version, safe='-_.~')}" if version else ""
        try:
            connection = kind(url.hostname or "", url.port, timeout=TIMEOUT_S)
            try:
                target = f"{path}?{query}" if query else path
                connection.request("GET", target, headers=self._signed(url.netloc, path, query, region))
                return _content(connection.getresponse())
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _refused("ServiceUnavailable", f"{self.endpoint} does not answer: {error}") from None

    def _signed(self, host: str, path: str, query: str, region: str) -> dict[str, str]:
        """The headers of a request, with its signature (AWS's Signature Version 4, which S3 does not encode twice)."""
        moment = datetime.fromtimestamp(self.wall(), UTC)
        stamp, day = moment.strftime("%Y%m%dT%H%M%SZ"), moment.strftime("%Y%m%d")
        headers = {"host": host, "x-amz-content-sha256": _NO_BODY, "x-amz-date": stamp}
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"GET\n{path}\n{query}\n{lines}\n{names}\n{_NO_BODY}"
        scope = f"{day}/{region}/s3/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        secret = f"AWS4{self.secret_key}".encode()
        for part in (*scope.split("/"), to_sign):
            secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, "
                                    f"Signature={secret.hex()}")  # fmt: skip
        return headers


def _content(response: http.client.HTTPResponse) -> bytes:
    if response.status != 200:
        text = response.read(_ERROR_BYTES).decode("utf-8", "replace")
        raise _refused(_element("Code", text) or str(response.status),
                       _element("Message", text) or response.reason)  # fmt: skip
    content = response.read(UNZIPPED_BYTES + 1)
    if len(content) > UNZIPPED_BYTES:
        raise invalid_parameter(f"Unzipped size must be smaller than {UNZIPPED_BYTES} bytes")
    return content


def _element(name: str, text: str) -> str:
    """The content of the first element of this name. A parser of XML would believe more of it than is wanted."""
    found = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return html.unescape(found[1]) if found is not None else ""


def _refused(code: str, message: str) -> ApiError:
    return invalid_parameter(f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}")
