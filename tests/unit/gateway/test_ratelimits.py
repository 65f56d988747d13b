"""The headers say what quota said."""

import msgspec
import pytest

from odea_contracts.balances import Balance, Window
from odea_gateway.ratelimits import duration, rate_limit_headers

NOVEMBER_ENDS_MS = 1_796_083_200_000
NOW_MS = NOVEMBER_ENDS_MS - 360_000
ACCOUNT = Balance(
    account_id="ten_a",
    limit=1000,
    used=100,
    held=50,
    remaining=850,
    window=Window.MONTH,
    window_ends_at_ms=NOVEMBER_ENDS_MS,
    requests_limit=60,
    requests_remaining=59,
    requests_reset_ms=1000,
)


def test_one_account() -> None:
    assert dict(rate_limit_headers([ACCOUNT], NOW_MS)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-characters": "1000",
        "x-ratelimit-remaining-characters": "850",
        "x-ratelimit-reset-characters": "6m0s",
        "ratelimit-policy": '"requests";q=60;w=60;qu="requests", "characters";q=1000;w=2592000;qu="characters"',
        "ratelimit": '"requests";r=59;t=1, "characters";r=850;t=360',
    }


@pytest.mark.parametrize(
    ("window", "ends_at_ms", "seconds"),
    [
        (Window.MONTH, NOVEMBER_ENDS_MS, ";w=2592000"),
        (Window.DAY, NOVEMBER_ENDS_MS, ";w=86400"),
        (Window.NONE, None, ""),
    ],
)
def test_a_policy_names_the_length_of_its_window(window: Window, ends_at_ms: int | None, seconds: str) -> None:
    account = msgspec.structs.replace(ACCOUNT, window=window, window_ends_at_ms=ends_at_ms, requests_remaining=None)
    headers = dict(rate_limit_headers([account], NOW_MS))
    assert headers["ratelimit-policy"] == f'"characters";q=1000{seconds};qu="characters"'
    assert headers["ratelimit"].startswith('"characters";r=850')


def test_requests_in_flight_are_named_where_they_are_limited() -> None:
    """A limit that was lowered meanwhile shows nothing left, not less than nothing."""
    busy = msgspec.structs.replace(ACCOUNT, in_flight=3, in_flight_max=4)
    lowered = msgspec.structs.replace(ACCOUNT, in_flight=3, in_flight_max=2)
    assert '"concurrent-requests";r=1' in dict(rate_limit_headers([busy], NOW_MS))["ratelimit"]
    headers = dict(rate_limit_headers([busy, lowered], NOW_MS))
    assert headers["ratelimit"].endswith('"concurrent-requests";r=0')
    assert headers["ratelimit-policy"].endswith('"concurrent-requests";q=2;qu="concurrent-requests"')


def test_the_tighter_account_is_shown_for_each() -> None:
    own = msgspec.structs.replace(ACCOUNT, limit=5000, remaining=4000, requests_limit=5, requests_remaining=1)
    headers = dict(rate_limit_headers([ACCOUNT, own], NOW_MS))
    assert headers["x-ratelimit-remaining-characters"] == "850"
    assert headers["x-ratelimit-limit-characters"] == "1000"
    assert headers["x-ratelimit-remaining-requests"] == "1"
    assert headers["x-ratelimit-limit-requests"] == "5"


def test_an_account_without_limits_shows_nothing() -> None:
    free = Balance(
        account_id="ten_a", limit=None, used=1, held=0, remaining=None, window=Window.NONE, window_ends_at_ms=None
    )
    assert rate_limit_headers([free], NOW_MS) == []
    assert dict(rate_limit_headers([free, ACCOUNT], NOW_MS))["x-ratelimit-remaining-characters"] == "850"


def test_no_account_shows_nothing() -> None:
    assert rate_limit_headers([], NOW_MS) == []


def test_a_window_that_never_ends_has_no_reset() -> None:
    prepaid = msgspec.structs.replace(ACCOUNT, window=Window.NONE, window_ends_at_ms=None)
    assert "x-ratelimit-reset-characters" not in dict(rate_limit_headers([prepaid], NOW_MS))


def test_a_window_that_has_just_ended_is_not_negative() -> None:
    headers = dict(rate_limit_headers([ACCOUNT], NOW_MS + 999_999))
    assert headers["x-ratelimit-reset-characters"] == "0ms"


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0ms"),
        (12, "12ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1001, "2s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_600_000, "1h0m0s"),
        (7_205_000, "2h0m5s"),
    ],
)
def test_durations_are_written_as_openai_does(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text
