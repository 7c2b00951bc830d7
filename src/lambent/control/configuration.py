"""A function's configuration: what requests may say beyond the model, how it is kept, shown and run.

Kept is what the API shows, without the members that follow from the key and the code. Rules and messages: fact sheet
9.1, 9.4, 9.5, 9.8. What changes nothing at run time is in `stored_settings`; what is refused by name, in `rules`.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from lambent.clock import lambda_time
from lambent.control.stored_settings import with_stored
from lambent.core.model import FunctionVersion
from lambent.errors import invalid_parameter
from lambent.limits import ENVIRONMENT_BYTES, EPHEMERAL_MIB_DEFAULT, MEMORY_MIB_DEFAULT, TIMEOUT_S_DEFAULT
from lambent.names import runtime_version_arn
from lambent.store.functions import Function, Key, Version

Configuration = dict[str, Any]

#: Names that the platform sets (fact sheet 9.8; AWS's page "Defined runtime environment variables").
RESERVED_VARIABLES = frozenset({
    "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN",
    "AWS_LAMBDA_MAX_CONCURRENCY",
})  # fmt: skip

#: Runtimes that can have SnapStart (fact sheet 11).
SNAP_START_RUNTIMES = frozenset({
    "java11", "java17", "java21", "java25", "python3.12", "python3.13", "python3.14", "dotnet8", "dotnet10",
})  # fmt: skip

_PLAIN = ("Runtime", "Role", "Handler", "Description", "Timeout", "MemorySize")
#: Members that say how far an activation has come.
STATE = frozenset({
    "State", "StateReason", "StateReasonCode", "LastUpdateStatus", "LastUpdateStatusReason",
    "LastUpdateStatusReasonCode", "RuntimeVersionConfig",
})  # fmt: skip


def initial(name: str, params: Mapping[str, Any]) -> Configuration:
    """The configuration of a new function, Pending. Raises ApiError for what the rules forbid."""
    configuration: Configuration = {
        "FunctionName": name, "Description": "", "Timeout": TIMEOUT_S_DEFAULT, "MemorySize": MEMORY_MIB_DEFAULT,
        "TracingConfig": {"Mode": "PassThrough"}, "PackageType": "Zip", "Architectures": ["x86_64"],
        "EphemeralStorage": {"Size": EPHEMERAL_MIB_DEFAULT},
        "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{name}"},
    }  # fmt: skip
    configuration = merged(configuration, params)
    if "Architectures" in params:
        configuration["Architectures"] = params["Architectures"]
    configuration |= {"State": "Pending", "StateReason": "The function is being created.",
                      "StateReasonCode": "Creating"}  # fmt: skip
    return configuration


def merged(before: Mapping[str, Any], params: Mapping[str, Any]) -> Configuration:
    """`before` with what a request says about it, except layers. Raises ApiError for what the rules forbid."""
    after = dict(before)
    after |= {member: params[member] for member in _PLAIN if member in params}
    if "\0" in after.get("Handler", ""):
        raise invalid_parameter("The handler contains a NUL character.")
    if "Environment" in params:
        variables = params["Environment"].get("Variables") or {}
        check_variables(variables)
        after["Environment"] = {"Variables": variables}
    if "TracingConfig" in params:
        after["TracingConfig"] = {"Mode": params["TracingConfig"].get("Mode", "PassThrough")}
    if "EphemeralStorage" in params:
        after["EphemeralStorage"] = {"Size": params["EphemeralStorage"]["Size"]}
    if "SnapStart" in params:
        # $LATEST is never optimised (trap 20).
        after["SnapStart"] = {"ApplyOn": params["SnapStart"].get("ApplyOn", "None"), "OptimizationStatus": "Off"}
    if after["SnapStart"]["ApplyOn"] != "None" and after["Runtime"] not in SNAP_START_RUNTIMES:
        raise invalid_parameter(f"{after['Runtime']} is not supported for SnapStart enabled functions.")
    if "LoggingConfig" in params:
        after["LoggingConfig"] = _logging(after["LoggingConfig"], params["LoggingConfig"])
    return with_stored(after, params)


def check_variables(variables: Mapping[str, str]) -> None:
    """What a function's environment variables must obey beyond the model. Raises ApiError."""
    reserved = sorted(RESERVED_VARIABLES & variables.keys())
    if reserved:
        raise invalid_parameter(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided contains reserved keys that are currently not supported for modification. Reserved keys used "
            f"in this request: {', '.join(reserved)}"
        )
    measured = msgspec.json.encode(variables)
    if len(measured) > ENVIRONMENT_BYTES:
        raise invalid_parameter(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided exceeded the 4KB limit. String measured: {measured.decode()}"
        )
    for name, value in variables.items():
        if "\0" in value:
            raise invalid_parameter(f"The value of the environment variable {name} contains a NUL character.")


def _logging(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    after = {**before, **given}
    levels = {"ApplicationLogLevel", "SystemLogLevel"}
    if after["LogFormat"] == "Text":
        if levels & given.keys():
            raise invalid_parameter('LogLevel is not supported when LogFormat is set to "Text". Remove LogLevel from '
                                    'your request or change the LogFormat to "JSON" and try again.')  # fmt: skip
        return {member: value for member, value in after.items() if member not in levels}
    return {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO", **after}


def begun(configuration: Configuration, wall_s: float) -> Configuration:
    """The configuration with the stamps of a change that was made now."""
    return {**configuration, "LastModified": lambda_time(wall_s), "RevisionId": str(uuid.uuid4())}


def updating(configuration: Configuration, wall_s: float) -> Configuration:
    """The same for an update: old code serves until the activation has succeeded. The reason is AWS's, verbatim."""
    return begun(configuration, wall_s) | {
        "LastUpdateStatus": "InProgress", "LastUpdateStatusReason": "The function is being created.",
        "LastUpdateStatusReasonCode": "Creating",
    }  # fmt: skip


def shown(function: Function, version: Version, qualifier: str | None = None) -> Configuration:
    """FunctionConfiguration as the API gives it to one who named the function with this qualifier."""
    configuration = dict(version.configuration)
    runtime = configuration.get("Runtime", "")
    configuration |= {
        "FunctionArn": function.arn if qualifier is None else f"{function.arn}:{qualifier}",
        "CodeSha256": base64.b64encode(bytes.fromhex(version.code_sha256)).decode(),
        "Version": version.version,
        "RuntimeVersionConfig": {"RuntimeVersionArn": runtime_version_arn(function.region, runtime)},
    }
    return configuration


def listed(function: Function, version: Version, qualifier: str | None = None) -> Configuration:
    """The same without the members that lists leave out (API reference, ListFunctions)."""
    return {name: value for name, value in shown(function, version, qualifier).items() if name not in STATE}


def runnable(key: Key, version: Version) -> FunctionVersion:
    """The version as environments are to be made from it."""
    shown = version.configuration
    logging = shown["LoggingConfig"]
    account, region, name = key
    return FunctionVersion(
        account=account, region=region, name=name, version=version.version, generation=version.generation,
        runtime=shown["Runtime"], handler=shown["Handler"], code_sha256=version.code_sha256,
        timeout_s=shown["Timeout"], memory_mib=shown["MemorySize"], ephemeral_mib=shown["EphemeralStorage"]["Size"],
        environment=dict(shown.get("Environment", {}).get("Variables", {})), layers=version.layers,
        log_group=logging["LogGroup"],
        log_format=logging["LogFormat"], application_log_level=logging.get("ApplicationLogLevel"),
        system_log_level=logging.get("SystemLogLevel"), architecture=shown["Architectures"][0],
        role=shown["Role"],
    )  # fmt: skip
