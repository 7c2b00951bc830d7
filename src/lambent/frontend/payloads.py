"""Whether an invocation's payload is JSON, and the words for one that is not.

AWS reads payloads with Jackson and shows its message. Where such messages were recorded, ours say the same: made from
the place where our own parser stopped, which reads from left to right too. Any other mistake is told in our parser's
words, behind AWS's prefix. Recorded: fact sheet 20, LocalStack's notes, and issues such as aws/aws-cli#6433,
awsdocs/aws-lambda-developer-guide#382, penkow/llama-lambda#2, szymonmaszke/torchlambda#13. Columns count bytes: a
wrong character's is its own, a wrong byte's and a token's is that behind what was read.
"""

from __future__ import annotations

import re
import unicodedata

import msgspec

from lambent.errors import ApiError

_PREFIX = "Could not parse request body into json: Could not parse payload into json: "
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_STOPPED = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")
_LITERAL = re.compile(rb"(?<![0-9A-Za-z_$])(?:t(?:r(?:ue?)?)?|f(?:a(?:l(?:se?)?)?)?|n(?:u(?:ll?)?)?)\Z")
_NAME = "was expecting double-quote to start field name"
#: What our parser says, and what Jackson expects there.
_EXPECTED = {"expected '\"'": _NAME, "trailing comma in object": _NAME,
             "expected ',' or '}'": "was expecting comma to separate Object entries",
             "expected ',' or ']'": "was expecting comma to separate Array entries"}  # fmt: skip
_VALUES = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONGEST_TOKEN = 256
#: Characters that Jackson has words of their own for, none of which were recorded.
_OTHER_WORDS = b"+/"

#: A message, and the offset behind which it points.
_Mistake = tuple[str, int]


class _WrongByte(Exception):
    """A token holds what is no UTF-8."""

    def __init__(self, kind: str, payload: bytes, at: int) -> None:
        self.mistake = _wrong(kind, payload, at)


def check(payload: bytes) -> None:
    """Raise ApiError (400) for a payload that is not JSON in UTF-8."""
    try:
        try:
            msgspec.json.decode(payload, type=msgspec.Raw)  # judged without making objects of it: 6 MB may be millions
        except msgspec.DecodeError:
            # JSON's grammar lets half of a pair be escaped, and the languages of functions read it.
            msgspec.json.decode(_SURROGATE.sub(rb"\\u0020", payload), type=msgspec.Raw)
        if not payload.isascii():
            payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError("InvalidRequestContentException", _PREFIX + _words(payload, str(error))) from None


def _words(payload: bytes, ours: str) -> str:
    if payload.startswith(_BYTE_ORDER_MARK):
        return ours
    stopped = _STOPPED.fullmatch(ours)
    end = int(stopped[2]) if stopped is not None else len(payload)
    # What was read before is grammar and strings, so a wrong byte is in a string.
    mistake = _wrong_byte(payload, end)
    if mistake is None and stopped is not None:
        try:
            mistake = _mistake(payload, end, stopped[1])
        except _WrongByte as wrong:
            mistake = wrong.mistake
    return ours if mistake is None else mistake[0] + _location(payload, mistake[1])


def _wrong_byte(payload: bytes, end: int) -> _Mistake | None:
    """The first byte before `end` that UTF-8 does not have there."""
    try:
        payload[:end].decode()
    except UnicodeDecodeError as error:
        if error.reason == "invalid start byte":
            return _wrong("start", payload, error.start)
        if error.reason == "invalid continuation byte" and payload[error.end] & 0xC0 != 0x80:
            return _wrong("middle", payload, error.end)
    return None


def _wrong(kind: str, payload: bytes, at: int) -> _Mistake:
    return f"Invalid UTF-8 {kind} byte 0x{payload[at]:x}", at + 1


def _mistake(payload: bytes, at: int, ours: str) -> _Mistake | None:
    """What Jackson says of the place where our parser stopped; None where nothing like it was recorded."""
    if ours == "trailing characters":
        at -= 1  # it counts these from 1
    begun = _LITERAL.search(payload, max(0, at - 6), at)
    token = _token(payload, begun.start()) if begun is not None else None
    if token is not None or at >= len(payload) or payload[at] < 0x20:
        return token
    if ours == "invalid character":
        return _mistaken_value(payload, at)
    if ours == "trailing characters" and payload[at - 1 : at].isdigit():
        return _unexpected(payload[at], "Expected space separating root-level values"), at
    expected = _EXPECTED.get(ours)
    if expected is None or payload[at] > 0x7F or (payload[at] in b"]}" and expected != _NAME):
        return None
    return _unexpected(payload[at], expected), at


def _mistaken_value(payload: bytes, at: int) -> _Mistake | None:
    if payload[at - 1 : at] == b"-":
        return (f"Unexpected character ({_shown(payload[at])}) in numeric value: expected digit (0-9) to follow minus "
                "sign, for valid numeric value"), at  # fmt: skip
    if _begins_token(chr(payload[at])):
        return _token(payload, at)
    if payload[at] in _OTHER_WORDS:
        return None
    return _unexpected(payload[at], f"expected a valid value {_VALUES}"), at


def _token(payload: bytes, start: int) -> _Mistake | None:
    """The word that stands where a value should; its first byte is taken for a character."""
    word, at = chr(payload[start]), start + 1
    while at < len(payload) and len(word) < _LONGEST_TOKEN:
        character, at = _character(payload, at)
        if not _continues_token(character):
            break
        word += character
    if word in ("true", "false", "null", "NaN", "Infinity"):
        return None
    if len(word) == _LONGEST_TOKEN:
        word += "..."
    return f"Unrecognized token '{word}': was expecting {_VALUES}", at


def _character(payload: bytes, at: int) -> tuple[str, int]:
    """The character at an offset, and the offset behind it."""
    first = payload[at]
    size = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
    if 0x80 <= first < 0xC0 or first >= 0xF8:
        raise _WrongByte("start", payload, at)
    for offset in range(at + 1, min(at + size, len(payload))):
        if payload[offset] & 0xC0 != 0x80:
            raise _WrongByte("middle", payload, offset)
    return payload[at : at + size].decode("utf-8", "replace"), min(at + size, len(payload))


def _begins_token(character: str) -> bool:
    """As Java's identifiers begin."""
    category = unicodedata.category(character)
    return category[0] == "L" or category in ("Nl", "Sc", "Pc")


def _continues_token(character: str) -> bool:
    ignorable = unicodedata.category(character) == "Cc" and not "\t" <= character <= "\r" and character not in (
        "\x1c\x1d\x1e\x1f")  # fmt: skip
    return ignorable or _begins_token(character) or unicodedata.category(character) in ("Nd", "Mn", "Mc", "Cf")


def _unexpected(byte: int, expected: str) -> str:
    return f"Unexpected character ({_shown(byte)}): {expected}"


def _shown(byte: int) -> str:
    if byte < 0x20 or 0x7F <= byte < 0xA0:
        return f"(CTRL-CHAR, code {byte})"
    return f"'{chr(byte)}' (code {byte})"


def _location(payload: bytes, at: int) -> str:
    """Lines and columns count from 1."""
    ends = payload.count(b"\n", 0, at) + payload.count(b"\r", 0, at) - payload.count(b"\r\n", 0, at)
    last = max(payload.rfind(b"\n", 0, at), payload.rfind(b"\r", 0, at))
    return ("\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` disabled); "
            f"line: {ends + 1}, column: {at - last}]")  # fmt: skip
