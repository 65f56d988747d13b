"""What MiniMax's error codes mean to us. They come in `base_resp`, mostly with HTTP 200."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

import httpx

from odea_synth.providers.base import ErrorClass
from odea_synth.providers.credentials import RefusedError
from odea_synth.providers.minimax.options import MiniMaxOptions
from odea_synth.providers.upstream import BUSY, FAILED, REFUSED, UNAVAILABLE, retry_after_s

_CALLER, _CONTENT, _ACCOUNT = ErrorClass.CALLER, ErrorClass.CONTENT, ErrorClass.ACCOUNT
_THROTTLE, _UPSTREAM = ErrorClass.THROTTLE, ErrorClass.UPSTREAM
_RESETS_AT: Final = re.compile(r"resets at ([0-9T:.+Z-]{16,40})")
# What the real one names in its texts, which themselves are never shown or logged.
_FIELDS: Final = (
    "model", "text", "voice_id", "speed", "vol", "pitch", "emotion", "sample_rate", "bitrate", "format", "channel",
    "pronunciation_dict", "timbre_weights", "language_boost", "voice_modify", "subtitle_type",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a code means.

    Attributes:
        parks: the credential is to be left alone for a time.
        of_model: just for the model that was asked for.
        elsewhere: another credential may do, although this one is fine.
        by_the_minute: the same again makes sense after MiniMax's window of a minute.
    """

    error_class: ErrorClass
    text: str
    param: str | None = None
    parks: bool = False
    of_model: bool = False
    elsewhere: bool = False
    by_the_minute: bool = False


_BAD = Meaning(error_class=_CALLER, text="The speech provider does not take these parameters.")
_KEY = Meaning(error_class=_ACCOUNT, text=UNAVAILABLE, parks=True)
_DOWN = Meaning(error_class=_UPSTREAM, text=FAILED)
_MINUTE = Meaning(error_class=_THROTTLE, text=BUSY, by_the_minute=True)
_FULL = Meaning(error_class=_THROTTLE, text=BUSY)
_TEXT = Meaning(error_class=_CONTENT, text=REFUSED, param="input")

MEANINGS: Mapping[int, Meaning] = MappingProxyType(
    {
        **dict.fromkeys((1000, 1001, 1013, 1024, 1033), _DOWN),
        **dict.fromkeys((1002, 1039, 2045), _MINUTE),
        **dict.fromkeys((1041, 2205), _FULL),
        **dict.fromkeys((1004, 1008, 1028, 1030, 2049, 2056), _KEY),
        **dict.fromkeys((2038, 2153), Meaning(error_class=_ACCOUNT, text=UNAVAILABLE)),
        2061: Meaning(error_class=_ACCOUNT, text=UNAVAILABLE, parks=True, of_model=True),
        **dict.fromkeys((1026, 1027), _TEXT),
        1042: Meaning(error_class=_CALLER, text="Too many characters of this text cannot be read out.", param="input"),
        **dict.fromkeys((1043, 1044, 2013, 2037, 2039, 2048), _BAD),
        **dict.fromkeys(
            (20132, 2054), Meaning(error_class=_CALLER, text="The model has no such voice.", param="voice")
        ),
        2042: Meaning(error_class=_CALLER, text="The model has no such voice.", param="voice", elsewhere=True),
        2203: Meaning(error_class=_CALLER, text="There is no text to speak.", param="input"),
        2204: Meaning(error_class=_CALLER, text="The text is too long.", param="input"),
        # About a connection that is held open, which ours is not; should they come, it is not the caller's fault.
        **dict.fromkeys((2201, 2202, 2206), _DOWN),
    }
)
"""Every code that is known. Any other is a fault of the upstream's, and never parks a credential."""


class MiniMaxError(RefusedError):
    """A refusal with a code of MiniMax's, or the HTTP status if there is none."""

    def __init__(
        self,
        meaning: Meaning,
        code: int,
        *,
        wait_s: float | None = None,
        park_s: float = 0.0,
        named: str = "",
        trace_id: str | None = None,
    ) -> None:
        detail = f"MiniMax said {code}{f' about {named}' if named else ''}, trace {trace_id or 'unknown'}"
        super().__init__(
            meaning.error_class,
            meaning.text,
            detail=detail,
            retry_after_s=wait_s,
            param=meaning.param,
            trace_id=trace_id,
        )
        self.park_s = park_s
        self.of_model = meaning.of_model
        self.elsewhere = meaning.elsewhere or meaning.error_class in (_ACCOUNT, _THROTTLE)


def refusal(code: int, text: str, options: MiniMaxOptions, *, trace_id: str | None = None) -> MiniMaxError:
    """The error for a code other than 0.

    Args:
        code: from `base_resp`.
        text: `status_msg`, which is only searched for what is known.
        options: how long credentials are parked and rest.
        trace_id: as MiniMax gave it.
    """
    meaning = MEANINGS.get(code, _DOWN)
    park_s = _park_s(code, text, options) if meaning.parks else 0.0
    wait_s = None
    if meaning.error_class is _THROTTLE:
        wait_s = options.throttle_s if meaning.by_the_minute else options.upstream.retry_after_s
    elif math.isfinite(park_s) and park_s:
        wait_s = park_s
    named = ", ".join(name for name in _FIELDS if name in text) if code == 2013 else ""
    return MiniMaxError(meaning, code, wait_s=wait_s, park_s=park_s, named=named, trace_id=trace_id)


def status_refusal(response: httpx.Response, options: MiniMaxOptions, *, trace_id: str | None = None) -> MiniMaxError:
    """The error for an HTTP status other than 200 whose body has no code: it comes from a server in between."""
    status = response.status_code
    wait_s = retry_after_s(response)
    if status in (401, 403):
        return MiniMaxError(_KEY, status, wait_s=options.park_s, park_s=options.park_s, trace_id=trace_id)
    if status == 429:
        return MiniMaxError(_MINUTE, status, wait_s=options.throttle_s if wait_s is None else wait_s, trace_id=trace_id)
    return MiniMaxError(_DOWN, status, wait_s=wait_s, trace_id=trace_id)


def _park_s(code: int, text: str, options: MiniMaxOptions) -> float:
    if code != 2056:
        return options.park_s
    if "(0/0 used)" in text:
        # The plan lacks speech altogether: no waiting mends that.
        return math.inf
    found = _RESETS_AT.search(text)
    try:
        resets_at = datetime.fromisoformat(found[1]) if found else None
    except ValueError:
        resets_at = None
    if resets_at is None or resets_at.tzinfo is None:
        return options.park_s
    return max((resets_at - datetime.now(UTC)).total_seconds(), 1.0)
