"""Whose account and region a request is in, and in which role it is made, as its signature says.

Signatures are not verified: whoever reaches the server may name any account. The region is the one of the credential
scope; an access key id of twelve digits is the account itself, and so is the middle of the ids that this server makes
(`key_id`). Anything else, and a request without a signature, is in the server's own account and region. Keys of a role
come with a session token, which names the role (`session_token`).
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

#: Scopes that are remembered; a client that makes up ever new ones only empties the memory.
KEPT = 4096

_CREDENTIAL = re.compile(r"Credential=([^,\s]*)")
_REGION = re.compile(r"[a-z]{2,5}(-[a-z]{2,9}){1,3}-[0-9]{1,2}")
_MADE = re.compile(r"A[A-Z]IA([0-9]{12})[A-Z]{4}")
_SESSION = re.compile(r"(arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+) ([\w+=,.@-]{1,64})", re.ASCII)
#: Characters of a session token. A role's ARN may have 10,000 in the model, a head far less.
_TOKEN_MOST = 16_384


class Caller(NamedTuple):
    """The account and the region that a request works in."""

    account: str
    region: str


class Session(NamedTuple):
    """Whom keys of a role stand for."""

    role: str  #: the role's ARN
    name: str  #: who assumed it: of a function's own credentials, the function


class Callers:
    """`of` takes less than a microsecond for a scope that it has seen."""

    __slots__ = ("_known", "default")

    def __init__(self, account: str, region: str) -> None:
        self.default = Caller(account, region)
        self._known: dict[str, Caller] = {}

    def of(self, headers: Mapping[str, str], query: str) -> Caller:
        """Who a request is from. `headers` has lower-case names; `query` is as it came, without the question mark."""
        scope = headers.get("authorization", "").partition(",")[0]
        if not scope:
            if "X-Amz-Credential=" not in query:
                return self.default
            scope = "Credential=" + parse_qs(query).get("X-Amz-Credential", [""])[0]
        caller = self._known.get(scope)
        if caller is None:
            caller = self._read(scope)
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[scope] = caller
        return caller

    def _read(self, scope: str) -> Caller:
        found = _CREDENTIAL.search(scope)
        parts = found[1].split("/") if found is not None else []
        if len(parts) != 5:
            return self.default
        key, _, region, _, _ = parts
        return Caller(account_of(key) or self.default.account,
                      region if is_region(region) else self.default.region)  # fmt: skip


def service_of(headers: Mapping[str, str], query: str) -> str:
    """The service that a request was signed for; empty without a signature."""
    found = _CREDENTIAL.search(headers.get("authorization") or unquote(query))
    parts = found[1].split("/") if found is not None else []
    return parts[3] if len(parts) == 5 and parts[3].isascii() else ""


def is_region(text: str) -> bool:
    """Whether this has the form of a region's name."""
    return _REGION.fullmatch(text) is not None


def account_of(key: str) -> str | None:
    """The account that an access key id names; None when it names none."""
    if len(key) == 12 and key.isascii() and key.isdecimal():
        return key
    made = _MADE.fullmatch(key)
    return made[1] if made is not None else None


def key_id(account: str, letters: str) -> str:
    """An access key id of this server for an account; `letters` are four capitals."""
    return f"ASIA{account}{letters}"


def session_token(session: Session) -> str:
    """What a client sends along with the keys of this session."""
    return urlsafe_b64encode(f"{session.role} {session.name}".encode()).decode()


def session_of(headers: Mapping[str, str], query: str) -> Session | None:
    """The session that a request is made in; None for keys that belong to no role. Arguments as in `Callers.of`."""
    token = headers.get("x-amz-security-token", "")
    if not token and "X-Amz-Security-Token=" in query:
        token = parse_qs(query).get("X-Amz-Security-Token", [""])[0]
    if not token or len(token) > _TOKEN_MOST or not token.isascii():
        return None
    try:
        text = urlsafe_b64decode(token).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    found = _SESSION.fullmatch(text)
    return Session(found[1], found[2]) if found is not None else None
