"""The one table of settings: name, type, default, help.

It feeds the flags of `lambent up`, the variables `LAMBENT_<NAME>`, the help text and `docs/settings.md`.
Nothing else in the package reads `os.environ`. Precedence: flag, then variable, then default.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from lambent.callers import is_region
from lambent.limits import CODE_STORAGE_BYTES

SandboxChoice = Literal["auto", "namespace", "process"]
Network = Literal["host", "isolated"]


class SettingError(ValueError):
    """A setting has a value that it cannot take; the message names the setting, the value and what is allowed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `choices` is empty when any value of the type goes."""

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None

    @property
    def variable(self) -> str:
        return "LAMBENT_" + self.name.upper()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def default_text(self) -> str:
        """The default as one would type it."""
        if self.kind is bool:
            return "true" if self.default else "false"
        return f"{self.default:g}" if self.kind is float else str(self.default)

    def parse(self, text: str) -> Any:
        """Text from a flag or a variable as the setting's type, or SettingError."""
        if self.name in _NEVER_EMPTY and not text.strip():
            raise SettingError(f"{self.flag} must not be empty")
        try:
            value = _BOOLEANS[text.lower()] if self.kind is bool else self.kind(text)
        except (ValueError, KeyError):
            expected = {bool: "true or false", int: "a whole number", float: "a number"}[self.kind]
            raise SettingError(f"{self.flag}: {text!r} is not {expected}") from None
        self.check(value)
        return value

    def check(self, value: Any) -> None:
        if self.choices and value not in self.choices:
            raise SettingError(f"{self.flag}: {value!r} is not one of {', '.join(self.choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise SettingError(f"{self.flag}: {value!r} is not a number that one can count to")
        if self.minimum is not None and value < self.minimum:
            raise SettingError(f"{self.flag}: {value!r} is below {self.minimum:g}")
        if self.name == "port" and value > 65535:
            raise SettingError(f"{self.flag}: {value!r} is not a port (0 to 65535)")
        if self.name == "account" and not (len(value) == 12 and value.isascii() and value.isdecimal()):
            raise SettingError(f"{self.flag}: {value!r} is not a 12-digit account id")
        if self.name == "region" and not is_region(value):
            raise SettingError(f"{self.flag}: {value!r} is not the name of a region, like us-east-1")
        if self.name == "s3_endpoint" and value and not _is_endpoint(value):
            raise SettingError(f"{self.flag}: {value!r} is not an address like http://host:port")


def _is_endpoint(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        return False


#: Where nothing would be taken for something: for every address of this machine, for the current folder.
_NEVER_EMPTY = ("host", "data_dir", "cache_dir")
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _home(variable: str, fallback: str) -> Path:
    base = os.environ.get(variable)
    return Path(base) if base else Path(os.environ.get("HOME") or "/root") / fallback


SETTINGS: tuple[Setting, ...] = (
    Setting("host", str, "127.0.0.1", "address to listen on"),
    Setting("port", int, 4566, "port to listen on; 0 picks a free one", minimum=0),
    Setting("data_dir", Path, _home("XDG_DATA_HOME", ".local/share") / "lambent",
            "where functions, code and logs are kept"),
    Setting("cache_dir", Path, _home("XDG_CACHE_HOME", ".cache") / "lambent",
            "where runtime clients, SDKs and packages of functions are installed; may be shared by servers"),
    Setting("sandbox", str, "auto", "isolation backend", ("auto", "namespace", "process")),
    Setting("network", str, "host", "network of environments: the host's, or none but the Runtime API",
            ("host", "isolated")),
    Setting("account", str, "000000000000", "account id of functions"),
    Setting("region", str, "us-east-1", "region of functions"),
    Setting("keep_alive_s", float, 600.0, "seconds an idle environment is kept", minimum=0),
    Setting("max_age_s", float, 14_400.0,
            "seconds after which an environment is recycled, less up to a tenth", minimum=1),
    Setting("inactive_after_days", float, 14.0,
            "days without use after which a function in a VPC becomes Inactive, as on AWS; 0: never", minimum=0),
    Setting("public_urls", str, "open", "who may call a function URL of auth type NONE: everybody, or, as on AWS, only "
            "where the function's policy lets everybody in", ("open", "policy")),
    Setting("concurrency", int, 1000, "concurrent executions of each account, in each region", minimum=1),
    Setting("code_storage_mib", int, CODE_STORAGE_BYTES // 1_048_576,
            "zips of all versions of functions and layers of each account, in each region", minimum=1),
    Setting("memory_mib", int, 0, "memory of all environments together; 0 takes 80 % of the host's", minimum=0),
    Setting("blanks", int, 8, "most sandboxes kept ready with a waiting runtime in them", minimum=0),
    Setting("proactive_init", bool, False,
            "initialise environments ahead of invocations while a function is in use, as AWS does at times"),
    Setting("drain_s", float, 5.0, "seconds that running invocations get when the server stops", minimum=0),
    Setting("stream_bandwidth", str, "aws",
            "rate of a streamed response: as on AWS (6 MiB at full speed, then 2 MiB/s), or unlimited",
            ("aws", "unlimited")),
    Setting("nearest_runtime", bool, False, "run a function on the closest minor version when the host lacks its own"),
    Setting("tmp", str, "auto", "what /tmp is made of: an ext4 image, or tmpfs that counts against memory",
            ("auto", "ext4", "tmpfs")),
    Setting("s3_endpoint", str, "", "S3-compatible endpoint that code in buckets is read from, as http://host:port, "
            "with the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; empty: no code from buckets"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, resolved once at start. Parts get the few values that they need, never this object."""

    host: str
    port: int
    data_dir: Path
    cache_dir: Path
    sandbox: SandboxChoice
    network: Network
    account: str
    region: str
    keep_alive_s: float
    max_age_s: float
    inactive_after_days: float
    public_urls: Literal["open", "policy"]
    concurrency: int
    code_storage_mib: int
    memory_mib: int
    blanks: int
    proactive_init: bool
    drain_s: float
    stream_bandwidth: Literal["aws", "unlimited"]
    nearest_runtime: bool
    tmp: Literal["auto", "ext4", "tmpfs"]
    s3_endpoint: str


def load(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from flags (values or text; None means not given), then variables, then defaults.

    Raises SettingError for a value that does not fit and for an unknown `LAMBENT_` variable.
    """
    environ = os.environ if environ is None else environ
    known = {setting.variable: setting for setting in SETTINGS}
    for variable in environ:
        if variable.startswith("LAMBENT_") and variable not in known and variable not in _OTHER_VARIABLES:
            raise SettingError(f"{variable} is not a setting; see lambent up --help")
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        given = flags.get(setting.name)
        if given is None:
            given = environ.get(setting.variable) or None
        if isinstance(given, str):
            given = setting.parse(given)
        elif given is None:
            given = setting.default
        else:
            setting.check(given)
        # A process of a sandbox, which binds folders of the server's, has a working directory of its own.
        values[setting.name] = Path(os.path.abspath(given)) if isinstance(given, Path) else given
    return Settings(**values)


#: Read by the command-line client, not by the server.
_OTHER_VARIABLES = frozenset({"LAMBENT_ENDPOINT", "LAMBENT_TOKEN"})


def client_endpoint() -> str | None:
    """The server that commands talk to, from `LAMBENT_ENDPOINT`; None when unset."""
    return os.environ.get("LAMBENT_ENDPOINT") or None


def client_token() -> str | None:
    """The token for changing calls under `/_lambent/`, from `LAMBENT_TOKEN`; None when unset."""
    return os.environ.get("LAMBENT_TOKEN") or None


def s3_keys() -> tuple[str, str]:
    """The key id and the secret for `s3_endpoint`; keys that any emulator takes when the environment has none."""
    return os.environ.get("AWS_ACCESS_KEY_ID") or "test", os.environ.get("AWS_SECRET_ACCESS_KEY") or "test"


def inherited_environment() -> dict[str, str]:
    """The server's own variables, for tools that it starts on the host (pip, npm). Never for a guest."""
    return dict(os.environ)


assert [field.name for field in fields(Settings)] == [setting.name for setting in SETTINGS]
