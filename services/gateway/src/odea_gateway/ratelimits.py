"""The rate-limit headers that OpenAI's clients know, from the balances that came with a decision of quota.

Where two accounts pay (the tenant's and the key's), the tighter one is shown. An account without a limit shows nothing.
"""

from collections.abc import Sequence

from odea_contracts.quota import Balance


def rate_limit_headers(balances: Sequence[Balance], now_ms: int) -> list[tuple[str, str]]:
    """`x-ratelimit-{limit,remaining,reset}-{requests,characters}`, as far as there are limits."""
    headers: list[tuple[str, str]] = []
    requests = [(b.requests_remaining, b) for b in balances if b.requests_remaining is not None]
    if requests:
        left, tightest = min(requests, key=lambda pair: pair[0])
        headers += _headers("requests", tightest.requests_limit, left, tightest.requests_reset_ms)
    characters = [(b.remaining, b) for b in balances if b.remaining is not None]
    if characters:
        left, tightest = min(characters, key=lambda pair: pair[0])
        ends_at_ms = tightest.window_ends_at_ms
        headers += _headers("characters", tightest.limit, left, ends_at_ms and max(0, ends_at_ms - now_ms))
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


def _headers(kind: str, limit: int | None, remaining: int, reset_ms: int | None) -> list[tuple[str, str]]:
    headers = [(f"x-ratelimit-remaining-{kind}", str(remaining))]
    if limit is not None:
        headers.append((f"x-ratelimit-limit-{kind}", str(limit)))
    if reset_ms is not None:
        headers.append((f"x-ratelimit-reset-{kind}", duration(reset_ms)))
    return headers
