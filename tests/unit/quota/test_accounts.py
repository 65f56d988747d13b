"""Windows roll at exactly their end, and the rate never lets one request too many through (P1's other half)."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from odea_contracts.quota import Window
from odea_quota.accounts import Account, window_ms
from unit.quota.samples import NOW_US, account, at_us

_MINUTE_US = 60_000_000
_TIMES_US = st.integers(at_us("2020-01-01T00:00:00"), at_us("2120-01-01T00:00:00"))


@pytest.mark.parametrize(
    ("window", "now", "start", "end"),
    [
        (Window.MONTH, "2026-03-10T12:00:00", "2026-03-01T00:00:00", "2026-04-01T00:00:00"),
        (Window.MONTH, "2026-03-01T00:00:00", "2026-03-01T00:00:00", "2026-04-01T00:00:00"),
        (Window.MONTH, "2026-01-31T23:59:59.999999", "2026-01-01T00:00:00", "2026-02-01T00:00:00"),
        (Window.MONTH, "2026-12-31T23:59:59.999999", "2026-12-01T00:00:00", "2027-01-01T00:00:00"),
        (Window.MONTH, "2027-01-01T00:00:00", "2027-01-01T00:00:00", "2027-02-01T00:00:00"),
        (Window.MONTH, "2027-02-28T23:59:59.999999", "2027-02-01T00:00:00", "2027-03-01T00:00:00"),
        (Window.MONTH, "2028-02-29T00:00:00", "2028-02-01T00:00:00", "2028-03-01T00:00:00"),
        (Window.MONTH, "2100-02-28T12:00:00", "2100-02-01T00:00:00", "2100-03-01T00:00:00"),
        (Window.DAY, "2026-03-10T12:00:00", "2026-03-10T00:00:00", "2026-03-11T00:00:00"),
        (Window.DAY, "2026-03-10T00:00:00", "2026-03-10T00:00:00", "2026-03-11T00:00:00"),
        (Window.DAY, "2026-03-10T23:59:59.999999", "2026-03-10T00:00:00", "2026-03-11T00:00:00"),
        (Window.DAY, "2028-02-28T12:00:00", "2028-02-28T00:00:00", "2028-02-29T00:00:00"),
        (Window.DAY, "2027-02-28T12:00:00", "2027-02-28T00:00:00", "2027-03-01T00:00:00"),
        (Window.DAY, "2026-12-31T12:00:00", "2026-12-31T00:00:00", "2027-01-01T00:00:00"),
    ],
)
def test_a_window_is_a_month_or_a_day_in_utc(window: Window, now: str, start: str, end: str) -> None:
    assert window_ms(window, at_us(now)) == (at_us(start) // 1000, at_us(end) // 1000)


def test_an_account_without_a_window_never_rolls() -> None:
    assert window_ms(Window.NONE, NOW_US) == (0, None)
    endless = account(window=Window.NONE, window_ends_at_ms=None, used=70)
    endless.roll(at_us("2099-01-01T00:00:00"))
    assert (endless.used, endless.window_ends_at_ms) == (70, None)


@given(now_us=_TIMES_US, window=st.sampled_from([Window.MONTH, Window.DAY]))
def test_windows_leave_no_gap_and_do_not_overlap(now_us: int, window: Window) -> None:
    start_ms, end_ms = window_ms(window, now_us)
    assert end_ms is not None
    assert start_ms * 1000 <= now_us < end_ms * 1000
    assert window_ms(window, start_ms * 1000) == window_ms(window, end_ms * 1000 - 1) == (start_ms, end_ms)
    assert window_ms(window, end_ms * 1000)[0] == end_ms
    days = (end_ms - start_ms) / 86_400_000
    assert days in ({28, 29, 30, 31} if window is Window.MONTH else {1})
    start = datetime.fromtimestamp(start_ms / 1000, UTC)
    assert (start.hour, start.minute, start.second, start.microsecond) == (0, 0, 0, 0)


def test_used_units_come_back_at_exactly_the_end_and_open_holds_go_along() -> None:
    end_us = at_us("2026-04-01T00:00:00")
    rolled = account(used=60, held=30, in_flight=2, crossed_percent=50)
    rolled.roll(end_us - 1)
    assert rolled == account(used=60, held=30, in_flight=2, crossed_percent=50)
    rolled.roll(end_us)
    next_end_ms = at_us("2026-05-01T00:00:00") // 1000
    assert rolled == account(held=30, in_flight=2, window_started_at_ms=end_us // 1000, window_ends_at_ms=next_end_ms)
    assert rolled.remaining(end_us) == 70


def test_an_account_that_slept_for_years_wakes_in_the_present_window() -> None:
    sleeper = account(used=60)
    sleeper.roll(at_us("2031-07-15T08:00:00"))
    window = (at_us("2031-07-01T00:00:00") // 1000, at_us("2031-08-01T00:00:00") // 1000)
    assert (sleeper.used, sleeper.window_started_at_ms, sleeper.window_ends_at_ms) == (0, *window)


@pytest.mark.parametrize(("limit", "remaining"), [(None, None), (100, 40), (60, 0), (10, 0)])
def test_what_remains_is_never_negative_even_below_a_lowered_limit(limit: int | None, remaining: int | None) -> None:
    assert account(limit=limit, used=40, held=20).remaining(NOW_US) == remaining


def _admitted(one: Account, times_us: list[int]) -> list[int]:
    """The times among `times_us` at which the account lets a request through."""
    through: list[int] = []
    for now_us in times_us:
        if one.wait_us(now_us) == 0:
            one.count_request(now_us)
            through.append(now_us)
    return through


def test_a_burst_goes_through_at_once_and_no_more() -> None:
    one = account(requests_per_minute=60, requests_burst=5)
    assert len(_admitted(one, [NOW_US] * 20)) == 5
    assert one.wait_us(NOW_US) == 1_000_000
    assert _admitted(one, [NOW_US + 999_999, NOW_US + 1_000_000, NOW_US + 1_000_000]) == [NOW_US + 1_000_000]


def test_a_rest_refills_the_burst_and_never_beyond_it() -> None:
    one = account(requests_per_minute=60, requests_burst=5)
    assert len(_admitted(one, [NOW_US] * 5)) == 5
    assert len(_admitted(one, [NOW_US + 3_000_000] * 20)) == 3
    assert len(_admitted(one, [NOW_US + 3_600_000_000] * 20)) == 5


@given(
    rate=st.integers(1, 1_000_000),
    burst=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 3_000_000) | st.just(0), min_size=1, max_size=60),
)
def test_no_window_ever_sees_more_than_the_burst_and_the_rate(rate: int, burst: int, gaps: list[int]) -> None:
    """P1 for requests: in every span, however chosen, at most burst + rate x span."""
    times = [NOW_US + sum(gaps[:count]) for count in range(len(gaps))]
    through = _admitted(account(requests_per_minute=rate, requests_burst=burst), times)
    for first, began in enumerate(through):
        for last in range(first, len(through)):
            span_us = through[last] - began
            assert last - first + 1 <= burst + rate * span_us // _MINUTE_US


@given(rate=st.integers(1, 1_000_000), burst=st.integers(1, 5), count=st.integers(1, 100))
@example(rate=7, burst=1, count=20)
def test_rounding_never_lets_one_more_through(rate: int, burst: int, count: int) -> None:
    """The hardest caller: again in the very microsecond in which it may."""
    one, now_us = account(requests_per_minute=rate, requests_burst=burst), NOW_US
    for _ in range(burst + count):
        now_us += one.wait_us(now_us)
        one.count_request(now_us)
    assert burst + count <= burst + rate * (now_us - NOW_US) // _MINUTE_US
    # And what is lost by rounding is under a microsecond for each.
    assert now_us - NOW_US <= count * (_MINUTE_US / rate + 1)


@given(rate=st.integers(1, 1_000_000), burst=st.integers(1, 20), ahead_us=st.integers(0, 2 * 20 * _MINUTE_US))
def test_the_wait_that_is_told_is_enough_and_not_too_long(rate: int, burst: int, ahead_us: int) -> None:
    one = account(requests_per_minute=rate, requests_burst=burst, requests_tat_us=NOW_US + ahead_us)
    wait_us = one.wait_us(NOW_US)
    assert one.wait_us(NOW_US + wait_us) == 0
    assert wait_us == 0 or one.wait_us(NOW_US + wait_us - 1) == 1


@given(rate=st.integers(1, 1_000_000), burst=st.integers(1, 20), gaps=st.lists(st.integers(0, 90_000_000), max_size=30))
def test_the_balance_tells_what_would_go_through_now(rate: int, burst: int, gaps: list[int]) -> None:
    one, now_us = account(requests_per_minute=rate, requests_burst=burst), NOW_US
    for gap_us in gaps:
        now_us += gap_us
        _admitted(one, [now_us])
    told = one.balance(now_us)
    assert told.requests_remaining == len(_admitted(replace(one), [now_us] * (burst + 1)))
    assert told.requests_reset_ms is not None
    rested_us = now_us + told.requests_reset_ms * 1000
    assert len(_admitted(replace(one), [rested_us] * (burst + 1))) == burst


def test_without_a_rate_nothing_waits_and_nothing_is_counted() -> None:
    free = account(requests_per_minute=None)
    assert len(_admitted(free, [NOW_US] * 1000)) == 1000
    told = free.balance(NOW_US)
    assert (free.requests_tat_us, told.requests_limit, told.requests_remaining, told.requests_reset_ms) == (
        0,
        None,
        None,
        None,
    )


def test_the_balance_tells_every_limit_and_where_it_stands() -> None:
    one = account(limit=100, used=40, held=25, in_flight=2, in_flight_max=8, requests_per_minute=60, requests_burst=5)
    assert len(_admitted(one, [NOW_US, NOW_US])) == 2
    told = one.balance(NOW_US + 1)
    assert (told.account_id, told.limit, told.used, told.held, told.remaining) == ("hall", 100, 40, 25, 35)
    assert (told.window, told.window_ends_at_ms) == (Window.MONTH, at_us("2026-04-01T00:00:00") // 1000)
    assert (told.requests_limit, told.requests_remaining, told.requests_reset_ms) == (60, 3, 2000)
    assert (told.in_flight, told.in_flight_max) == (2, 8)
