"""Requests that no honest client sends, byte by byte, each with the status and the code that answer it.

`{key}` stands for a good key in the head; a status of 0 means that the connection is closed without an answer, which
HTTP allows for what is no HTTP.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

SPEECH: Final = "/v1/audio/speech"
GOOD: Final = {"model": "tts-1", "voice": "alloy", "input": "Hello."}
TEXT: Final = msgspec.json.encode(GOOD)
AUTH: Final = "x-api-key: {key}\r\n"
HOST: Final = "host: x\r\nconnection: close\r\n"
CHUNKED: Final = "transfer-encoding: chunked\r\n"
JSON: Final = "content-type: application/json\r\n"
MANY_BYTES: Final = 100_000_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One request and its answer.

    Attributes:
        head: all before the body, `{key}` unfilled.
        body: what follows; repeated until `size` bytes are sent.
        code: of the error; `None` where the server refuses before the application, or where all is well.
    """

    head: str
    status: int
    code: str | None = None
    body: bytes = b""
    size: int = 0


def post(headers: str, body: bytes, status: int, code: str | None, *, version: str = "1.1", auth: str = AUTH) -> Row:
    """A speech request with a body as it stands."""
    return Row(head=f"POST {SPEECH} HTTP/{version}\r\n{HOST}{auth}{headers}\r\n", status=status, code=code, body=body)


def sized(body: bytes, status: int, code: str | None, *, headers: str = JSON) -> Row:
    """A speech request whose length is told."""
    return post(f"{headers}content-length: {len(body)}\r\n", body, status, code)


def says(status: int, code: str | None, **fields: object) -> Row:
    """A speech request with some fields changed."""
    return sized(msgspec.json.encode({**GOOD, **fields}), status, code)


def get(path: str, status: int, code: str | None, *, headers: str = AUTH, host: str = HOST) -> Row:
    """A request without a body."""
    return Row(head=f"GET {path} HTTP/1.1\r\n{host}{headers}\r\n", status=status, code=code)


def flood(head: str, body: bytes, size: int, status: int, code: str | None) -> Row:
    """A speech request that goes on and on."""
    return Row(head=f"POST {SPEECH} HTTP/1.1\r\n{HOST}{AUTH}{head}\r\n", status=status, code=code, body=body, size=size)


BAD_JSON, BAD_VALUE, BAD_TYPE = "invalid_json", "invalid_value", "invalid_type"
MISSING, EMPTY, LONG, LARGE = (
    "missing_required_parameter",
    "empty_string",
    "string_above_max_length",
    "request_too_large",
)
NOTHING, NO_MODEL, BAD_KEY, NO_KEY = "not_found", "model_not_found", "invalid_api_key", "missing_api_key"
MEDIA = "unsupported_media_type"

LINES: Final[dict[str, Row]] = {
    "no request line": Row(head="\r\n\r\nhello\r\n\r\n", status=400),
    "TLS": Row(head="\x16\x03\x01\x02\x00\x01\r\n\r\n", status=400),
    "HTTP/2 without asking": Row(head="PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", status=0),
    "HTTP/2 by upgrade": get(
        "/v1/me",
        200,
        None,
        headers=f"{AUTH}connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n",
    ),
    "HTTP/3.0": Row(head=f"GET /v1/me HTTP/3.0\r\n{HOST}{AUTH}\r\n", status=400),
    "an unknown method": Row(
        head=f"BREW /v1/models HTTP/1.1\r\n{HOST}{AUTH}\r\n", status=405, code="method_not_allowed"
    ),
    "a method in lower case": Row(
        head=f"get /v1/me HTTP/1.1\r\n{HOST}{AUTH}\r\n", status=405, code="method_not_allowed"
    ),
    "TRACE": Row(head=f"TRACE /v1/me HTTP/1.1\r\n{HOST}{AUTH}\r\n", status=405, code="method_not_allowed"),
    "a websocket": get("/v1/me", 200, None, headers=f"{AUTH}connection: upgrade\r\nupgrade: websocket\r\n"),
}
PATHS: Final[dict[str, Row]] = {
    "NUL in the path": get("/v1/\x00", 400, None),
    "escaped NUL in the path": get("/v1/models/%00", 404, NO_MODEL),
    "bad escapes in the path": get("/v1/models/%ff%zz", 404, NO_MODEL),
    "escaped dots in the path": get("/v1/%2e%2e/%2e%2e/etc/passwd", 404, NOTHING),
    "dots in the path": get("/v1/models/../../../etc/passwd", 404, NO_MODEL),
    "backslashes in the path": get("/v1\\..\\..\\etc", 404, NOTHING),
    "an escaped slash in an admin's path": get("/v1/admin%2ftenants", 404, NOTHING),
    "an admin's path": get("/v1/admin/tenants", 404, NOTHING),
    "an id with a quote": get("/v1/admin/tenants/x'%20OR%201=1", 404, NOTHING),
    "metrics": get("/metrics", 404, NOTHING),
    "health": get("/readyz", 404, NOTHING),
    "an endless path": get("/" + "a" * 5_000, 404, NOTHING),
    "a path beyond all bounds": get("/" + "a" * 100_000, 414, None),
    "an absolute path": get("http://elsewhere.example/v1/nothing", 404, NOTHING),
    "a line break in the filter": get("/v1/audio/voices?model=a%0d%0ax:%20y", 400, BAD_VALUE),
    "NUL in the filter": get("/v1/audio/voices?model=%00", 400, BAD_VALUE),
    "half a character in the filter": get("/v1/audio/voices?model=%ed%a0%bd", 404, NO_MODEL),
    "a thousand filters": get("/v1/audio/voices?" + "&".join(f"model={i}" for i in range(1000)), 404, NO_MODEL),
}
HEADERS: Final[dict[str, Row]] = {
    "a bad host": get("/v1/me", 400, BAD_VALUE, host="host: a b\r\nconnection: close\r\n"),
    "two hosts": get("/v1/me", 400, BAD_VALUE, host="host: a\r\nhost: b\r\nconnection: close\r\n"),
    "a header without a name": get("/v1/me", 400, None, headers=f"{AUTH}: x\r\n"),
    "a space before the colon": get("/v1/me", 400, None, headers=f"{AUTH}x : y\r\n"),
    "a folded header": get("/v1/me", 400, None, headers=f"{AUTH}x: a\r\n b\r\n"),
    "NUL in a header": get("/v1/me", 400, None, headers=f"{AUTH}x: a\x00b\r\n"),
    "two hundred headers": get("/v1/me", 431, None, headers=AUTH + "".join(f"x-{i}: 1\r\n" for i in range(200))),
    "an endless header": get("/v1/me", 431, None, headers=AUTH + "x: " + "a" * 500_000 + "\r\n"),
    "two authorizations": get("/v1/me", 400, BAD_VALUE, headers="authorization: Bearer {key}\r\n" * 2),
    "two keys": get("/v1/me", 400, BAD_VALUE, headers=f"{AUTH}{AUTH}"),
    "two headers that disagree": get("/v1/me", 400, BAD_VALUE, headers=f"{AUTH}authorization: Bearer other\r\n"),
    "empty bearer": get("/v1/me", 401, NO_KEY, headers="authorization: Bearer \r\n"),
    "a key that is not ASCII": get("/v1/me", 401, BAD_KEY, headers="authorization: Bearer \u00f6dea\r\n"),
    "a homoglyph in the key": get("/v1/me", 401, BAD_KEY, headers="x-api-key: \u043edea_sk_{key}\r\n"),
    "a key of a megabyte's start": get("/v1/me", 401, BAD_KEY, headers="x-api-key: odea_sk_" + "A" * 30_000 + "\r\n"),
    "an address that the caller made up": get("/v1/me", 200, None, headers=f"{AUTH}x-forwarded-for: ::1\r\n"),
    "a request id with a quote": get("/v1/me", 200, None, headers=f'{AUTH}x-request-id: a"b\r\n'),
}
FRAMING: Final[dict[str, Row]] = {
    "a length that is no number": post("content-length: abc\r\n", b"", 400, None),
    "a negative length": post("content-length: -1\r\n", b"", 400, None),
    "a length with a sign": post("content-length: +5\r\n", b"", 400, None),
    "two lengths": post("content-length: 3\r\ncontent-length: 4\r\n", b"abcd", 400, None),
    "an enormous length": post("content-length: 99999999999\r\n", b"{", 413, LARGE),
    "a length beyond 64 bits": post("content-length: 99999999999999999999999\r\n", b"{", 400, None),
    "less than announced": post("content-length: 5000\r\n", TEXT, 400, BAD_JSON),
    "an unknown transfer encoding": post("transfer-encoding: gzip\r\n", TEXT, 400, None),
    "chunked twice": post("transfer-encoding: chunked, chunked\r\n", b"0\r\n\r\n", 400, BAD_JSON),
    "a chunk that is no number": post(CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n", 400, BAD_JSON),
    "a negative chunk": post(CHUNKED, b"-1\r\n{}\r\n0\r\n\r\n", 400, BAD_JSON),
    "a chunk that is too long": post(CHUNKED, b"ffffffffffffffffff\r\n{}", 400, BAD_JSON),
    "a chunk that breaks off": post(CHUNKED, b"5\r\n{}", 400, BAD_JSON),
    "a chunked body without end": post(CHUNKED, b"2\r\n{}\r\n", 400, BAD_JSON),
    "length and chunks at once": post(
        f"content-length: {len(TEXT)}\r\n{CHUNKED}", b"0\r\n\r\nGET / HTTP/1.1\r\n", 400, BAD_JSON
    ),
    "a compressed body": sized(TEXT, 415, MEDIA, headers=f"{JSON}content-encoding: gzip\r\n"),
    "a form": sized(TEXT, 415, MEDIA, headers="content-type: multipart/form-data; boundary=x\r\n"),
    "an old client without a length": post("", b"", 400, BAD_JSON, version="1.0"),
    "a body in crumbs": flood(CHUNKED, b"1\r\n{\r\n", 600_000, 413, LARGE),
    "a hundred megabytes in chunks": flood(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n", MANY_BYTES, 413, LARGE),
    "a hundred megabytes at once": flood(f"content-length: {MANY_BYTES}\r\n", b" " * 65536, MANY_BYTES, 413, LARGE),
}
BODIES: Final[dict[str, Row]] = {
    "an empty body": sized(b"", 400, BAD_JSON),
    "half a document": sized(TEXT[:-1], 400, BAD_JSON),
    "two documents": sized(TEXT + TEXT, 400, BAD_JSON),
    "deep nesting": sized(b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, BAD_JSON),
    "arrays without end": sized(b"[" * 100_000, 400, BAD_TYPE),
    "objects without end": sized(b'{"x":' * 50_000, 413, LARGE),
    "a byte order mark": sized(b"\xef\xbb\xbf" + TEXT, 400, BAD_JSON),
    "UTF-16": sized(TEXT.decode().encode("utf-16"), 400, BAD_JSON),
    "not UTF-8": sized(b'{"model":"tts-1","voice":"a","input":"\xff"}', 400, BAD_JSON),
    "NaN": sized(b'{"model":"tts-1","voice":"a","input":"i","speed":NaN}', 400, BAD_JSON),
    "a number without end": sized(
        b'{"model":"tts-1","voice":"a","input":"i","speed":' + b"9" * 400 + b"}", 400, BAD_VALUE
    ),
    "a lone surrogate": sized(b'{"model":"tts-1","voice":"a","input":"\\ud83d"}', 400, BAD_JSON),
    "a raw lone surrogate": sized(b'{"model":"tts-1","voice":"a","input":"\xed\xa0\xbd"}', 400, BAD_JSON),
    "an array": sized(b"[]", 400, BAD_TYPE),
    "an array of the right length": sized(b'["tts-1","alloy","Hello."]', 400, BAD_TYPE),
    "no input": sized(b'{"model":"tts-1","voice":"alloy"}', 400, MISSING),
    "a number as input": says(400, BAD_TYPE, input=5),
    "an object as model": says(400, BAD_TYPE, model={"$ne": ""}),
    "a flag as speed": says(400, BAD_TYPE, speed=True),
    "NUL in the model": says(400, BAD_VALUE, model="tts-1\x00"),
    "a line break in the voice": says(400, BAD_VALUE, voice="alloy\r\nset-cookie: a=b"),
    "only bidirectional controls": says(400, EMPTY, input="\u202e\u2066\u2069"),
    "only NUL": says(400, EMPTY, input="\x00\x00"),
    "only zero widths": says(400, EMPTY, input="\u200b\u200c\u200d\ufeff" * 100),
    "only tags": says(400, EMPTY, input="\U000e0041" * 100),
    "one character too many": says(400, LONG, input="x" * 4097),
    "a character of a thousand marks": says(400, LONG, input="a" + "\u0301" * 5000),
    "a ligature that grows": says(400, LONG, input="\ufb2c" * 4096),
}
ROWS: Final[dict[str, Row]] = {**LINES, **PATHS, **HEADERS, **FRAMING, **BODIES}
