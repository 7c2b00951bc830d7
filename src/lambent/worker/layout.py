"""What a function's process finds: the sandbox to make for a function version, and its environment variables.

Variables are laid over each other with AWS's precedence (fact sheet 9.8): the customer's own, then the platform's. The
runtime's row comes from `runtimes.prepared`, which knows which of its variables a customer may replace.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from lambent.callers import Session, key_id, session_token
from lambent.core.model import FunctionVersion, InitType
from lambent.runtimes.prepared import PreparedRuntime
from lambent.sandbox.base import Places, SandboxSpec

#: Left out of an extension's environment (fact sheet 3.6), besides every name that begins with an underscore.
_NOT_FOR_EXTENSIONS = frozenset({
    "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT",
})  # fmt: skip

#: Where AWS's daemon for traces listens, as recorded (fact sheet 9.8). Nobody does here, and nothing is sampled; the
#: X-Ray SDK only complains in the log then. A customer may replace the ones without an underscore.
XRAY = {
    "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR", "AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1:2000",
    "_AWS_XRAY_DAEMON_ADDRESS": "169.254.100.1", "_AWS_XRAY_DAEMON_PORT": "2000",
}  # fmt: skip


def sandbox_spec(environment_id: str, function: FunctionVersion, runtime: PreparedRuntime, task: Path,
                 opt: Path | None, network: str, codes: tuple[Path | None, Path | None]) -> SandboxSpec:
    """The sandbox for one environment of this function version. `codes` are what was compiled of task and opt."""
    return SandboxSpec(
        id=environment_id,
        task=task,
        memory_mib=function.memory_mib,
        tmp_mib=function.ephemeral_mib,
        opt=opt,
        runtime=runtime.runtime_dir,
        lang=runtime.lang,
        task_code=codes[0],
        opt_code=codes[1],
        network=network,
    )


def variables(function: FunctionVersion, runtime: PreparedRuntime, places: Places, *, api_address: str,
              log_stream: str, init_type: InitType, metadata_token: str) -> dict[str, str]:
    """The runtime process's whole environment."""
    row = {**XRAY, **function.environment}
    row |= runtime.environment(places, function)
    row |= credentials(function)
    row |= {
        "AWS_REGION": function.region,
        "AWS_DEFAULT_REGION": function.region,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mib),
        "AWS_LAMBDA_INITIALIZATION_TYPE": init_type,
        "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
        "AWS_LAMBDA_RUNTIME_API": api_address,
        "AWS_LAMBDA_METADATA_API": api_address,
        "AWS_LAMBDA_METADATA_TOKEN": metadata_token,
    }
    if function.log_format == "JSON":
        row["AWS_LAMBDA_LOG_FORMAT"] = "JSON"
        row["AWS_LAMBDA_LOG_LEVEL"] = function.application_log_level or "INFO"
    if places.tmp != "/tmp":
        row["TMPDIR"] = places.tmp
    return row


def extension_variables(row: dict[str, str]) -> dict[str, str]:
    """What of the function's environment an extension gets."""
    return {name: value for name, value in row.items() if name not in _NOT_FOR_EXTENSIONS and name[:1] != "_"}


def credentials(function: FunctionVersion) -> dict[str, str]:
    """Keys of the execution role, in the function's account. They open nothing: our own API takes any."""
    digest = hashlib.sha256(f"{function.role} {function.function_arn}".encode()).hexdigest()
    return {
        "AWS_ACCESS_KEY_ID": key_id(function.account, "FUNC"),
        "AWS_SECRET_ACCESS_KEY": digest[:40],
        "AWS_SESSION_TOKEN": session_token(Session(function.role, function.name)),
    }
