"""Reading a JSON body within bounds, and saying which field does not fit.

A body is refused as soon as it breaks a bound, by its announced length before anything is read. A missing content type
counts as JSON, since clients written by hand leave it out; any other type is refused, a form above all, which is what
curl sends unless told otherwise.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

import msgspec
from litestar.types import Receive

from odea_contracts.errors import ErrorCode
from odea_gateway.problems import ProblemError, problem
from odea_gateway.settings import GatewaySettings
from odea_runtime.bus import UNREADABLE
from odea_runtime.logs import redact_text
from odea_runtime.patience import within

T = TypeVar("T")

_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`$", re.DOTALL)
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,39}")
_TYPE: Final = re.compile(r"Expected `([^`]+)`, got `([^`]+)`$")
_TOO_SHORT: Final = re.compile(r"Expected `str` of length >= 1$")
_TOO_LONG: Final = re.compile(r"Expected `str` of length <= (\d+)$")


async def read_body(headers: Iterable[tuple[bytes, bytes]], receive: Receive, settings: GatewaySettings) -> bytes:
    """The whole body.

    Raises:
        ProblemError: it is not JSON by its header, too long, in too many pieces, too slow or not whole.
    """
    length = _announced_length(headers)
    if length is not None and length > settings.body_bytes_max:
        raise problem(ErrorCode.REQUEST_TOO_LARGE)
    try:
        with within(settings.body_s):
            return await _gather(receive, length, settings)
    except TimeoutError:
        raise problem(ErrorCode.INVALID_JSON, "The body did not arrive in time.") from None


def decode_body(body: bytes, decoder: msgspec.json.Decoder[T], hints: Mapping[str, str]) -> T:
    """The body as what `decoder` reads.

    Args:
        body: JSON.
        decoder: of the wanted type.
        hints: by field, what its values may be, to end a sentence with.

    Raises:
        ProblemError: it is no JSON, or a field does not fit. No value of the body is repeated.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), hints) from None
    except UNREADABLE:
        raise problem(ErrorCode.INVALID_JSON) from None


def _announced_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    length = None
    for name, value in headers:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
            if kind and kind != b"application/json" and not kind.endswith(b"+json"):
                raise problem(ErrorCode.UNSUPPORTED_MEDIA_TYPE)
        elif name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            raise problem(ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send the body without content encoding.")
        elif name == b"content-length" and value.isdigit():
            length = int(value)
    return length


async def _gather(receive: Receive, length: int | None, settings: GatewaySettings) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for _ in range(settings.body_pieces_max):
        message = await receive()
        if message["type"] != "http.request":
            raise problem(ErrorCode.INVALID_JSON, "The body did not arrive whole.")
        piece = message["body"]
        size += len(piece)
        if size > settings.body_bytes_max:
            raise problem(ErrorCode.REQUEST_TOO_LARGE)
        pieces.append(piece)
        # Hearing that nothing follows costs as much as hearing what does, so a known length is not asked after.
        if size == length or not message["more_body"]:
            return b"".join(pieces)
    raise problem(ErrorCode.REQUEST_TOO_LARGE, "The body comes in too many pieces.")


def _misfit(text: str, hints: Mapping[str, str]) -> ProblemError:
    what, _, where = text.partition(" - at `$")
    param = where.rstrip("`").lstrip(".").replace("[...]", "") or None
    if found := _UNKNOWN.match(what):
        # The name is the caller's, who may have put anything there.
        name = found[1] if _FIELD.fullmatch(found[1]) and redact_text(found[1]) == found[1] else "?"
        param = f"{param}.{name}" if param else name
        return problem(ErrorCode.INVALID_VALUE, f"Unknown parameter: '{param}'.", param=param)
    if found := _MISSING.match(what):
        param = f"{param}.{found[1]}" if param else found[1]
        return problem(ErrorCode.MISSING_PARAMETER, f"Missing required parameter: '{param}'.", param=param)
    if param is None:
        return problem(ErrorCode.INVALID_TYPE, "The body must be a JSON object.")
    if found := _TYPE.match(what):
        message = f"Invalid type for '{param}': expected {found[1]}, got {found[2]}."
        return problem(ErrorCode.INVALID_TYPE, message, param=param)
    if _TOO_SHORT.match(what):
        return problem(ErrorCode.EMPTY_INPUT, f"'{param}' must not be empty.", param=param)
    if found := _TOO_LONG.match(what):
        message = f"'{param}' must not be longer than {found[1]} characters."
        return problem(ErrorCode.INPUT_TOO_LONG, message, param=param)
    hint = hints.get(param)
    message = f"'{param}' must be {hint}." if hint else f"'{param}' has a value that is not allowed."
    return problem(ErrorCode.INVALID_VALUE, message, param=param)
