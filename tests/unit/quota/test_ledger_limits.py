"""One decision for all limits: which one refuses, in what order, on two accounts at once, and that it takes nothing."""

from copy import deepcopy
from typing import Any

import pytest
from msgspec.structs import replace

from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.quota import Denied, Limit, Reserved
from odea_quota.book import Book
from odea_quota.ledger import decide
from unit.quota.samples import NOW_MS, NOW_US, account, at_us, book, reserve, settle

_BUSY: dict[str, dict[str, Any]] = {
    "suspended": {"suspended": True},
    "text": {"text_characters_max": 10},
    "model": {"models": ("another",)},
    "voice": {"voices": ("another", "one_more")},
    "units": {"used": 60},
    "in_flight": {"in_flight_max": 2, "in_flight": 2, "held": 2},
    "requests": {"requests_per_minute": 60, "requests_burst": 1, "requests_tat_us": NOW_US + 1_500_500},
}
"""What makes an account refuse 50 units, by the limit that does."""


def _reserve(now: Book, *accounts: str, units: int = 50, number: int = 1) -> Reserved | Denied:
    answer = decide(now, reserve(number, units, *accounts), NOW_US)
    assert isinstance(answer, Reserved | Denied)
    return answer


def _refused(now: Book, *accounts: str, units: int = 50) -> Denied:
    """The refusal, which must have changed nothing at all."""
    before = deepcopy(now)
    answer = _reserve(now, *accounts, units=units)
    assert isinstance(answer, Denied)
    assert now == before
    return answer


@pytest.mark.parametrize(
    ("limit", "retry_after_ms"),
    [
        ("suspended", None),
        ("text", None),
        ("model", None),
        ("voice", None),
        ("units", None),
        ("in_flight", 1_000),
        ("requests", 1_501),
    ],
)
def test_a_refusal_names_its_limit_and_takes_nothing_from_any(limit: str, retry_after_ms: int | None) -> None:
    answer = _refused(book(account(**_BUSY[limit])), "hall")
    assert (answer.limit, answer.account_id, answer.retry_after_ms) == (Limit(limit), "hall", retry_after_ms)
    assert [balance.account_id for balance in answer.balances] == ["hall"]


def test_trying_again_when_told_to_succeeds() -> None:
    now = book(account(**_BUSY["requests"]))
    wait_ms = _refused(now, "hall").retry_after_ms
    assert wait_ms is not None
    assert isinstance(decide(now, reserve(), NOW_US + (wait_ms - 1) * 1000), Denied)
    assert isinstance(decide(now, reserve(), NOW_US + wait_ms * 1000), Reserved)


def test_an_unknown_account_is_named_and_the_known_ones_are_shown() -> None:
    answer = _refused(book(account()), "hall", "nobody")
    assert (answer.limit, answer.account_id, answer.retry_after_ms) == (Limit.ACCOUNT, "nobody", None)
    assert [balance.account_id for balance in answer.balances] == ["hall"]


def test_limits_refuse_in_their_order_those_first_where_waiting_is_useless() -> None:
    order = ["suspended", "text", "model", "voice", "units", "in_flight", "requests"]
    for count, first in enumerate(order):
        together = {name: value for limit in order[count:] for name, value in _BUSY[limit].items()}
        assert _refused(book(account(**together)), "hall").limit == Limit(first)
        assert _refused(book(account(**together)), "hall", "nobody").limit == Limit.ACCOUNT


def test_the_order_of_limits_comes_before_the_order_of_accounts() -> None:
    now = book(account(**_BUSY["units"]), account("stage", **_BUSY["suspended"]))
    assert (_refused(now, "hall", "stage").limit, _refused(now, "hall", "stage").account_id) == ("suspended", "stage")
    both = book(account(**_BUSY["units"]), account("stage", **_BUSY["units"]))
    assert _refused(both, "stage", "hall").account_id == "stage"
    assert _refused(both, "hall", "stage").account_id == "hall"


@pytest.mark.parametrize("limit", _BUSY)
@pytest.mark.parametrize("accounts", [("hall", "stage"), ("stage", "hall")])
def test_two_accounts_must_both_agree_and_neither_pays_if_one_does_not(limit: str, accounts: tuple[str, str]) -> None:
    now = book(account(requests_per_minute=60, requests_burst=5), account("stage", **_BUSY[limit]))
    answer = _refused(now, *accounts)
    assert (answer.limit, answer.account_id) == (Limit(limit), "stage")
    assert {balance.account_id for balance in answer.balances} == {"hall", "stage"}


def test_two_accounts_are_taken_from_and_charged_together() -> None:
    now = book(account(), account("stage", limit=None))
    answer = _reserve(now, "hall", "stage")
    assert isinstance(answer, Reserved)
    told = [(one.account_id, one.used, one.held, one.remaining, one.in_flight) for one in answer.balances]
    assert told == [("hall", 0, 50, 50, 1), ("stage", 0, 50, None, 1)]
    decide(now, settle(1, 30), NOW_US)
    assert [(one.used, one.held, one.in_flight) for one in now.accounts.values()] == [(30, 0, 0), (30, 0, 0)]


def test_an_account_that_is_named_twice_is_a_mistake_and_not_a_double_charge() -> None:
    now = book(account())
    before = deepcopy(now)
    answer = decide(now, reserve(1, 50, "hall", "hall"), NOW_US)
    assert isinstance(answer, Failure)
    assert (answer.code, answer.param) == (ErrorCode.INVALID_VALUE, "accounts")
    assert now == before


def test_what_the_plan_allows_goes_through() -> None:
    """The sample asks for 11 characters of the model `plain` in the voice `vera`."""
    plan = account(text_characters_max=11, models=("another", "plain"), voices=("vera",))
    assert isinstance(_reserve(book(plan), "hall"), Reserved)
    nothing = account(models=())
    assert _refused(book(nothing), "hall").limit == Limit.MODEL


@pytest.mark.parametrize(("mixed", "refused"), [(("boss", "vera"), False), (("vera", "boss", "guest"), True)])
def test_a_mix_may_hold_no_voice_that_the_plan_does_not_list(mixed: tuple[str, ...], refused: bool) -> None:
    now = book(account(voices=("vera", "boss")))
    answer = decide(now, replace(reserve(1, 50, "hall"), mixed_voices=mixed), NOW_US)
    assert (isinstance(answer, Denied) and answer.limit is Limit.VOICE) == refused


def test_the_last_unit_can_be_taken_and_not_one_more() -> None:
    now = book(account(used=40, held=10, in_flight=1))
    assert _refused(now, "hall", units=51).limit == Limit.UNITS
    assert isinstance(_reserve(now, "hall", units=50), Reserved)
    assert _refused_second(now).limit == Limit.UNITS


def _refused_second(now: Book) -> Denied:
    answer = _reserve(now, "hall", units=1, number=2)
    assert isinstance(answer, Denied)
    return answer


def test_a_smaller_request_passes_after_a_larger_one_was_refused() -> None:
    now = book(account(used=60, requests_per_minute=60, requests_burst=1))
    assert _refused(now, "hall", units=41).limit == Limit.UNITS
    assert isinstance(_reserve(now, "hall", units=40), Reserved)


def test_no_limit_means_none() -> None:
    now = book(account(limit=None, used=10**12))
    answer = _reserve(now, "hall", units=10**9)
    assert isinstance(answer, Reserved)
    assert answer.balances[0].remaining is None


def test_a_limit_below_what_is_in_use_refuses_more_but_lets_open_holds_settle() -> None:
    now = book(account())
    assert isinstance(_reserve(now, "hall", units=80), Reserved)
    now.accounts["hall"].limit = 10
    assert _refused_second(now).limit == Limit.UNITS
    decide(now, settle(1, 80), NOW_US)
    assert (now.accounts["hall"].used, now.accounts["hall"].remaining(NOW_US)) == (80, 0)


def test_a_new_window_brings_its_units_and_open_holds_still_count() -> None:
    next_month_us = at_us("2026-04-01T00:00:00")
    now = book(account(used=50))
    assert isinstance(_reserve(now, "hall", units=40), Reserved)
    assert isinstance(decide(now, reserve(2, 11), next_month_us - 1), Denied)
    assert isinstance(decide(now, reserve(3, 61), next_month_us), Denied)
    answer = decide(now, reserve(4, 60), next_month_us)
    assert isinstance(answer, Reserved)
    assert (answer.balances[0].used, answer.balances[0].held) == (0, 100)


def test_a_hold_is_charged_to_the_window_in_which_it_is_settled() -> None:
    next_month_us = at_us("2026-04-01T00:00:00")
    now = book(account(used=50))
    _reserve(now, "hall", units=40)
    decide(now, settle(1, 40), next_month_us)
    hall = now.accounts["hall"]
    assert (hall.used, hall.held, hall.window_ends_at_ms) == (40, 0, at_us("2026-05-01T00:00:00") // 1000)


def test_every_answer_tells_the_balance_of_the_present_window() -> None:
    next_month_us = at_us("2026-04-01T00:00:00")
    now = book(account(used=50, suspended=True), account("stage", used=50))
    refused = decide(now, reserve(), next_month_us)
    assert isinstance(refused, Denied)
    assert refused.balances[0].used == 0
    granted = decide(now, reserve(2, 50, "stage", lease_ms=3_600_000), next_month_us - 1)
    assert isinstance(granted, Reserved)
    assert granted.balances[0].used == 50
    repeated = decide(now, reserve(2, 50, "stage", lease_ms=3_600_000), next_month_us)
    assert isinstance(repeated, Reserved)
    assert (repeated.balances[0].used, repeated.balances[0].held) == (0, 50)
    assert repeated.expires_at_ms == granted.expires_at_ms > NOW_MS
