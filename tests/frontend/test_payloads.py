"""Payloads that are not JSON, and what AWS was recorded to say of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambent.errors import ApiError
from lambent.frontend.payloads import check

PREFIX = "Could not parse request body into json: Could not parse payload into json: "
VALID = "expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
TOKEN = "Unrecognized token '{}': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')"
FIELD = "was expecting double-quote to start field name"
OBJECT = "was expecting comma to separate Object entries"


def refused(payload: bytes) -> str:
    with pytest.raises(ApiError) as caught:
        check(payload)
    assert (caught.value.code, caught.value.status) == ("InvalidRequestContentException", 400)
    assert caught.value.message.startswith(PREFIX)
    return caught.value.message.removeprefix(PREFIX)


@pytest.mark.parametrize(("payload", "said", "line", "column"), [
    # A shell that takes the quotes, another language's quotes, one comma too many
    (b"{client_id:lai}", f"Unexpected character ('c' (code 99)): {FIELD}", 1, 2),
    (b"{'a': 1}", f"Unexpected character (''' (code 39)): {FIELD}", 1, 2),
    (b'{"a": 1,\r\n}', f"Unexpected character ('}}' (code 125)): {FIELD}", 2, 1),
    (b"'test'", f"Unexpected character (''' (code 39)): {VALID}", 1, 1),
    (b'{"a": }', f"Unexpected character ('}}' (code 125)): {VALID}", 1, 7),
    (b'{"a":"b" title', f"Unexpected character ('t' (code 116)): {OBJECT}", 1, 10),
    (b'{"a":true;}', f"Unexpected character (';' (code 59)): {OBJECT}", 1, 10),
    # Plain text, and the literals of Python
    (b"Hello World", TOKEN.format("Hello"), 1, 7),
    (b"badbod", TOKEN.format("badbod"), 1, 7),
    (b'{"a":\n\n True}', TOKEN.format("True"), 3, 7),
    (b"[nope]", TOKEN.format("nope"), 1, 7),
    (b"[trueish]", TOKEN.format("trueish"), 1, 10),
    (b"a" * 300, TOKEN.format("a" * 256 + "..."), 1, 257),
    # A form with files
    (b"------WebKitFormBoundary", "Unexpected character ('-' (code 45)) in numeric value: expected digit (0-9) to "
     "follow minus sign, for valid numeric value", 1, 2),
    # JSON that AWS's command line has taken for base64
    (b"n\x87raaa", "Invalid UTF-8 start byte 0x87", 1, 3),
    (b"k\xdb-aaa", "Invalid UTF-8 middle byte 0x2d", 1, 4),
    (b"z{\xec\xb5\xa8rW", TOKEN.format("z"), 1, 3),
    (b"\xc2'm", TOKEN.format("Â"), 1, 3),
    (b"\xb7", f"Unexpected character ('·' (code 183)): {VALID}", 1, 1),
    (b"\x99m", f"Unexpected character ((CTRL-CHAR, code 153)): {VALID}", 1, 1),
    (b"0Daa", "Unexpected character ('D' (code 68)): Expected space separating root-level values", 1, 2),
    (b'"a\x80"', "Invalid UTF-8 start byte 0x80", 1, 4),
    (b'["\xc3(", x]', "Invalid UTF-8 middle byte 0x28", 1, 5),
])  # fmt: skip
def test_common_mistakes_are_told_as_jackson_tells_them(payload: bytes, said: str, line: int, column: int) -> None:
    assert refused(payload) == (f"{said}\n at [Source: REDACTED (`StreamReadFeature.INCLUDE_SOURCE_IN_LOCATION` "
                                f"disabled); line: {line}, column: {column}]")  # fmt: skip


@pytest.mark.parametrize("payload", [b'{"a":1', b"[1,]", b"[1}", b'{"a" 1}', b"NaN", b"-", b"+1", b"// x", b'"a\nb"',
                                     b"{} x", b"\xef\xbb\xbf{}", b'{"a":\x00}', b"[" * 100_000])  # fmt: skip
def test_other_mistakes_are_told_in_words_of_our_own(payload: bytes) -> None:
    assert "REDACTED" not in refused(payload)


@given(st.binary(max_size=12) | st.text(st.sampled_from('[]{}:,"-0atrue nulé\n'), max_size=12).map(str.encode))
def test_any_payload_is_json_or_refused(payload: bytes) -> None:
    try:
        check(payload)
    except ApiError as error:
        assert error.message.startswith(PREFIX)
        return
    json.loads(payload.decode())
