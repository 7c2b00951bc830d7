"""The one port: every request, by what it asks for. Hot routes go straight, everything else to the control plane.

The front door (design, section 8): the server has no authentication by default, so a web page in a browser on this
machine must not be able to use it. Requests with a foreign Origin or an unknown Host get 403.
"""

from __future__ import annotations

import ipaddress
import traceback
from collections.abc import Callable
from functools import lru_cache

from lambent.frontend import invoke, management, streaming
from lambent.frontend.invoke import Invoke
from lambent.frontend.management import Management
from lambent.frontend.streaming import StreamingInvoke
from lambent.frontend.url_requests import FunctionUrls
from lambent.http1 import Request

Handler = Callable[[Request], None]
#: Paths of the hot routes as older SDKs say them; the control plane's table knows the slash.
_SLASHED = (invoke.SUFFIX + "/", streaming.SUFFIX + "/")


class Edge:
    """`names` are host names that are ours beside localhost and addresses."""

    def __init__(self, invoking: Invoke, streaming: StreamingInvoke, urls: FunctionUrls, managing: Management,
                 control: Handler, names: frozenset[str]) -> None:
        self._invoke = invoking
        self._stream = streaming
        self._urls = urls
        self._management = managing
        self._control = control
        self._names = names

    def handle(self, request: Request) -> None:
        """Answer one request. Never raises: a fault of ours is a 500 and a traceback on stderr."""
        try:
            self._route(request)
        except Exception:
            traceback.print_exc()
            request.respond(500, b'{"Type":"Service","Message":"Internal Server Error"}',
                            (("x-amzn-ErrorType", "ServiceException"),))

    def _route(self, request: Request) -> None:
        host = _host_name(request.headers.get("host", ""))
        if self._urls.serves(host):
            self._urls.handle(request, host)
            return
        refusal = self._refusal(host, request.headers.get("origin"))
        if refusal is not None:
            headers = (("x-amzn-RequestId", invoke.new_request_id()), ("x-amzn-ErrorType", "AccessDeniedException"))
            request.respond(403, b'{"message":"' + refusal + b'"}', headers)
            return
        path = request.path
        if path.endswith("/") and path.endswith(_SLASHED):
            path = request.path = path[:-1]
        if path.endswith(invoke.SUFFIX) and path.startswith(invoke.PREFIX) and request.method == "POST":
            self._invoke.handle(request)
        elif path.endswith(streaming.SUFFIX) and path.startswith(streaming.PREFIX) and request.method == "POST":
            self._stream.handle(request)
        elif path.startswith(management.PREFIX):
            self._management.handle(request)
        else:
            self._control(request)

    def _refusal(self, host: str, origin: str | None) -> bytes | None:
        if not self._is_ours(host):
            return b"Unknown Host"
        if origin is not None and not self._is_own_origin(origin, host):
            return b"Foreign Origin"
        return None

    def _is_own_origin(self, origin: str, host: str) -> bool:
        """Whether a web page of this machine asks, or one that this server gave to the browser.

        `null` is what every sandboxed frame says. The pages of a function are the function's, not this machine's.
        """
        name = _host_name(origin.partition("://")[2])
        if not name or self._urls.serves(name):
            return False
        return name == host or name == "localhost" or name.endswith(".localhost") or _is_loopback(name)

    def _is_ours(self, host: str) -> bool:
        # Clients of HTTP/1.0 send no Host; a browser always does.
        return host in ("", "localhost") or host in self._names or host.endswith(".localhost") or _is_address(host)


def _host_name(host: str) -> str:
    """The name without the port, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].rstrip(".").lower()


@lru_cache(maxsize=64)
def _is_address(host: str) -> bool:
    """A literal address cannot be rebound by somebody's DNS."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return _is_address(host) and ipaddress.ip_address(host).is_loopback
