"""What an answer says of limits, from the balances that came with quota's own decision about the request.

Two dialects: `x-ratelimit-*` as OpenAI's clients know it, and `RateLimit` with `RateLimit-Policy` of the IETF's draft
(draft-ietf-httpapi-ratelimit-headers-10, structured fields). Where two accounts pay (the tenant's and the key's), the
tighter one is shown. What has no limit is not named. An answer that quota was not asked for has none of these headers:
a remembered figure would be wrong by the time it is read.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from odea_contracts.balances import Balance, Window

_REQUESTS: Final = "requests"
_CHARACTERS: Final = "characters"
_IN_FLIGHT: Final = "concurrent-requests"
_MINUTE_S: Final = 60
_DAY_S: Final = 86_400


class _Shown(NamedTuple):
    """A limit as it is shown.

    Attributes:
        kind: its name, and the unit that it counts.
        reset_ms: until it is whole again; `None` if time does not change it.
        window_s: what the limit is for; `None` if not for a time.
    """

    kind: str
    limit: int | None
    remaining: int
    reset_ms: int | None
    window_s: int | None


def rate_limit_headers(balances: Sequence[Balance], now_ms: int) -> list[tuple[str, str]]:
    """The headers for `balances`, as far as there are limits.

    Args:
        balances: as quota told them.
        now_ms: the time, Unix milliseconds.
    """
    tightest = [limit for limit in (_requests(balances), _characters(balances, now_ms)) if limit]
    headers = [header for limit in tightest for header in _openai(limit)]
    shown = [limit for limit in (*tightest, _in_flight(balances)) if limit and limit.limit is not None]
    if shown:
        headers.append(("ratelimit-policy", ", ".join(map(_policy, shown))))
        headers.append(("ratelimit", ", ".join(map(_state, shown))))
    return headers


def duration(milliseconds: int) -> str:
    """A duration as OpenAI writes it: `12ms`, `1s`, `6m0s`, `2h0m5s`; seconds are rounded up."""
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, seconds = divmod(-(-milliseconds // 1000), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _requests(balances: Sequence[Balance]) -> _Shown | None:
    found = [(b.requests_remaining, b) for b in balances if b.requests_remaining is not None]
    if not found:
        return None
    left, account = min(found, key=lambda pair: pair[0])
    return _Shown(_REQUESTS, account.requests_limit, left, account.requests_reset_ms, _MINUTE_S)


def _characters(balances: Sequence[Balance], now_ms: int) -> _Shown | None:
    found = [(b.remaining, b) for b in balances if b.remaining is not None]
    if not found:
        return None
    left, account = min(found, key=lambda pair: pair[0])
    ends_at_ms = account.window_ends_at_ms
    reset_ms = None if ends_at_ms is None else max(0, ends_at_ms - now_ms)
    return _Shown(_CHARACTERS, account.limit, left, reset_ms, _window_s(account))


def _in_flight(balances: Sequence[Balance]) -> _Shown | None:
    found = [(b.in_flight_max - b.in_flight, b.in_flight_max) for b in balances if b.in_flight_max is not None]
    if not found:
        return None
    left, limit = min(found)
    # A limit that was lowered is below what is open until that has ended.
    return _Shown(_IN_FLIGHT, limit, max(0, left), None, None)


def _window_s(account: Balance) -> int | None:
    match account.window:
        case Window.NONE:
            return None
        case Window.DAY:
            return _DAY_S
        case Window.MONTH:
            if account.window_ends_at_ms is None:
                return None
            return _month_s(account.window_ends_at_ms)


@lru_cache(maxsize=64)
def _month_s(ends_at_ms: int) -> int:
    # The last day of the month has the month's length as its number.
    ends_at = datetime.fromtimestamp(ends_at_ms / 1000, UTC)
    return (ends_at - timedelta(seconds=1)).day * _DAY_S


def _openai(limit: _Shown) -> list[tuple[str, str]]:
    headers = [(f"x-ratelimit-remaining-{limit.kind}", str(limit.remaining))]
    if limit.limit is not None:
        headers.append((f"x-ratelimit-limit-{limit.kind}", str(limit.limit)))
    if limit.reset_ms is not None:
        headers.append((f"x-ratelimit-reset-{limit.kind}", duration(limit.reset_ms)))
    return headers


def _policy(limit: _Shown) -> str:
    window = "" if limit.window_s is None else f";w={limit.window_s}"
    return f'"{limit.kind}";q={limit.limit}{window};qu="{limit.kind}"'


def _state(limit: _Shown) -> str:
    reset = "" if limit.reset_ms is None else f";t={-(-limit.reset_ms // 1000)}"
    return f'"{limit.kind}";r={limit.remaining}{reset}'
