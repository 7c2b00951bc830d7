"""The runtime's loop: an invocation, the handler, its response.

Where nothing unusual happens the loop serves by itself, the *plain path*, with the official client's own context
object. All else is the official client's own code: errors, logging, values that are not plain JSON, and everything
once somebody has replaced a part of it. It is loaded when it is first needed, since its imports take longer than the
interpreter itself: 9 of 18 ms. What functions see is the same either way: its modules cannot be shadowed by those of a
package, logging is set up before anybody can use it, stack traces begin with the function.
"""

import importlib
import os
import sys

from awslambdaric.lambda_context import LambdaContext  # type: ignore[import-not-found]
from lambent_json import Writer, loads  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lambent_client import Invocation, SocketClient  # type: ignore[import-not-found]

OFFICIAL = "awslambdaric.bootstrap"
JSON = "application/json"
#: With one of these the official client does more than serve.
_MORE_TO_DO = {
    "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.15",  # a preview, of which it warns
}

#: What the official client reads when it is imported, which is before the function's code on AWS.
_READ_AT_IMPORT = ("AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL", "AWS_EXECUTION_ENV")
_OWN_FILE = "/var/runtime/bootstrap.py"
_TOO_MANY_FILES = 24


class Unbuffered:
    """As the official client puts in place of the standard streams."""

    def __init__(self, stream: "Any") -> None:
        self.stream = stream

    def __enter__(self) -> "Unbuffered":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.stream, name)

    def write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def writelines(self, texts: "list[str]") -> None:
        self.stream.writelines(texts)
        self.stream.flush()


class _Known:
    """In place of a handler, or of `importlib`: what the handler returned or raised, or what its import raised."""

    def __init__(self, value: object = None, error: "BaseException | None" = None) -> None:
        self._value = value
        self._error = error

    def import_module(self, *_: object) -> object:
        if self._error is not None:
            raise self._error
        return self._value

    # The official client takes what stands before the function from a stack trace: frames of its own file's name.
    # Where nothing of the function follows, `without_own` takes out this one.
    import_module.__code__ = import_module.__code__.replace(co_filename=_OWN_FILE)
    __call__ = import_module


def without_own(extract: "Callable[[Any], list[Any]]") -> "Callable[[Any], list[Any]]":
    """The official client's `extract_traceback`, but for the frame of `_Known`."""

    def extract_traceback(tb: "Any") -> "list[Any]":
        return [frame for frame in extract(tb) if frame[0] != _OWN_FILE]

    return extract_traceback


def keep_records_whole(sink: type) -> None:
    """Let the official package's log `sink` write a record as one line, so that it is one event of the log.

    On AWS a frame around the record does that. Here a carriage return stands for a line break inside of it, as the
    package itself has it for the errors of handlers.
    """

    def log(_self: object, message: str, frame_type: object = None) -> None:
        sys.stdout.write(message.removesuffix("\n").replace("\n", "\r") + "\n")

    sink.log = log  # type: ignore[attr-defined]


def connect(kind: type, connection: "SocketClient") -> None:
    """Let the official client of this class talk by `connection`. Programs replace these methods in the class."""

    def method(call: "Callable[..., Any]") -> "Callable[..., Any]":
        return lambda _client, *arguments, **named: call(*arguments, **named)

    if "connection" not in vars(kind):
        for name in ("wait_next_invocation", "post_invocation_result", "post_invocation_error"):
            setattr(kind, name, method(getattr(connection, name)))
        kind.connection = connection  # type: ignore[attr-defined]


class Loop:
    """`image` (`start_image.Image`) tells when a part of the official client, or logging, has been imported by anybody.
    None: nobody tells, and the official client serves from the first."""

    def __init__(self, connection: "SocketClient", image: "Any") -> None:
        self._connection = connection
        self._image = image
        self.official: Any = None  #: its module `bootstrap`, once it is loaded
        self._client: Any = None
        self._sink: Any = None
        self._theirs: tuple[Any, ...] = ()  #: what a function may replace, as it was
        self._running = False
        self._request: Invocation | None = None
        self._variables: dict[str, str | None] = {}  #: as the function's code found them
        if image is not None:
            image.on_executed = self._executed

    # The official client

    def load_official(self) -> None:
        if self.official is not None:
            return
        now = {name: os.environ.get(name) for name in _READ_AT_IMPORT}
        if self._variables and now != self._variables:
            _set_variables(self._variables)
            try:
                self._import_official()
            finally:
                _set_variables(now)
        else:
            self._import_official()
        if self.official is None:  # it was there before anybody could tell
            self._loaded()

    def _import_official(self) -> None:
        if self._image is None:
            sys.modules["runtime_client"] = None  # type: ignore[assignment]
            importlib.import_module(OFFICIAL)
            del sys.modules["runtime_client"]
            return
        try:
            _import_in_order()
        except OSError as error:
            if error.errno != _TOO_MANY_FILES or not os.path.samestat(os.fstat(0), os.stat("/dev/null")):
                raise
            # Left open by the function, whose error is to be told all the same.
            os.close(0)
            try:
                _import_in_order()
            finally:
                os.open("/dev/null", os.O_RDONLY)

    def _executed(self, name: str) -> None:
        """Whoever imports logging, or parts of the client, finds what is there on AWS, and may replace it."""
        if name == OFFICIAL:
            self._loaded()
        if not self._image.executing:  # else when that part is complete
            self.load_official()

    def _loaded(self) -> None:
        official: Any = sys.modules[OFFICIAL]
        keep_records_whole(official.StandardLogSink)
        official.extract_traceback = without_own(official.extract_traceback)
        self._sink = official.create_log_sink()
        connect(official.LambdaRuntimeClient, self._connection)
        self._client = official.LambdaRuntimeClient(self._connection.address)
        again = self.official is not None
        if not (again and self._running):
            self._theirs = self._replaceable(official)
        self.official = official  # last: other threads look at it
        if again and self._running:  # reloaded by the function: that sets up nothing
            self._tell_request()
        elif self._running:
            self._set_up()

    def _replaceable(self, official: "Any") -> "tuple[Any, ...]":
        kind, marshaller = type(self._client), self._client.marshaller
        return (
            official.handle_event_request, official.create_lambda_context, official.LambdaContext,
            kind.post_invocation_result, marshaller, marshaller.unmarshal_request, marshaller.marshal_response,
            getattr(marshaller, "jsonEncoder", None),
        )  # fmt: skip

    def _has_replaced(self) -> bool:
        return self.official is not None and self._replaceable(self.official) != self._theirs

    def _set_up(self) -> None:
        """What `run` of the official client does before the function is imported."""
        official = self.official
        official._setup_logging(official._AWS_LAMBDA_LOG_FORMAT, official._AWS_LAMBDA_LOG_LEVEL, self._sink)
        official._setup_logging = _nothing
        self._tell_request()

    def _tell_request(self) -> None:
        if self._request is not None:
            self.official._GLOBAL_AWS_REQUEST_ID = self._request.invoke_id
            self.official._GLOBAL_TENANT_ID = self._request.tenant_id

    def _run_officially(self, name: str, error: "Exception | None" = None) -> None:
        """`error` is what the import of the function's module raised; it is not imported again."""
        self.load_official()
        if error is not None:
            self.official.importlib = _Known(error=error)
        for stream in ("stdout", "stderr"):
            if type(getattr(sys, stream)) is Unbuffered:  # it puts in its own
                setattr(sys, stream, getattr(sys, stream).stream)
        self.official.run(name, self._client)

    # The plain path

    def run(self, name: str) -> None:
        """`name` is the handler's, as configured. Does not return."""
        environ = os.environ
        if self._image is None or "_LAMBDA_TELEMETRY_LOG_FD" in environ or any(
            environ.get(variable) == value for variable, value in _MORE_TO_DO.items()
        ):
            self._run_officially(name)
        sys.stdout, sys.stderr = Unbuffered(sys.stdout), Unbuffered(sys.stderr)
        self._variables = {variable: environ.get(variable) for variable in _READ_AT_IMPORT}
        self._running = True
        if self.official is not None:
            self._set_up()
        writer = Writer()
        handler = self._find(name)
        while True:
            client = self._connection if self.official is None else self._client
            self._request = request = client.wait_next_invocation()
            if request.x_amzn_trace_id is not None:
                environ["_X_AMZN_TRACE_ID"] = request.x_amzn_trace_id
            else:
                environ.pop("_X_AMZN_TRACE_ID", None)
            self._serve(handler, request, writer)

    def _find(self, name: str) -> "Any":
        module_name, _, attribute = name.rpartition(".")
        if not module_name or module_name.split(".")[0] in sys.builtin_module_names:
            self._run_officially(name)
        failed: Exception | None = None
        try:
            module = importlib.import_module(module_name.replace("/", "."))
        except Exception as error:
            failed = _without_first_frame(error)
        else:
            try:
                return getattr(module, attribute)
            except Exception:  # the official client will meet it again
                failed = None
        self._run_officially(name, failed)
        return None

    def _serve(self, handler: "Any", request: "Invocation", writer: Writer) -> None:
        if self.official is not None:
            self._tell_request()
            if self._has_replaced():
                return self._serve_officially(handler, request)
        if request.client_context or request.cognito_identity:
            return self._serve_officially(handler, request)
        try:
            event = loads(request.event_body) if request.content_type == JSON else request.event_body
            context = LambdaContext(request.invoke_id, None, None, request.deadline_time_in_ms,
                                    request.invoked_function_arn, request.tenant_id)  # fmt: skip
        except Exception:
            return self._serve_officially(handler, request)
        try:
            response = handler(event, context)
        except Exception as error:
            known = _Known(error=_without_first_frame(error))
        else:
            if not self._has_replaced():
                text, content_type = _text(response, writer)
                if text is not None:
                    self._connection.post_invocation_result(request.invoke_id, text, content_type)
                    return None
            known = _Known(response)
        return self._serve_officially(known, request)

    def _serve_officially(self, handler: "Any", request: "Invocation") -> None:
        self.load_official()
        known = type(handler) is _Known  # then it began before the function replaced anything
        handle = self._theirs[0] if known else self.official.handle_event_request
        # Nobody sees an event a second time, but a marshaller that the handler has put in gets one that it can read.
        body = b"null" if known and not self._has_replaced() else request.event_body
        handle(
            self._client, handler, request.invoke_id, body, request.content_type, request.client_context,
            request.cognito_identity, request.invoked_function_arn, request.deadline_time_in_ms, request.tenant_id,
            self._sink, request.invocation_id)  # fmt: skip


def _text(response: "Any", writer: Writer) -> "tuple[str | bytes | None, str]":
    """With its type; None where only the official client can tell."""
    if type(response) is bytes:
        return response, "application/unknown"
    try:
        return writer.dumps(response), JSON
    except Exception:
        return None, ""


def _without_first_frame(error: Exception) -> Exception:
    """That of the one who caught it and calls this. Classes of errors may have a `with_traceback` of their own."""
    traceback = sys.exc_info()[2]
    BaseException.with_traceback(error, None if traceback is None else traceback.tb_next)
    return error


def _import_in_order() -> None:
    """Logging first, whose import ends when it is set up (`_executed`): other threads that import it wait for that."""
    importlib.import_module("logging")
    importlib.import_module(OFFICIAL)


def _set_variables(variables: "dict[str, str | None]") -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _nothing(*_: object) -> None:
    pass
