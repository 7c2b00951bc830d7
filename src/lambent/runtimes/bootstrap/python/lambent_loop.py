"""The runtime's loop: an invocation, the handler, its response.

The loop is the official client's own code: its functions `run`, `handle_event_request` and what they need at every
invocation come from the start image (`start_image.FUNCTIONS`), so that a function finds under its handler the frames
that it finds on AWS. They stand in a module that nobody has imported yet. Where the client's other functions belong
there are stand-ins: the first that is called imports the client, into this very module, and gives way to what it stood
for. Where nothing unusual happens none is called: an event and a response that are plain JSON, a handler that returns.
These imports take longer than the interpreter itself: 9 of 18 ms. What functions see is the same either way: the
client's modules cannot be shadowed by those of a package, and logging is set up before anybody can use it.
"""

import _thread
import builtins
import importlib
import os
import sys

from awslambdaric.lambda_context import LambdaContext  # type: ignore[import-not-found]
from lambent_json import Writer, loads  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FunctionType, ModuleType
    from typing import Any

    from lambent_client import Invocation, SocketClient  # type: ignore[import-not-found]
else:  # without an import of `types`
    FunctionType, ModuleType = type(lambda: None), type(sys)

OFFICIAL = "awslambdaric.bootstrap"
MAIN = "awslambdaric.__main__"
JSON = "application/json"
#: With one of these the official client does more than serve.
_MORE_TO_DO = {
    "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
    "AWS_EXECUTION_ENV": "AWS_Lambda_python3.15",  # a preview, of which it warns
}

#: What the official client reads when it is imported, which is before the function's code on AWS.
_READ_AT_IMPORT = ("AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL", "AWS_EXECUTION_ENV")
_TOO_MANY_FILES = 24
_OF_FUNCTION = 2  #: among the flags of code; the body of a class lacks it


class Client:
    """Stands for the official client's `LambdaRuntimeClient`, into whose class it is put. Its own marshaller."""

    def __init__(self, loop: "Loop", address: str) -> None:
        self.lambda_runtime_address = address
        self.use_thread_for_polling_next = False
        self.wait_next_invocation = loop.wait
        self.post_invocation_result = loop.connection.post_invocation_result
        self.marshaller = self
        self._loop = loop
        self._writer = Writer()

    def unmarshal_request(self, body: bytes, content_type: str) -> "Any":
        if content_type != JSON:
            return body
        try:
            return loads(body)
        except Exception:  # only the official client can tell
            return self._officially().unmarshal_request(body, content_type)

    def marshal_response(self, response: "Any") -> "tuple[str | bytes, str]":
        if type(response) is bytes:
            return response, "application/unknown"
        try:
            return self._writer.dumps(response), JSON
        except Exception:
            result: tuple[str | bytes, str] = self._officially().marshal_response(response)
            return result

    def _officially(self) -> "Any":
        self._loop.load_official()
        return self.marshaller

    def become(self, kind: type) -> None:
        """All that is left is what an official one has."""
        for name in ("wait_next_invocation", "post_invocation_result", "marshaller", "_loop", "_writer"):
            delattr(self, name)
        self.__class__ = kind


def quicken(marshaller: type) -> None:
    """Let the official marshaller of this class take our way with what is plain. Programs replace these methods."""
    if "quick" in vars(marshaller):
        return
    writer = Writer()
    official: Any = marshaller
    read, write, encoder = official.unmarshal_request, official.marshal_response, official().jsonEncoder
    kind, settings = type(encoder), vars(encoder)

    def unmarshal_request(self: object, request: "Any", content_type: str = JSON) -> "Any":
        if content_type == JSON:
            try:
                return loads(request)
            except Exception:
                pass
        return read(self, request, content_type)

    def marshal_response(self: "Any", response: "Any") -> "Any":
        ours = self.jsonEncoder
        if type(ours) is kind and vars(ours) == settings:
            try:
                return writer.dumps(response), JSON
            except Exception:
                pass
        return write(self, response)

    official.unmarshal_request, official.marshal_response, official.quick = unmarshal_request, marshal_response, True


def keep_records_whole(sink: type) -> None:
    """Let the official package's log `sink` write a record as one line, so that it is one event of the log.

    On AWS a frame around the record does that. Here a carriage return stands for a line break inside of it, as the
    package itself has it for the errors of handlers.
    """

    def log(_self: object, message: str, frame_type: object = None) -> None:
        sys.stdout.write(message.removesuffix("\n").replace("\n", "\r") + "\n")

    sink.log = log  # type: ignore[attr-defined]


class Loop:
    """`image` (`start_image.Image`) tells when a part of the official client, or logging, has been imported by anybody.
    None: nobody tells, and the official client serves from the first."""

    def __init__(self, connection: "SocketClient", image: "Any") -> None:
        self.connection = connection
        self.official: Any = None  #: its module `bootstrap`, once it is loaded
        self._image = image
        self._client = Client(self, connection.address)
        self._unbuffered: Any = None  #: the class of the standard streams, until the client's own is there
        self._sink: Any = None  #: as long as logging is to be set up with it
        self._request: Invocation | None = None
        self._variables: dict[str, str | None] = {}  #: as the function's code found them
        self._main_thread = _thread.get_ident()
        self._module = ModuleType(OFFICIAL)
        self._main = ModuleType(MAIN)
        if image is not None:
            image.on_executed = self._executed
            image.made.update({OFFICIAL: self._module, MAIN: self._main})

    def module(self) -> "Any":
        """That with the function `main` that serves; it does not return."""
        self._main.__dict__.update({
            "LambdaConfigProvider": _Configuration, "LambdaRuntimeClient": self._make_client, "bootstrap": self._module,
        })  # fmt: skip
        if self._image is None:
            self.load_official()
            self._main.__dict__["bootstrap"] = self.official
            self._main.__dict__["main"] = lambda arguments: self.official.run(arguments[1], self._client)
            return self._main
        codes = self._image.functions()
        _provide(self._main, codes[MAIN])
        environ = os.environ
        if self.official is not None or "_LAMBDA_TELEMETRY_LOG_FD" in environ or any(
            environ.get(variable) == value for variable, value in _MORE_TO_DO.items()
        ):
            self.load_official()
            self._main.__dict__["bootstrap"] = self.official
        else:
            self._stand_in(codes[OFFICIAL])
        self._variables = {variable: environ.get(variable) for variable in _READ_AT_IMPORT}
        return self._main

    def wait(self) -> "Invocation":
        self._request = request = self.connection.wait_next_invocation()
        return request

    def _make_client(self, *_: object) -> "Any":
        return self._client

    # Stand-ins

    def _stand_in(self, codes: "dict[str, Any]") -> None:
        self._module.__dict__.update({
            "__package__": OFFICIAL.rpartition(".")[0], "importlib": importlib, "os": os, "sys": sys,
            "LambdaContext": LambdaContext, "create_log_sink": lambda: self._module.StandardLogSink(),
            "_setup_logging": self._set_up_later, "_log_preview_runtime_warning": _nothing,
            "_AWS_LAMBDA_LOG_FORMAT": None, "_AWS_LAMBDA_LOG_LEVEL": None,
            "AWS_LAMBDA_INITIALIZATION_TYPE": "AWS_LAMBDA_INITIALIZATION_TYPE", "INIT_TYPE_SNAP_START": "snap-start",
            "FaultException": _stand_in_for_error(self._later),
        })  # fmt: skip
        for name in ("build_fault_result", "extract_traceback", "parse_json_header"):
            setattr(self._module, name, lambda *arguments, name=name: self._later(name)(*arguments))
        _provide(self._module, codes)
        self._unbuffered = self._module.Unbuffered

    def _later(self, name: str) -> "Any":
        self.load_official()
        return getattr(self._module, name)

    def _set_up_later(self, _format: object, _level: object, sink: object) -> None:
        self._sink = sink

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
        if name == "threading":
            _know_main_thread(self._main_thread)
            return
        if name == OFFICIAL:
            self._loaded()
        if not self._image.executing:  # else when that part is complete
            self.load_official()

    def _loaded(self) -> None:
        """By whomever, and each time."""
        official: Any = sys.modules[OFFICIAL]
        keep_records_whole(official.StandardLogSink)
        connect(official.LambdaRuntimeClient, self)
        quicken(type(official.LambdaRuntimeClient.marshaller))
        if self.official is None:
            self._client.become(official.LambdaRuntimeClient)
            for stream in (sys.stdout, sys.stderr):
                if type(stream) is self._unbuffered:
                    stream.__class__ = official.Unbuffered
            self.official = official  # before logging is set up: other threads look at it
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.__class__ = official.StandardLogSink
            official._setup_logging(official._AWS_LAMBDA_LOG_FORMAT, official._AWS_LAMBDA_LOG_LEVEL, sink)
        if self._request is not None:
            official._GLOBAL_AWS_REQUEST_ID = self._request.invoke_id
            official._GLOBAL_TENANT_ID = self._request.tenant_id


def connect(kind: type, loop: Loop) -> None:
    """Let the official client of this class talk by the loop's connection. Programs replace these methods."""

    def method(call: "Callable[..., Any]") -> "Callable[..., Any]":
        return lambda _client, *arguments, **named: call(*arguments, **named)

    if "connection" not in vars(kind):
        kind.wait_next_invocation = method(loop.wait)  # type: ignore[attr-defined]
        for name in ("post_invocation_result", "post_invocation_error"):
            setattr(kind, name, method(getattr(loop.connection, name)))
        kind.connection = loop.connection  # type: ignore[attr-defined]


def _provide(module: "ModuleType", codes: "dict[str, Any]") -> None:
    names = module.__dict__
    names["__builtins__"] = __builtins__  # an import puts them there, and 3.9 needs them
    for name, code in codes.items():
        thing: Any = FunctionType(code, names)
        names[name] = thing if code.co_flags & _OF_FUNCTION else builtins.__build_class__(thing, name)


class _Configuration:
    """What the official `main` asks of its arguments."""

    is_multi_concurrent = use_thread_polling = False
    api_address = ""

    def __init__(self, arguments: "list[str]") -> None:
        self.handler = arguments[1]


def _stand_in_for_error(later: "Callable[[str], Any]") -> type:
    """For the official client's error: nothing is one until it has been loaded."""

    class Kind(type):
        def __getattr__(cls, name: str) -> "Any":
            return getattr(later("FaultException"), name)

        def __call__(cls, *arguments: "Any") -> "Any":
            return later("FaultException")(*arguments)

    return Kind("FaultException", (BaseException,), {})


def _know_main_thread(ident: int) -> None:
    """Up to 3.12 `threading` takes the thread that imports it for the main one: on AWS it is, here another may be."""
    threading: Any = sys.modules["threading"]
    main = threading._main_thread
    if main._ident == ident:
        return
    alive = _thread.allocate_lock()  # in place of one that the importing thread's end releases
    alive.acquire()
    with threading._active_limbo_lock:
        del threading._active[main._ident]
        threading._active[ident] = main
    main._ident, main._native_id = ident, os.getpid()
    threading._shutdown_locks.discard(main._tstate_lock)
    threading._shutdown_locks.add(alive)
    main._tstate_lock = alive


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
