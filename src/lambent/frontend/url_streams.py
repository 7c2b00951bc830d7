"""One answer of a function URL in RESPONSE_STREAM mode: the prelude first, then bytes as they come.

A response that does not begin as HTTP (no prelude) is sent as it is with status 200, and so is one that came in one
piece: in this mode nothing looks into a result (AWS does not document it; a JSON result with a `statusCode` is bytes).
Facts: fact sheet 2.4 and 7.
"""

from __future__ import annotations

from collections.abc import Callable

from lambent import limits
from lambent.core.model import Outcome, OutcomeKind
from lambent.frontend import urls
from lambent.frontend.streaming import follow
from lambent.http1 import Request
from lambent.worker.base import Served, Sink, Source

#: The content type of a response that begins with its status and headers.
PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
_END = bytes(8)


class UrlStream:
    """`dress` adds to a response what all responses of this URL have."""

    def __init__(self, request: Request, dress: Callable[[urls.Response, Served | None], urls.Response]) -> None:
        self._request = request
        self._dress = dress
        self._served: Served | None = None
        self._prelude: bytearray | None = None  #: as far as it came; None when there is none to come
        self._begun = False
        self._failed = False

    def open(self, content_type: str, served: Served, source: Source) -> Sink:
        self._served = served
        follow(self._request, source)
        self._expect(content_type)
        return self._take

    def _expect(self, content_type: str) -> None:
        if content_type.partition(";")[0].strip().lower() == PRELUDE_TYPE:
            self._prelude = bytearray()
        else:
            self._begin((200, (("Content-Type", content_type or "application/octet-stream"),), b""))

    def _begin(self, response: urls.Response) -> None:
        status, headers, _ = self._dress(response, self._served)
        try:
            self._request.begin(status, headers)
            self._begun = True
        except ValueError:  # a content type that is no header
            self._fail()

    def _take(self, data: bytes) -> None:
        if self._failed:
            return
        if self._prelude is None:
            self._request.write(data)
            return
        searched = max(0, len(self._prelude) - len(_END))
        self._prelude += data
        end = self._prelude.find(_END, searched)
        if end >= 0:
            prelude, self._prelude = self._prelude, None
            response = urls.response_from_prelude(bytes(prelude[:end]))
            if response is None:
                self._fail()
                return
            self._begin(response)
            self._take(bytes(prelude[end + len(_END) :]))
        elif len(self._prelude) > limits.HEADER_BYTES:
            self._fail()

    def _fail(self) -> None:
        """What the function sends is not HTTP; the rest of it is dropped."""
        self._failed = True
        self._prelude = None
        self._answer(urls.error_response("function_error"))

    def complete(self, outcome: Outcome, served: Served | None) -> None:
        self._served = self._served or served
        if self._failed:
            return
        if outcome.kind is OutcomeKind.RESPONSE:
            if not self._begun and self._prelude is None:
                self._expect(outcome.content_type)
                self._take(outcome.payload)
            if self._prelude is not None and not self._prelude:
                self._expect("")  # it announced status and headers, and then sent nothing
            if self._begun:
                self._request.finish()
            elif not self._failed:
                self._fail()  # the prelude has no end
        elif self._begun:
            self._request.break_off()  # the status is out: that something is missing is all that can still be said
        else:
            self._answer(urls.response_without_result(outcome))

    def _answer(self, response: urls.Response) -> None:
        status, headers, body = self._dress(response, self._served)
        self._request.respond(status, body, headers, content_type=None)
