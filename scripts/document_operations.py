"""Write docs/operations.md from the registry of operations, or with --check say whether it is current (exit code 1).

Which operations exist is the model's; which are served is the registry's. What "stored" means for each that is only
kept, and what each setting of a function does at run time, stands here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import lambent.control.app  # fills the registries
from lambent.control import live_tail
from lambent.control.context import LOGS, OPERATIONS
from lambent.control.model import LOGS_OPERATIONS, SHAPES
from lambent.control.model import OPERATIONS as MODELLED
from lambent.control.rules import REFUSED
from lambent.frontend import invoke, streaming

assert lambent.control.app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "operations.md"

#: Operations that the frontend answers itself.
_FRONTEND = {"Invoke": invoke.__name__, "InvokeWithResponseStream": streaming.__name__}

#: Resources that are judged, kept and shown, by the operations on them, and what they do at run time.
_STORED: dict[str, tuple[str, ...]] = {
    "invocations from other accounts and, with `--public-urls policy`, over open URLs are judged by it; no other calls "
    "are, since callers are not authenticated": (
        "AddPermission", "GetPolicy", "RemovePermission",
    ),
    "kept for asynchronous invocation": (
        "DeleteFunctionEventInvokeConfig", "GetFunctionEventInvokeConfig", "ListFunctionEventInvokeConfigs",
        "PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig",
    ),
    "no poller reads the sources; the state says so": (
        "CreateEventSourceMapping", "DeleteEventSourceMapping", "GetEventSourceMapping", "ListEventSourceMappings",
        "UpdateEventSourceMapping",
    ),
    "no signature is verified": (
        "CreateCodeSigningConfig", "DeleteCodeSigningConfig", "DeleteFunctionCodeSigningConfig",
        "GetCodeSigningConfig", "GetFunctionCodeSigningConfig", "ListCodeSigningConfigs",
        "ListFunctionsByCodeSigningConfig", "PutFunctionCodeSigningConfig", "UpdateCodeSigningConfig",
    ),
    "the runtime is what the host has; it is never updated by itself": (
        "GetRuntimeManagementConfig", "PutRuntimeManagementConfig",
    ),
    "loops are not detected": ("GetFunctionRecursionConfig", "PutFunctionRecursionConfig"),
}  # fmt: skip
_NOTES = {name: note for note, names in _STORED.items() for name in names}

#: Members of CreateFunction and UpdateFunctionConfiguration: whether they work, and what they do at run time.
_SETTINGS: dict[str, tuple[str, str]] = {
    "Architectures": ("stored", "environments have the host's architecture"),
    "Code": ("works", "a zip in the request or from S3; images are refused"),
    "CodeSigningConfigArn": ("stored", "no signature is verified"),
    "DeadLetterConfig": ("stored", "nothing is sent there yet"),
    "Description": ("works", ""),
    "Environment": ("works", "set in the environment, at most 4 KB"),
    "EphemeralStorage": ("works", "size of /tmp"),
    "FileSystemConfigs": ("stored", "nothing is mounted"),
    "FunctionName": ("works", ""),
    "Handler": ("works", ""),
    "ImageConfig": ("refused", "packages are zips"),
    "KMSKeyArn": ("stored", "variables are kept as they are"),
    "Layers": ("works", "unpacked into /opt in their order"),
    "LoggingConfig": ("works", "format, levels and group"),
    "MemorySize": ("works", "memory limit and CPU share of environments"),
    "PackageType": ("works", "Zip; Image is refused"),
    "Publish": ("works", ""),
    "RevisionId": ("works", "precondition"),
    "Role": ("stored", "it is not checked to exist; environments get credentials of it, as STS says"),
    "Runtime": ("works", "as far as the host has an interpreter"),
    "SnapStart": ("stored", "no snapshot is taken; an Active version shows On, as AWS's does"),
    "Tags": ("works", ""),
    "Timeout": ("works", ""),
    "TracingConfig": ("stored", "trace headers are handed on, nothing is sampled"),
    "VpcConfig": ("stored", "environments have the network of the server's setting; the VpcId is made up; idle for "
                  "14 days (`--inactive-after-days`), the function is Inactive until it is called"),
}

#: Of CloudWatch Logs, what differs from AWS.
_LOGS: dict[str, str] = {
    "CreateLogGroup": "KMS keys, deletion protection and other classes than STANDARD are refused",
    "PutLogEvents": "the sequence token is not looked at, as on AWS",
    live_tail.OPERATION: "SDKs put `stream-` before the server's name, unless AWS_DISABLE_HOST_PREFIX_INJECTION is "
                         "true, as in the exports of `lambent env`",
}  # fmt: skip

_HEAD = """# Operations of the Lambda API and of CloudWatch Logs

**works**: as AWS does it. **stored**: validated, kept and returned; the note says what it does at run time.
**refused**: one clear error (501 NotImplementedException), nothing is changed.

<!-- Written by scripts/document_operations.py from the code; a test fails when it is out of date. -->

"""


def status(name: str) -> str:
    if name not in OPERATIONS and name not in _FRONTEND:
        return "refused"
    return "stored" if name in _NOTES else "works"


def page() -> str:
    """The whole page. AssertionError when a table above says something that the code does not."""
    unknown = set(_NOTES) - set(MODELLED)
    assert not unknown, f"not operations: {unknown}"
    words = {"works": "work", "stored": "are stored", "refused": "are refused"}
    said = ", ".join(f"{sum(status(name) == word for name in MODELLED)} {said}" for word, said in words.items())
    text = f"{_HEAD}Of {len(MODELLED)} operations: {said}.\n\n| operation | | note |\n| --- | --- | --- |\n"
    for name in sorted(MODELLED):
        note = _NOTES.get(name, "") if status(name) == "stored" else ""
        text += f"| {name} | {status(name)} | {note} |\n"
    text += "\n## Settings of a function\n\n| setting | | at run time |\n| --- | --- | --- |\n"
    members = {*SHAPES["CreateFunctionRequest"]["members"], *SHAPES["UpdateFunctionConfigurationRequest"]["members"]}
    assert set(_SETTINGS) | set(REFUSED) == members, (set(_SETTINGS) | set(REFUSED)) ^ members
    for name in sorted(members):
        word, note = _SETTINGS.get(name, ("refused", ""))
        text += f"| {name} | refused | |\n" if name in REFUSED else f"| {name} | {word} | {note} |\n"
    return text + logs_section()


def logs_section() -> str:
    served = {*LOGS, live_tail.OPERATION}
    assert served == set(LOGS_OPERATIONS) and _LOGS.keys() <= served, served ^ set(LOGS_OPERATIONS)
    text = "\n## CloudWatch Logs\n\nThese work; its other operations are unknown here (UnknownOperationException).\n"
    text += "\n| operation | note |\n| --- | --- |\n"
    return text + "".join(f"| {name} | {_LOGS.get(name, '')} |\n" for name in sorted(served))


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        if PAGE.exists() and PAGE.read_text("utf-8") == page():
            return 0
        print(f"{PAGE.name} is out of date; run {Path(__file__).name}", file=sys.stderr)
        return 1
    if arguments:
        print("document_operations.py: the only option is --check", file=sys.stderr)
        return 2
    PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
