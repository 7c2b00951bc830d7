"""The management API under `/_lambent/`: what people and the console see of environments, and may ask of them.

Reading is open to whoever reaches the server; changing needs the token of the data directory. Environments reach
neither: a request whose socket belongs to a guest's user is refused.
"""

from __future__ import annotations

import hmac
import traceback
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from lambent.dispatcher import Dispatcher
from lambent.errors import ApiError, invalid_parameter
from lambent.frontend import chaos
from lambent.frontend.chaos import ChaosApi
from lambent.http1 import Request

PREFIX = "/_lambent/"


class Management:
    """`about` gives the members of `health` beside the status; `ask_guest` tells sockets of environments."""

    def __init__(self, dispatcher: Dispatcher, token: str, about: Callable[[], dict[str, Any]],
                 ask_guest: Callable[[tuple[str, int], tuple[str, int], Callable[[bool], None]], None],
                 provoking: ChaosApi) -> None:
        self._dispatcher = dispatcher
        self._token = token
        self._about = about
        self._ask_guest = ask_guest
        self._chaos = provoking

    def handle(self, request: Request) -> None:
        """Never raises: the answer may come when whoever called this has long gone on."""
        self._ask_guest(request.peer, request.local, lambda is_guest: self._judged(request, is_guest))

    def _judged(self, request: Request, is_guest: bool) -> None:
        if is_guest:
            _say(request, 403, "Environments have no access to the management API.")
            return
        try:
            self._route(request)
        except ApiError as error:
            _say(request, error.status, error.message, (("x-amzn-ErrorType", error.code),))
        except Exception:
            traceback.print_exc()
            _say(request, 500, "Internal Server Error")

    def _route(self, request: Request) -> None:
        match request.path[len(PREFIX) :].strip("/").split("/"):
            case ["health"]:
                self._read(request, lambda: {"status": "ok", **self._about()})
            case ["environments"]:
                self._environments(request)
            case ["environments", environment_id, "story"]:
                self._story(request, environment_id)
            case ["environments", environment_id, "retire"]:
                self._change(request, "POST", lambda: self._retire(request, environment_id))
            case ["functions", name, "story"]:
                self._read(request, lambda: self._function_story(unquote(name)))
            case ["chaos"] if request.method == "DELETE":
                self._change(request, "DELETE", lambda: self._chaos.clear(request))
            case ["chaos"]:
                self._read(request, self._chaos.state, "GET, DELETE")
            case ["chaos", what] if what in chaos.POSTS:
                self._change(request, "POST", lambda: self._chaos.provoke(request, what))
            case _:
                _say(request, 404, f"There is nothing at {request.path}.")

    def _read(self, request: Request, answer: Callable[[], dict[str, Any] | None], allowed: str = "GET") -> None:
        if request.method not in ("GET", "HEAD"):
            _say(request, 405, f"{request.method} is not possible here.", (("Allow", allowed),))
            return
        found = answer()
        if found is None:
            _say(request, 404, "No environment of this id is known.")
        else:
            request.respond(200, msgspec.json.encode(found))

    def _environments(self, request: Request) -> None:
        """With their proportional memory for who asks: to measure it takes most."""
        if request.method in ("GET", "HEAD"):
            self._dispatcher.worker.look(lambda rows: self._read(request, lambda: {"environments": rows}),
                                         pss=_asks_for(request, "pss"))
        else:
            self._read(request, lambda: None)

    def _story(self, request: Request, environment_id: str) -> None:
        """With `?wait=idle` once the environment is idle or gone, with `?wait=gone` once it is gone."""

        def tell() -> None:
            self._read(request, lambda: self._dispatcher.worker.story(environment_id))

        wait = parse_qs(request.query).get("wait", [""])[0]
        if wait not in ("", "idle", "gone"):
            raise invalid_parameter("wait is idle or gone.")
        number = self._dispatcher.worker.find(environment_id)
        if not wait or number is None:
            tell()
        elif wait == "idle":
            self._dispatcher.when_at_rest(number, tell)
        else:
            self._dispatcher.when_gone({number}, tell)

    def _function_story(self, name: str) -> dict[str, Any]:
        arn = self._chaos.function_arn(name)
        return {"function_arn": arn, "throttled": self._chaos.throttled(arn),
                "environments": self._dispatcher.worker.stories(arn)}  # fmt: skip

    def _change(self, request: Request, method: str, change: Callable[[], None]) -> None:
        """Do it for who has the token."""
        if request.method != method:
            _say(request, 405, f"{request.method} is not possible here.", (("Allow", method),))
            return
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            _say(request, 401, "This needs `Authorization: Bearer` with the content of the file token in the "
                 "data directory.", (("WWW-Authenticate", "Bearer"),))
            return
        change()

    def _retire(self, request: Request, environment_id: str) -> None:
        number = self._dispatcher.worker.find(environment_id)
        if number is None:
            _say(request, 404, "No environment of this id is alive.")
            return
        self._dispatcher.retire(number, "asked")
        request.respond(202, b'{"status":"retiring"}')


def _asks_for(request: Request, name: str) -> bool:
    return parse_qs(request.query).get(name, [""])[0] in ("1", "true")


def _say(request: Request, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
    request.respond(status, msgspec.json.encode({"message": message}), headers)
