"""One closed list of error codes: each with its HTTP status, its retry advice and the text that callers may see.

The shape and the names follow OpenAI's error object, since its SDKs are our clients; `type` groups codes as theirs.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from odea_contracts.balances import Balance
from odea_contracts.base import Message


class ErrorCode(StrEnum):
    """What went wrong, as a stable name that programs may depend on."""

    INVALID_JSON = "invalid_json"
    INVALID_VALUE = "invalid_value"
    INVALID_TYPE = "invalid_type"
    MISSING_PARAMETER = "missing_required_parameter"
    EMPTY_INPUT = "empty_string"
    INPUT_TOO_LONG = "string_above_max_length"
    CONTENT_REFUSED = "content_policy_violation"
    MISSING_API_KEY = "missing_api_key"
    INVALID_API_KEY = "invalid_api_key"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    ACCOUNT_SUSPENDED = "account_suspended"
    NOT_ALLOWED_BY_PLAN = "not_allowed_by_plan"
    NOT_FOUND = "not_found"
    MODEL_NOT_FOUND = "model_not_found"
    VOICE_NOT_FOUND = "voice_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    EXCEEDS_LIMIT = "exceeds_limit"
    REQUEST_TOO_LARGE = "request_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    INSUFFICIENT_QUOTA = "insufficient_quota"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    CONCURRENCY_LIMIT_EXCEEDED = "concurrency_limit_exceeded"
    INTERNAL_ERROR = "internal_error"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    UPSTREAM_BUSY = "upstream_busy"
    OVERLOADED = "server_is_overloaded"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    KEYS_UNAVAILABLE = "keys_unavailable"
    QUOTA_UNAVAILABLE = "quota_unavailable"
    SYNTH_UNAVAILABLE = "synth_unavailable"

    @classmethod
    def _missing_(cls, value: Any) -> "ErrorCode":  # noqa: ARG003 - the signature is Enum's
        """A code from a newer version reads as the general one, so that old and new services can run side by side."""
        return cls.INTERNAL_ERROR


class Retry(StrEnum):
    """What a caller should do about it."""

    NEVER = "never"
    """The same request fails again."""
    USELESS = "useless"
    """The status invites a retry, but waiting alone does not help: answered with `x-should-retry: false`."""
    LATER = "later"
    """Again after `Retry-After`."""


class ErrorSpec(NamedTuple):
    """What a code means at the edge."""

    status: int
    type: str
    retry: Retry
    text: str


_REQUEST, _AUTH, _PERMISSION = "invalid_request_error", "authentication_error", "permission_error"
_QUOTA, _RATE, _SERVER, _BUSY = "insufficient_quota", "rate_limit_error", "server_error", "service_unavailable_error"

ERRORS: Mapping[ErrorCode, ErrorSpec] = MappingProxyType(
    {
        ErrorCode.INVALID_JSON: ErrorSpec(400, _REQUEST, Retry.NEVER, "The body is not valid JSON."),
        ErrorCode.INVALID_VALUE: ErrorSpec(400, _REQUEST, Retry.NEVER, "A parameter has a value that is not allowed."),
        ErrorCode.INVALID_TYPE: ErrorSpec(400, _REQUEST, Retry.NEVER, "A parameter has the wrong type."),
        ErrorCode.MISSING_PARAMETER: ErrorSpec(400, _REQUEST, Retry.NEVER, "A required parameter is missing."),
        ErrorCode.EMPTY_INPUT: ErrorSpec(400, _REQUEST, Retry.NEVER, "There is no text to speak."),
        ErrorCode.INPUT_TOO_LONG: ErrorSpec(400, _REQUEST, Retry.NEVER, "The text is too long."),
        ErrorCode.CONTENT_REFUSED: ErrorSpec(400, _REQUEST, Retry.NEVER, "The speech provider refused this text."),
        ErrorCode.MISSING_API_KEY: ErrorSpec(
            401, _AUTH, Retry.NEVER, "No API key was given. Send it as `Authorization: Bearer <key>`."
        ),
        ErrorCode.INVALID_API_KEY: ErrorSpec(401, _AUTH, Retry.NEVER, "The API key is not valid."),
        ErrorCode.INSUFFICIENT_SCOPE: ErrorSpec(403, _PERMISSION, Retry.NEVER, "The API key lacks the scope for this."),
        ErrorCode.ACCOUNT_SUSPENDED: ErrorSpec(403, _PERMISSION, Retry.NEVER, "This account is suspended."),
        ErrorCode.NOT_ALLOWED_BY_PLAN: ErrorSpec(
            403, _PERMISSION, Retry.NEVER, "The plan of this account does not allow this."
        ),
        ErrorCode.NOT_FOUND: ErrorSpec(404, _REQUEST, Retry.NEVER, "There is nothing here."),
        ErrorCode.MODEL_NOT_FOUND: ErrorSpec(404, _REQUEST, Retry.NEVER, "There is no such model."),
        ErrorCode.VOICE_NOT_FOUND: ErrorSpec(400, _REQUEST, Retry.NEVER, "The model has no such voice."),
        ErrorCode.METHOD_NOT_ALLOWED: ErrorSpec(405, _REQUEST, Retry.NEVER, "This path does not take this method."),
        ErrorCode.CONFLICT: ErrorSpec(409, _REQUEST, Retry.USELESS, "This conflicts with what is there already."),
        ErrorCode.EXCEEDS_LIMIT: ErrorSpec(
            409, _REQUEST, Retry.USELESS, "The limit of the account leaves less than this."
        ),
        ErrorCode.REQUEST_TOO_LARGE: ErrorSpec(413, _REQUEST, Retry.NEVER, "The request is too large."),
        ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorSpec(415, _REQUEST, Retry.NEVER, "Send the body as application/json."),
        ErrorCode.INSUFFICIENT_QUOTA: ErrorSpec(
            429,
            _QUOTA,
            Retry.USELESS,
            "The quota of this account does not cover this text. Raise it, or wait for the next window.",
        ),
        ErrorCode.RATE_LIMIT_EXCEEDED: ErrorSpec(429, _RATE, Retry.LATER, "Too many requests in this minute."),
        ErrorCode.CONCURRENCY_LIMIT_EXCEEDED: ErrorSpec(429, _RATE, Retry.LATER, "Too many requests at the same time."),
        ErrorCode.INTERNAL_ERROR: ErrorSpec(500, _SERVER, Retry.LATER, "Something went wrong on our side."),
        ErrorCode.UPSTREAM_ERROR: ErrorSpec(502, _SERVER, Retry.LATER, "The speech provider failed."),
        ErrorCode.UPSTREAM_TIMEOUT: ErrorSpec(504, _SERVER, Retry.LATER, "The speech provider did not answer in time."),
        ErrorCode.UPSTREAM_UNAVAILABLE: ErrorSpec(
            503, _BUSY, Retry.LATER, "No speech provider can take this right now."
        ),
        ErrorCode.UPSTREAM_BUSY: ErrorSpec(
            503, _BUSY, Retry.LATER, "The speech provider takes no more requests right now; nothing was charged."
        ),
        ErrorCode.OVERLOADED: ErrorSpec(503, _BUSY, Retry.LATER, "The server is busy."),
        ErrorCode.DEADLINE_EXCEEDED: ErrorSpec(
            504, _SERVER, Retry.LATER, "The request could not be served in its time."
        ),
        ErrorCode.KEYS_UNAVAILABLE: ErrorSpec(503, _BUSY, Retry.LATER, "API keys cannot be checked right now."),
        ErrorCode.QUOTA_UNAVAILABLE: ErrorSpec(
            503, _BUSY, Retry.LATER, "Quotas cannot be checked right now; nothing was charged."
        ),
        ErrorCode.SYNTH_UNAVAILABLE: ErrorSpec(
            503, _BUSY, Retry.LATER, "Speech is not available right now; nothing was charged."
        ),
    }
)


class Failure(Message, tag_field="type", tag="failure"):
    """Any endpoint's answer when it can't give one of its outcomes.

    Attributes:
        code: what happened, from the closed list.
        message: text that a caller may see; never a detail of the inside.
        param: the field of the request that is at fault, if one is.
        retry_after_ms: when another attempt makes sense, if the answering side knows.
        balances: where the accounts stand that were asked, if quota decided this.
    """

    code: ErrorCode
    message: str
    param: str | None = None
    retry_after_ms: Annotated[int, Meta(ge=0)] | None = None
    balances: tuple[Balance, ...] = ()

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return ERRORS[self.code].retry is Retry.LATER


def failure(
    code: ErrorCode,
    message: str | None = None,
    *,
    param: str | None = None,
    retry_after_ms: int | None = None,
    balances: tuple[Balance, ...] = (),
) -> Failure:
    """A `Failure` with the code's public text, unless a more precise one is given."""
    text = message or ERRORS[code].text
    return Failure(code=code, message=text, param=param, retry_after_ms=retry_after_ms, balances=balances)
