"""The Extensions API 2020-01-01 of one environment, and the subscriptions of extensions to telemetry.

Who may do what is the machine's to say; here are identifiers, bodies and messages (fact sheet, sections 3 and 4).
`next` waits with the runtime's, in `app`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from lambent import limits
from lambent.core.events import RUNTIME, ExtensionExitErrorPosted, ExtensionInitErrorPosted, ExtensionRegistered
from lambent.core.subscription import Api
from lambent.http1 import Request
from lambent.runtimeapi import telemetry
from lambent.runtimeapi.answers import ACCEPTED, NOT_ALLOWED, STATE_WORDS, line, printable, refuse, refuse_route
from lambent.runtimeapi.lifecycle import Lifecycle

PREFIX = "/2020-01-01/extension/"
_METHODS = {"register": "POST", "event/next": "GET", "init/error": "POST", "exit/error": "POST"}
_ERROR_TYPE = "Lambda-Extension-Function-Error-Type"

#: What a guest says of itself stays in the story of its environment.
MAX_NAME = 255  # that of a file


class ExtensionsApi:
    """Identifiers are made here, and are void once the processes are gone."""

    def __init__(self, lifecycle: Lifecycle, on_next: Callable[[Request, str], None]) -> None:
        self._lifecycle = lifecycle
        self._on_next = on_next
        self._names: dict[uuid.UUID, str] = {}  #: by identifier

    def forget(self) -> None:
        self._names.clear()

    def on_request(self, request: Request, what: str) -> None:
        """Answer one call below PREFIX, now or when there is something to deliver."""
        method = _METHODS.get(what)
        if request.method != method:
            refuse_route(request, method)
        elif what == "register":
            self._register(request)
        elif what == "event/next":
            name = self._identified(request)
            if name is not None:
                self._on_next(request, name)
        elif what == "init/error":
            self._error(request, ExtensionInitErrorPosted, "InitError")
        else:
            self._error(request, ExtensionExitErrorPosted, "Exited")

    def subscribe(self, request: Request, api: Api) -> None:
        """Answer a subscription to telemetry."""
        name = self._identified(request)
        if name is None:
            return
        refusal = self._lifecycle.subscription_refusal(name, api)
        title = api.capitalize()
        invalid = "ValidationError" if api == "telemetry" else "Logs.ValidationError"
        if refusal == "NotSupported":
            refuse(request, 202, f"{title}.NotSupported", f"{title} API is not supported")
        elif refusal == "SubscriptionClosed":
            refuse(request, 403, f"{title}.SubscriptionClosed", f"{title} API subscription is closed already")
        elif refusal is not None:
            refuse(request, 400, invalid, "This extension has subscribed by the other API")
        else:
            try:
                subscription = telemetry.parse(request.body, api)
            except telemetry.Invalid as error:
                refuse(request, 400, invalid, str(error))
                return
            request.respond(200, b'"OK"')
            self._lifecycle.subscribe(name, subscription)

    def refuse_transition(self, request: Request, name: str, target: str, refusal: str) -> None:
        """Say that an extension may not do this in its state."""
        state = STATE_WORDS[self._lifecycle.extension_state(name)]
        # One that registers has no identifier yet.
        called = name if target == "Registered" else request.headers["lambda-extension-identifier"]
        refuse(request, 403, refusal,
               f"State transition from {state} to {target} failed for extension {called}. {NOT_ALLOWED}")

    def _identified(self, request: Request) -> str | None:
        """The extension that calls; None when it is not known, and told so."""
        identifier = _identifier(request)
        if identifier is None:
            return None
        if identifier not in self._names:
            refuse(request, 403, "Extension.UnknownExtensionIdentifier", f"Unknown extension {identifier}")
        return self._names.get(identifier)

    def _error(self, request: Request, kind: type[ExtensionInitErrorPosted | ExtensionExitErrorPosted],
               target: str) -> None:
        identifier = _identifier(request)
        if identifier is None:
            return
        error_type = request.headers.get(_ERROR_TYPE.lower(), "")
        if not error_type:
            refuse(request, 403, "Extension.MissingHeader", f"{_ERROR_TYPE} not found")
            return
        name = self._names.get(identifier)
        if name is None:
            refuse(request, 403, "Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier")
            return
        event = kind(self._lifecycle.now(), name, printable(error_type))
        refusal = self._lifecycle.refusal(event)
        if refusal is not None:
            self.refuse_transition(request, name, target, refusal)
            return
        request.respond_raw(ACCEPTED)  # first, since the reset that follows ends whoever asked
        self._lifecycle.feed(event)

    def _register(self, request: Request) -> None:
        lifecycle = self._lifecycle
        name = request.headers.get("lambda-extension-name", "")
        if not name or len(name) > MAX_NAME:
            what = "Empty extension name" if not name else "Extension name is too long"
            refuse(request, 403, "Extension.InvalidExtensionName", what)
            return
        events = _registration(request)
        if events is None:
            return
        event = ExtensionRegistered(lifecycle.now(), name, "INVOKE" in events, "SHUTDOWN" in events)
        refusal = lifecycle.refusal(event)
        if refusal == "Extension.InvalidExtensionState" and lifecycle.is_external(name):
            self.refuse_transition(request, name, "Registered", refusal)
            return
        if refusal is not None:
            refuse(request, 403, refusal, _MESSAGES.get(refusal, NOT_ALLOWED))
            return
        identifier = uuid.uuid4()
        self._names[identifier] = name
        lifecycle.feed(event)
        function = lifecycle.function
        body = {"functionName": function.name, "functionVersion": function.version, "handler": function.handler}
        features = request.headers.get("lambda-extension-accept-feature", "").split(",")
        if "accountId" in (feature.strip() for feature in features):
            body["accountId"] = function.account
        request.respond(200, line(body), (("Lambda-Extension-Identifier", str(identifier)),))


class _Registration(msgspec.Struct):
    """Names in lower case: AWS's decoder, Go's, minds no case, and takes null for nothing."""

    events: list[str] | None = None
    configurationkeys: list[str] | None = None


def _registration(request: Request) -> tuple[str, ...] | None:
    """The events that an extension subscribes to; None when that is wrong, and it is told so."""
    try:
        given = msgspec.json.decode(request.body, type=dict[str, Any] | None) or {}
        wanted = msgspec.convert({name.lower(): value for name, value in given.items()}, _Registration)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        refuse(request, 403, "InvalidRequestFormat", str(error))
        return None
    events = tuple(wanted.events or ())
    unknown = [event for event in events if event not in ("INVOKE", "SHUTDOWN")]
    if wanted.configurationkeys:
        refuse(request, 403, "InvalidRequestFormat",
               "configurationKeys are deprecated; use environment variables instead")
    elif unknown:
        refuse(request, 403, "Extension.InvalidEventType", f"{printable(unknown[0])}: ErrorInvalidEventType")
    else:
        return events
    return None


_MESSAGES = {
    "Extension.RegistrationClosed": "Extension registration closed already",
    "Extension.InvalidExtensionName": f"Extension name may not be {RUNTIME}",
    "Extension.InvalidExtensionState": "Extension with this name already registered",
    "Extension.TooManyExtensions": f"Extension limit ({limits.MAX_EXTENSIONS}) reached",
    "Extension.InvalidEventType": "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension",
}


def _identifier(request: Request) -> uuid.UUID | None:
    """The identifier that a call brings, however it is written; None when it brings none, and it is told so."""
    given = request.headers.get("lambda-extension-identifier")
    if not given:
        refuse(request, 403, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        return None
    try:
        return uuid.UUID(given)
    except ValueError:
        refuse(request, 403, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
        return None
