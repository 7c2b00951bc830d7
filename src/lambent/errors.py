"""Errors as the Lambda API answers them: AWS's code, HTTP status and message. Nothing else is raised to a client.

Codes, statuses and the case of the message member are those of botocore's model and of recorded answers
(fact sheet, sections 6.4 and 18.4).
"""

from __future__ import annotations

from typing import Any

#: Status of each code, and whether the body says `message` (True) or `Message`.
CODES: dict[str, tuple[int, bool]] = {
    "AccessDeniedException": (403, False),
    "CodeSigningConfigNotFoundException": (404, False),
    "CodeStorageExceededException": (400, True),
    "InvalidParameterValueException": (400, True),
    "InvalidRequestContentException": (400, True),
    "InvalidRuntimeException": (502, False),
    "InvalidZipFileException": (502, False),
    "PolicyLengthExceededException": (400, True),
    "PreconditionFailedException": (412, True),
    "ProvisionedConcurrencyConfigNotFoundException": (404, True),
    "RequestEntityTooLargeException": (413, True),
    "RequestTooLargeException": (413, True),
    "ResourceConflictException": (409, True),
    "ResourceNotFoundException": (404, False),
    "ResourceNotReadyException": (502, True),
    "ServiceException": (500, False),
    "TooManyRequestsException": (429, True),
    "UnsupportedMediaTypeException": (415, True),
    "UnknownOperationException": (404, True),
    "ValidationException": (400, True),
    "SerializationException": (400, True),
    # Ours, for what AWS has and this server does not; 501 is a status that no SDK tries again
    "NotImplementedException": (501, True),
    # CloudWatch Logs
    "InvalidParameterException": (400, True),
    "ResourceAlreadyExistsException": (400, True),
}

#: Errors of the framework around the service carry no Type member.
_UNTYPED = frozenset({"AccessDeniedException", "SerializationException", "UnknownOperationException",
                      "ValidationException"})  # fmt: skip


class ApiError(Exception):
    """What a caller of the API did wrong, or that we failed. `extra` adds members such as `Reason`; `typed` is False
    for the few answers that were recorded without a Type. An empty message is null in the answer."""

    def __init__(self, code: str, message: str, *, status: int | None = None, extra: dict[str, Any] | None = None,
                 headers: dict[str, str] | None = None, typed: bool = True) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status if status is not None else CODES[code][0]
        self.extra = extra or {}
        self.headers = headers or {}
        self.typed = typed and code not in _UNTYPED

    def body(self) -> dict[str, Any]:
        """The JSON object of the answer."""
        lower = CODES.get(self.code, (400, True))[1]
        body: dict[str, Any] = dict(self.extra)
        if self.typed:
            body["Type"] = "Service" if self.status >= 500 else "User"
        body["message" if lower else "Message"] = self.message or None
        return body


def invalid_parameter(message: str, *, typed: bool = True) -> ApiError:
    return ApiError("InvalidParameterValueException", message, typed=typed)


def not_found(message: str) -> ApiError:
    return ApiError("ResourceNotFoundException", message)


def conflict(message: str) -> ApiError:
    return ApiError("ResourceConflictException", message)
