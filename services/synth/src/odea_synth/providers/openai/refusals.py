"""What a refusal of an OpenAI-compatible server means to us: by its HTTP status, and by the error in its body."""

import re
from collections.abc import Mapping
from typing import Any, Final

import httpx
import msgspec

from odea_synth.providers.base import ErrorClass
from odea_synth.providers.credentials import RefusedError
from odea_synth.providers.openai.options import OpenAIOptions
from odea_synth.providers.upstream import BUSY, FAILED, REFUSED, UNAVAILABLE, UNREADABLE, retry_after_s

_BAD: Final = "The speech provider does not take these parameters."
_NO_QUOTA: Final = frozenset({"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached"})
_CONTENT: Final = frozenset({"content_policy_violation", "content_filter", "moderation_blocked"})
_NO_VOICE: Final = frozenset({"voice_not_found"})
_PARAMS: Final = frozenset({"input", "voice", "speed", "response_format", "instructions", "sample_rate"})
_CODES_SHOWN_MAX: Final = 64


class _Error(msgspec.Struct, frozen=True):
    code: Any = None
    type: Any = None
    param: Any = None


class _Detail(msgspec.Struct, frozen=True):
    error: Any = None


class _Body(msgspec.Struct, frozen=True):
    """OpenAI's shape, and that of servers that leave it to FastAPI."""

    error: _Error | str | None = None
    detail: _Detail | str | list[Any] | None = None


def refusal(response: httpx.Response, body: bytes, options: OpenAIOptions, *, trace_id: str | None) -> RefusedError:
    """The error for a status other than 200. Of the body only codes that we know are used."""
    codes, param = _read(body)
    wait_s = _wait_s(response)
    error_class, text, park_s = _judge(response.status_code, codes, options)
    if error_class is ErrorClass.THROTTLE and wait_s is None:
        wait_s = options.throttle_s
    elif park_s:
        wait_s = park_s
    known = ", ".join(sorted(codes & (_NO_QUOTA | _CONTENT | _NO_VOICE)))
    detail = f"status {response.status_code}{f' with {known}' if known else ''}, trace {trace_id or 'unknown'}"
    if codes & _CONTENT:
        param = "input"
    elif codes & _NO_VOICE:
        text, param = "The model has no such voice.", "voice"
    blames = error_class in (ErrorClass.CALLER, ErrorClass.CONTENT)
    refused = RefusedError(
        error_class, text, detail=detail, retry_after_s=wait_s, param=param if blames else None, trace_id=trace_id
    )
    refused.park_s = park_s
    refused.elsewhere = error_class in (ErrorClass.ACCOUNT, ErrorClass.THROTTLE)
    return refused


def _wait_s(response: httpx.Response) -> float | None:
    wait_ms = response.headers.get("retry-after-ms", "")
    return int(wait_ms) / 1000 if re.fullmatch(r"[0-9]{1,7}", wait_ms) else retry_after_s(response)


def _judge(status: int, codes: frozenset[str], options: OpenAIOptions) -> tuple[ErrorClass, str, float]:
    """Class, public text, and how long to park the credential."""
    if codes & _CONTENT:
        return ErrorClass.CONTENT, REFUSED, 0.0
    if status in (401, 402, 403) or (status == 429 and codes & _NO_QUOTA):
        return ErrorClass.ACCOUNT, UNAVAILABLE, options.park_s
    if status == 429:
        return ErrorClass.THROTTLE, BUSY, 0.0
    if status in (400, 413, 422):
        return ErrorClass.CALLER, _BAD, 0.0
    if 400 <= status < 500 and status not in (408, 409, 425):
        # Not there, or not in this way: our configuration names a server, a path or a model that does not exist.
        return ErrorClass.ACCOUNT, UNAVAILABLE, 0.0
    return ErrorClass.UPSTREAM, FAILED, 0.0


def _read(body: bytes) -> tuple[frozenset[str], str | None]:
    """The codes in an error, and the field that it blames."""
    try:
        read = msgspec.json.decode(body, type=_Body)
    except UNREADABLE:
        return frozenset(), None
    if isinstance(read.error, _Error):
        given = read.error
        return _words(given.code, given.type), given.param if given.param in _PARAMS else None
    if isinstance(read.detail, _Detail):
        return _words(read.detail.error), None
    if isinstance(read.detail, list):
        return frozenset(), _blamed(read.detail)
    return frozenset(), None


def _blamed(faults: list[Any]) -> str | None:
    # FastAPI names the place of each fault as ["body", field, …].
    first = faults[0] if faults else None
    place = first.get("loc") if isinstance(first, Mapping) else None
    field = place[1] if isinstance(place, list) and len(place) > 1 else None
    return field if isinstance(field, str) and field in _PARAMS else None


def _words(*values: Any) -> frozenset[str]:
    return frozenset(value for value in values if isinstance(value, str) and len(value) <= _CODES_SHOWN_MAX)
