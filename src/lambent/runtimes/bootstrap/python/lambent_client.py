"""How the Python runtime talks to the platform: one kept connection at socket level.

The official client's C extension opens no pipeline and, from Python 3.12 on, starts a thread for every wait: 430
microseconds for a trivial warm call. Here the result and the question for the next invocation travel in one write:
65 microseconds. After its first invocation it speaks frames where the platform does (`runtimeapi/lane.py` has the
format). The rare calls (init error, restore) stay the official client's own, through http.client (`lambent_loop`).
Signal handlers run while this waits.
It expects what our platform sends (Content-Length on every answer), not any HTTP server.
"""

import _socket  # the `socket` module on top of it costs 3 ms to import, and functions may never need it
import sys
import time

API = "/2018-06-01/runtime/invocation/"
MAX_CAUSE = 64 * 1024
#: Bytes of a response. The official client ends when its response is refused for its size, and so does this one.
MAX_RESPONSE = 6 * 1024 * 1024 + 100


class Invocation:
    """With the fields of the official client's `InvocationRequest`."""

    __slots__ = (
        "client_context", "cognito_identity", "content_type", "deadline_time_in_ms", "event_body", "invocation_id",
        "invoke_id", "invoked_function_arn", "tenant_id", "x_amzn_trace_id",
    )  # fmt: skip

    def __init__(
        self, invoke_id: "str | None", event_body: bytes, content_type: "str | None", deadline_ms: int,
        arn: "str | None", trace_id: "str | None", client_context: "str | None",
        cognito_identity: "str | None" = None, tenant_id: "str | None" = None,
    ) -> None:  # fmt: skip
        self.invoke_id = invoke_id
        self.event_body = event_body
        self.content_type = content_type
        self.deadline_time_in_ms = deadline_ms
        self.invoked_function_arn = arn
        self.x_amzn_trace_id = trace_id
        self.client_context = client_context
        self.cognito_identity = cognito_identity
        self.tenant_id = tenant_id
        self.invocation_id = None


class SocketClient:
    """The calls of the official client that every invocation makes. `address` is `host:port`."""

    def __init__(self, address: str) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._socket = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        self._socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self._socket.connect((host, int(port)))
        head = f"GET {API}next HTTP/1.1\r\nHost: {address}\r\nUser-Agent: lambent-python\r\n"
        self._next = f"{head}\r\n".encode()
        self._first = f"{head}Lambent-Lane: 1\r\n\r\n".encode()
        self._lane = False  #: frames from now on
        self._rest = b""
        self._asked = False  #: the question for the next invocation was sent with the last answer

    def wait_next_invocation(self) -> Invocation:
        if self._lane:
            return self._wait_in_lane()
        if self._asked:
            self._asked = False
            self._read()  # of the result: if it was refused (too large, too late), the platform told the caller
        else:
            self._socket.sendall(self._first)
        status, headers, body = self._read()
        if status != "200":
            sys.exit(1)  # this environment is being ended
        get = headers.get
        self._lane = "lambent-lane" in headers
        return Invocation(
            get("lambda-runtime-aws-request-id"), body, get("content-type"), int(headers["lambda-runtime-deadline-ms"]),
            get("lambda-runtime-invoked-function-arn"), get("lambda-runtime-trace-id") or None,
            get("lambda-runtime-client-context"), get("lambda-runtime-cognito-identity"),
            get("lambda-runtime-aws-tenant-id"),
        )  # fmt: skip

    def _wait_in_lane(self) -> Invocation:
        data = self._receive()
        while len(data) < 8:
            data += self._receive()
        end = 8 + int.from_bytes(data[:4], "little")
        length = int.from_bytes(data[4:8], "little")
        while len(data) < end:
            data += self._receive()
        request_id, deadline_ms, arn, trace_id, client_context, content_type = data[8:end].decode().split("\n")
        body = data[end:]
        if len(body) < length:
            body = self._fill(body, length)
        return Invocation(
            request_id, body, content_type, int(deadline_ms), arn, trace_id or None, client_context or None
        )

    def post_invocation_result(
        self, invoke_id: str, result_data: "str | bytes", content_type: str = "application/json",
        invocation_id: "str | None" = None,
    ) -> None:
        body = result_data if isinstance(result_data, bytes) else result_data.encode()
        if len(body) > MAX_RESPONSE:
            self._end_over_the_limit(invoke_id, body, content_type)
        if self._lane:
            self._send_frame(b"r", b"" if content_type == "application/json" else content_type.encode("latin-1"), body)
            return
        self._post(f"{API}{invoke_id}/response", body, content_type, "")

    def post_invocation_error(
        self, invoke_id: str, error_response_data: str, xray_fault: str, invocation_id: "str | None" = None
    ) -> None:
        cause = ""
        if self._lane:
            text = xray_fault.encode()
            self._send_frame(b"e", text if len(text) < MAX_CAUSE else b"", error_response_data.encode())
            return
        if 0 < len(xray_fault) < MAX_CAUSE:
            cause = f"Lambda-Runtime-Function-XRay-Error-Cause: {xray_fault}\r\n"
        self._post(f"{API}{invoke_id}/error", error_response_data.encode(), "application/json", cause)

    def _end_over_the_limit(self, invoke_id: str, body: bytes, content_type: str) -> None:
        """Let the caller be told, then fail as the official client does, in its words."""
        if self._lane:
            self._send_frame(b"x", b"", b"")
            try:  # noqa: SIM105  contextlib is not imported here otherwise
                self._socket.recv(1)  # the platform closes once it has understood
            except OSError:
                pass
        else:
            self._post(f"{API}{invoke_id}/response", body, content_type, "", b"")
            self._read()
        answer = (f'{{"errorMessage":"Exceeded maximum allowed payload size ({MAX_RESPONSE} bytes).",'
                  '"errorType":"RequestEntityTooLarge"}')  # fmt: skip
        print(f"[ERROR] [{int(time.time() * 1000)}] LAMBDA_RUNTIME Failed to post handler success response. "
              f"Http response code: 413. {answer}", file=sys.stderr, flush=True)  # fmt: skip
        raise RuntimeError("Failed to post invocation response")

    def _send_frame(self, kind: bytes, text: bytes, body: bytes) -> None:
        sizes = len(text).to_bytes(3, "little") + len(body).to_bytes(8, "little")
        self._socket.sendall(kind + sizes + text + body)

    def _post(self, path: str, body: bytes, content_type: str, more: str, following: "bytes | None" = None) -> None:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self.address}\r\nUser-Agent: lambent-python\r\n"
            f"Content-Type: {content_type}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body + (self._next if following is None else following))
        self._asked = True

    def _read(self) -> "tuple[str, dict[str, str], bytes]":
        """Status, headers by lower-case name, body."""
        data = self._rest
        while True:
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                break
            data += self._receive()
        lines = data[:end].decode("utf-8", "replace").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        body = data[end + 4 : end + 4 + length]
        self._rest = data[end + 4 + length :]
        if len(body) < length:
            body = self._fill(body, length)
        return lines[0].split(" ", 2)[1], headers, body

    def _fill(self, body: bytes, length: int) -> bytes:
        buffer = bytearray(length)
        buffer[: len(body)] = body
        view = memoryview(buffer)
        filled = len(body)
        while filled < length:
            size = self._socket.recv_into(view[filled:])
            if not size:
                sys.exit(1)
            filled += size
        return bytes(buffer)

    def _receive(self) -> bytes:
        data: bytes = self._socket.recv(65536)
        if not data:
            sys.exit(1)  # nothing can be served without the platform
        return data
