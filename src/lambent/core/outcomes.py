"""The answers that the platform itself gives to a caller, in AWS's words (fact sheet 2.3, 2.6 and 6.3)."""

from __future__ import annotations

from lambent.core.model import ExitStatus, Outcome, OutcomeKind

#: Error types that the platform itself finds, as a failing Init may be asked for by name (`chaos`).
INVALID_ENTRYPOINT = "Runtime.InvalidEntrypoint"
OUT_OF_MEMORY = "Runtime.OutOfMemory"
EXIT_ERROR = "Runtime.ExitError"


def _error(error_type: str, message: str) -> Outcome:
    quoted = message.replace("\\", "\\\\").replace('"', '\\"')
    payload = f'{{"errorType":"{error_type}","errorMessage":"{quoted}"}}'.encode()
    return Outcome(OutcomeKind.FUNCTION_ERROR, payload, error_type=error_type)


def timed_out(request_id: str, timeout_s: float) -> Outcome:
    """The function's time ran out."""
    return _error("Sandbox.Timedout", f"RequestId: {request_id} Error: Task timed out after {timeout_s:.2f} seconds")


def failed(request_id: str, error_type: str, reason: str) -> Outcome:
    """The runtime or an extension cannot go on; `reason` is what is known of the cause."""
    return _error(error_type, f"RequestId: {request_id} Error: {reason}")


def runtime_exit(exit: ExitStatus) -> tuple[str, str]:
    """Error type and reason of a runtime's process that ended."""
    how = exit.describe()
    reason = f"Runtime exited with error: {how}" if how else "Runtime exited without providing a reason"
    return (OUT_OF_MEMORY if exit.oom else EXIT_ERROR), reason


def extension_exit(exit: ExitStatus) -> tuple[str, str]:
    """The same of an extension's, which should live as long as the environment."""
    return "Extension.Crash", exit.describe() or "exit code 0"


def launch_problem(exit: ExitStatus) -> str:
    """Why an extension could not be executed, in the C library's words."""
    return exit.unlaunched or ("no such file or directory" if exit.code == 127 else "permission denied")


def response_too_large(limit_bytes: int) -> Outcome:
    """The runtime posted more than a buffered response may hold; the environment goes on."""
    return _error("Function.ResponseSizeTooLarge",
                  f"Response payload size exceeded maximum allowed payload size ({limit_bytes} bytes).")


def truncated_response() -> Outcome:
    """A response stopped before its end; the environment goes on."""
    return _error("Runtime.TruncatedResponse", "Response ended before it was complete.")


def invalid_response_mode() -> Outcome:
    """The runtime named a mode for its response that there is not."""
    return _error("Runtime.InvalidResponseModeHeader", "Invalid function response mode")


def invalid_entrypoint(request_id: str, cause: str) -> Outcome:
    """There is no bootstrap, or it cannot be executed."""
    return _error(INVALID_ENTRYPOINT, f"RequestId: {request_id} Error: {cause}")


def platform_failed(cause: str) -> Outcome:
    """We could not do our part."""
    return Outcome(OutcomeKind.PLATFORM_ERROR, error_type=cause)


def refused(reason: str) -> Outcome:
    """Throttled, with AWS's reason."""
    return Outcome(OutcomeKind.REFUSED, error_type=reason)
