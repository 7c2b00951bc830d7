"""The callers of the soak: each has functions of its own, does by its seed what users do, and knows what must come.

Processes are killed meanwhile, by others. So every answer is either the right one or one that a kill explains, and
the second kind is counted.
"""

from __future__ import annotations

import http.client
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from bench import soak_functions as functions

#: What a killed process, process 1 or launcher makes of an invocation. Its Init may have to be repeated within its time
#: on a ninth of a processor; and the end of a stream that it was writing may be heard of before its own.
STRUCK = {"Runtime.ExitError", "Extension.Crash", "ServiceException", "Runtime.OutOfMemory", "Runtime.Unknown",
          "Sandbox.Timedout", "Runtime.TruncatedResponse"}  # fmt: skip
_READY_S = 120
_KINDS = {"py": "python", "js": "node", "own": "own", "ext": "python", "url": "node"}
_RUNTIMES = {"python": functions.PYTHON, "node": functions.NODE, "own": "provided.al2023"}
_HANDLERS = {"url": "app.stream"}


class Unexpected(Exception):
    """An answer that nothing explains. One line."""


def client(endpoint: str, service: str) -> Any:
    config = Config(retries={"total_max_attempts": 1}, read_timeout=90)
    session = boto3.Session("soak", "soak", region_name="us-east-1")
    return session.client(service, endpoint_url=endpoint, config=config)


class Caller:
    """One of several. `acts` counts what was done, `struck` the answers that only a kill explains."""

    def __init__(self, endpoint: str, port: int, number: int, seed: int) -> None:
        self._lambda = client(endpoint, "lambda")
        self._logs = client(endpoint, "logs")
        self._port = port
        self._dice = random.Random(f"{seed}-{number}")
        self._name = f"soak{number}"
        self._editions = dict.fromkeys(_KINDS, 1)
        self._host = ""
        self.acts: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()

    def deploy(self) -> None:
        layer = self._lambda.publish_layer_version(LayerName=self._name, Content={"ZipFile": functions.extension()})
        for which, kind in _KINDS.items():
            more = {"Layers": [layer["LayerVersionArn"]]} if which == "ext" else {}
            self._lambda.create_function(
                FunctionName=self._full(which), Role=functions.ROLE, Runtime=_RUNTIMES[kind], Timeout=2, MemorySize=192,
                Handler=_HANDLERS.get(which, "app.handler"), Code={"ZipFile": functions.package(kind, 1)}, **more,
            )  # fmt: skip
        for which in _KINDS:
            self._wait(which, "function_active_v2")
        url = self._lambda.create_function_url_config(FunctionName=self._full("url"), AuthType="NONE",
                                                      InvokeMode="RESPONSE_STREAM")  # fmt: skip
        self._host = url["FunctionUrl"].removeprefix("http://").rstrip("/")

    def act(self) -> None:
        """One thing, drawn by weight. Raises Unexpected."""
        name = self._dice.choices(list(_ACTS), [weight for weight, _ in _ACTS.values()])[0]
        self.acts[name] += 1
        _ACTS[name][1](self)

    def hang_up(self) -> None:
        """Close what connections are kept."""
        self._lambda.close()
        self._logs.close()

    def _full(self, which: str) -> str:
        return f"{self._name}-{which}"

    def _wait(self, which: str, waiter: str, version: str = "$LATEST") -> None:
        self._lambda.get_waiter(waiter).wait(FunctionName=self._full(which), Qualifier=version,
                                             WaiterConfig={"Delay": 0.02, "MaxAttempts": int(_READY_S / 0.02)})

    # Invocations

    def _call(self, which: str, event: dict[str, Any], *wanted: str, version: str = "$LATEST") -> Any:
        """The payload of a good answer, or None. `wanted` are the error types that are right besides, all if none
        may be good: then one of them is `fine`."""
        try:
            reply = self._lambda.invoke(FunctionName=self._full(which), Payload=_json(event), Qualifier=version,
                                        LogType=self._dice.choice(["Tail", "None"]))
            payload = _parsed(reply["Payload"].read())
            error = payload.get("errorType", "no type") if "FunctionError" in reply else ""
        except ClientError as refused:
            payload, error = None, refused.response["Error"]["Code"]
        if error in wanted:
            return None
        if error in STRUCK:
            self.struck[error] += 1
            return None
        if error or (wanted and "fine" not in wanted):
            raise Unexpected(f"{self._full(which)} {event}: {error or 'no error'} {str(payload)[:200]}")
        return payload

    def _say(self, which: str = "", version: str = "$LATEST") -> None:
        which = which or self._dice.choice(["py", "js", "own", "ext"])
        text = "x" * self._dice.choice([1, 100, 100_000])
        payload = self._call(which, {"do": "say", "text": text}, version=version)
        if payload is not None and payload != [self._editions[which], text] and version == "$LATEST":
            raise Unexpected(f"{self._full(which)} said {str(payload)[:100]}, not edition {self._editions[which]}")

    def _fail(self) -> None:
        which = self._dice.choice(["py", "js", "own", "ext"])
        wanted = ("Error",) if which == "js" else ("ValueError",)
        self._call(which, {"do": "raise", "text": "on purpose"}, *wanted)

    def _exit(self) -> None:
        self._call(self._dice.choice(["py", "js", "own", "ext"]), {"do": "exit"}, "Runtime.ExitError")

    def _segfault(self) -> None:
        self._call("py", {"do": "segfault"}, "Runtime.ExitError")

    def _wrong(self) -> None:
        self._call("own", {"do": "wrong"}, "Runtime.ExitError", "Runtime.Unknown")

    def _late(self) -> None:
        self._call(self._dice.choice(["py", "js", "ext"]), {"do": "late"}, "Sandbox.Timedout")

    def _hoard(self) -> None:
        self._call(self._dice.choice(["py", "ext"]), {"do": "hoard"}, "Runtime.OutOfMemory", "Runtime.ExitError",
                   "Sandbox.Timedout")  # fmt: skip

    def _flood(self) -> None:
        self._call(self._dice.choice(["py", "js", "ext"]), {"do": "flood"}, "fine", "Sandbox.Timedout")

    def _large(self) -> None:
        self._call(self._dice.choice(["py", "js"]), {"do": "large"}, "Function.ResponseSizeTooLarge")

    def _mess(self) -> None:
        what = self._dice.choice(["tmp", "children", "line"])
        self._call(self._dice.choice(["py", "ext"]), {"do": what}, "fine", "Sandbox.Timedout")

    def _soon(self) -> None:
        """The process ends between this invocation and the next one, or during either."""
        self._call("py", {"do": "soon"}, "fine", "Runtime.ExitError")
        self._call("py", {"do": "say", "text": "after"}, "fine", "Runtime.ExitError")

    # Streams

    def _stream(self) -> None:
        wanted = self._wanted()
        try:
            reply = self._lambda.invoke_with_response_stream(FunctionName=self._full("url"), Payload=_json(wanted))
            events = list(reply["EventStream"])
        except ClientError as refused:
            return self._is_struck(refused.response["Error"]["Code"])
        end = events[-1]["InvokeComplete"]
        if "ErrorCode" in end:
            error = json.loads(end["ErrorDetails"])["errorType"]
            return None if "die" in wanted else self._is_struck(error)
        size = sum(len(event["PayloadChunk"]["Payload"]) for event in events[:-1])
        if size != wanted["size"] * wanted["chunks"]:
            raise Unexpected(f"{wanted} streamed {size} bytes")
        return None

    def _is_struck(self, error: str) -> None:
        if error not in STRUCK:
            raise Unexpected(f"a stream ended with {error}")
        self.struck[error] += 1

    def _url(self, *, hang_up: bool = False) -> None:
        wanted = self._wanted()
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("POST", "/", _json(wanted), {"Host": self._host})
            reply = connection.getresponse()
            if hang_up:
                reply.read(1000)
                return
            size = len(reply.read())
            if reply.status in (500, 502):  # 500: what Invoke calls ServiceException
                self.struck[str(reply.status)] += "die" not in wanted
            elif reply.status != 200 or ("die" not in wanted and size != wanted["size"] * wanted["chunks"]):
                raise Unexpected(f"the URL answered {reply.status} with {size} bytes to {wanted}")
        except http.client.IncompleteRead:
            self.struck["half a stream"] += "die" not in wanted
        finally:
            connection.close()

    def _wanted(self) -> dict[str, int]:
        wanted = {"chunks": self._dice.randint(1, 20), "size": self._dice.choice([1, 1000, 100_000])}
        return wanted | {"die": self._dice.randrange(wanted["chunks"])} if self._dice.random() < 0.1 else wanted

    def _hang_up(self) -> None:
        self._url(hang_up=True)

    # Changes

    def _code(self) -> None:
        which = self._dice.choice(["py", "js", "own"])
        self._editions[which] += 1
        self._lambda.update_function_code(FunctionName=self._full(which),
                                          ZipFile=functions.package(_KINDS[which], self._editions[which]))
        self._wait(which, "function_updated_v2")
        self._say(which)

    def _configuration(self) -> None:
        which = self._dice.choice(list(_KINDS))
        self._lambda.update_function_configuration(
            # Each size of Node.js would be a kind of blank of its own, and what is parked in the end differ each time.
            FunctionName=self._full(which),
            MemorySize=192 if _KINDS[which] == "node" else self._dice.choice([160, 192, 256]),
            Environment={"Variables": {"NUMBER": str(self._dice.randrange(1000))}},
        )  # fmt: skip
        self._wait(which, "function_updated_v2")

    def _alias(self) -> None:
        which = self._dice.choice(["py", "js"])
        name = self._full(which)
        version = self._lambda.publish_version(FunctionName=name)["Version"]
        self._wait(which, "published_version_active", version)
        try:
            self._lambda.update_alias(FunctionName=name, Name="live", FunctionVersion=version)
        except ClientError:
            self._lambda.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
        self._say(which, "live")
        for old in self._lambda.list_versions_by_function(FunctionName=name)["Versions"]:
            if old["Version"] not in ("$LATEST", version):
                self._lambda.delete_function(FunctionName=name, Qualifier=old["Version"])

    def _again(self) -> None:
        """Deleted and created anew, as tools do that replace."""
        self._lambda.delete_function(FunctionName=self._full("own"))
        self._editions["own"] += 1
        self._lambda.create_function(
            FunctionName=self._full("own"), Role=functions.ROLE, Runtime="provided.al2023", Timeout=2, MemorySize=192,
            Handler="x", Code={"ZipFile": functions.package("own", self._editions["own"])})  # fmt: skip
        self._wait("own", "function_active_v2")
        self._say("own")

    def _read_logs(self) -> None:
        group = f"/aws/lambda/{self._full(self._dice.choice(list(_KINDS)))}"
        try:
            self._logs.filter_log_events(logGroupName=group, filterPattern="REPORT", limit=50)
            self._logs.describe_log_streams(logGroupName=group)
            if self._dice.random() < 0.3:
                self._logs.delete_log_group(logGroupName=group)
        except ClientError as refused:
            if refused.response["Error"]["Code"] != "ResourceNotFoundException":
                raise Unexpected(f"logs of {group}: {refused}") from None


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _parsed(data: bytes) -> Any:
    return json.loads(data)


#: name -> weight, act
_ACTS: dict[str, tuple[int, Callable[[Caller], None]]] = {
    "say": (40, Caller._say), "raise": (6, Caller._fail), "exit": (4, Caller._exit), "segfault": (2, Caller._segfault),
    "wrong request": (2, Caller._wrong), "timeout": (2, Caller._late), "out of memory": (2, Caller._hoard),
    "flood": (3, Caller._flood), "too large": (2, Caller._large), "mess": (4, Caller._mess), "soon": (4, Caller._soon),
    "stream": (8, Caller._stream), "url": (8, Caller._url), "hang up": (3, Caller._hang_up), "code": (3, Caller._code),
    "configuration": (2, Caller._configuration), "alias": (2, Caller._alias), "again": (1, Caller._again),
    "logs": (4, Caller._read_logs),
}  # fmt: skip
