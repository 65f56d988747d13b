"""Every failure of the edge as an answer: OpenAI's error object, by the one table of codes.

What a client reads is the code's public text, or a more precise one that names the request's own fault. What happened
inside goes to the log, joined by the request id (P6).
"""

import math
import re
import time
from typing import Any, Final

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, ValidationException
from msgspec import Struct

from odea_contracts.errors import ERRORS, ErrorCode, Failure, Retry, failure
from odea_gateway.ratelimits import rate_limit_headers
from odea_gateway.trace import trace_of

_log = structlog.get_logger()
RETRY_AFTER_S_MAX: Final = 120
"""SDKs do not retry at all when they are told to wait longer."""
_MISSING: Final = re.compile(r"Missing required \w+ parameter '(\w+)'")
"""What Litestar says of a parameter that has no default."""
_CHALLENGE: Final = 'Bearer realm="odea"'


class ErrorDetail(Struct, frozen=True, kw_only=True):
    """What went wrong.

    Attributes:
        message: for people.
        type: the group of the code, as OpenAI names them.
        param: the field of the request that is at fault.
        code: for programs; stable.
        request_id: joins this answer with the logs.
    """

    message: str
    type: str
    param: str | None
    code: ErrorCode
    request_id: str


class ErrorBody(Struct, frozen=True, kw_only=True):
    """The body of every answer that is not a success."""

    error: ErrorDetail


class Answer(Struct, frozen=True, kw_only=True):
    """A complete answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class ProblemError(Exception):
    """The request ends with this failure.

    Args:
        failure: what the client is told.
        scope: the scope that the key lacks, for `WWW-Authenticate`.
    """

    def __init__(self, failure: Failure, *, scope: str | None = None) -> None:
        super().__init__(failure.code)
        self.failure = failure
        self.scope = scope


def problem(
    code: ErrorCode, message: str | None = None, *, param: str | None = None, retry_after_ms: int | None = None
) -> ProblemError:
    """The error to raise for `code`, with its public text unless a more precise one is given."""
    return ProblemError(failure(code, message, param=param, retry_after_ms=retry_after_ms))


def answer(error: ProblemError, request_id: str) -> Answer:
    """The answer that tells a client of `error`."""
    told = error.failure
    spec = ERRORS[told.code]
    detail = ErrorDetail(message=told.message, type=spec.type, param=told.param, code=told.code, request_id=request_id)
    headers = [("content-type", "application/json"), ("cache-control", "no-store"), *_advice(told)]
    headers += rate_limit_headers(told.balances, int(time.time() * 1000))
    if spec.status == 401 or error.scope:
        headers.append(("www-authenticate", _challenge(told.code, error.scope)))
    return Answer(status=spec.status, headers=tuple(headers), body=msgspec.json.encode(ErrorBody(error=detail)))


def respond_to(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's exception handler: whatever was raised becomes an answer; what is our own fault is logged."""
    found = _as_problem(error)
    trace = trace_of(request.scope)
    trace.code = found.failure.code
    if found.failure.code is ErrorCode.INTERNAL_ERROR and not isinstance(error, ProblemError):
        _log.error("a request failed by our fault", exc_info=error)
    built = answer(found, trace.request_id)
    headers = dict(built.headers)
    if isinstance(error, MethodNotAllowedException) and error.headers:
        headers["allow"] = error.headers.get("allow", "")
    media_type = headers.pop("content-type")
    return Response(built.body, status_code=built.status, headers=headers, media_type=media_type)


def _as_problem(error: Exception) -> ProblemError:
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, ValidationException):
        return _misread(error)
    if isinstance(error, HTTPException):
        return problem(_CODES.get(error.status_code, _of_class(error.status_code)))
    return problem(ErrorCode.INTERNAL_ERROR)


_CODES: Final = {
    404: ErrorCode.NOT_FOUND,
    405: ErrorCode.METHOD_NOT_ALLOWED,
    413: ErrorCode.REQUEST_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}


def _of_class(status: int) -> ErrorCode:
    return ErrorCode.INVALID_VALUE if 400 <= status < 500 else ErrorCode.INTERNAL_ERROR


def _misread(error: ValidationException) -> ProblemError:
    """A query or path parameter that does not fit its type."""
    if found := _MISSING.match(error.detail):
        return problem(ErrorCode.MISSING_PARAMETER, f"Missing required parameter: '{found[1]}'.", param=found[1])
    first = error.extra[0] if isinstance(error.extra, list) and error.extra else {}
    name = first.get("key") if isinstance(first, dict) else None
    return problem(ErrorCode.INVALID_VALUE, f"Invalid value for '{name}'." if name else None, param=name)


def _advice(told: Failure) -> list[tuple[str, str]]:
    match ERRORS[told.code].retry:
        case Retry.LATER:
            seconds = math.ceil((told.retry_after_ms or 0) / 1000)
            return [("retry-after", str(min(max(seconds, 1), RETRY_AFTER_S_MAX)))]
        case Retry.USELESS:
            return [("x-should-retry", "false")]
        case Retry.NEVER:
            return []


def _challenge(code: ErrorCode, scope: str | None) -> str:
    if scope:
        return f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
    return _CHALLENGE if code is ErrorCode.MISSING_API_KEY else f'{_CHALLENGE}, error="invalid_token"'
