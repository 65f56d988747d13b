"""Raising an open hold: all of its accounts or none, no request counted, and nothing lost on the way (P1, P3)."""

from odea_contracts.quota import Denied, Extended, Limit, Reserved, Settled
from odea_quota.ledger import decide
from unit.quota.samples import NOW_MS, NOW_US, account, book, extend, hold_id, release, reserve, settle, topup


def test_more_is_held_and_can_be_charged() -> None:
    hall = account()
    page = book(hall)
    decide(page, reserve(1, 50), NOW_US)
    assert decide(page, extend(1, 60_000, units=80), NOW_US) == Extended(
        hold_id=hold_id(), expires_at_ms=NOW_MS + 60_000, units=80
    )
    assert (hall.held, hall.in_flight) == (80, 1)
    assert decide(page, settle(1, 80), NOW_US) == Settled(hold_id=hold_id(), units=80)
    assert (hall.used, hall.held, hall.in_flight) == (80, 0, 0)


def test_fewer_units_than_are_held_change_nothing_but_the_lease() -> None:
    hall = account()
    page = book(hall)
    decide(page, reserve(1, 50), NOW_US)
    raised = decide(page, extend(1, 90_000, units=20), NOW_US)
    assert raised == Extended(hold_id=hold_id(), expires_at_ms=NOW_MS + 90_000, units=50)
    assert hall.held == 50


def test_what_one_of_two_accounts_has_not_is_held_on_neither() -> None:
    """The lease stays as it is, too: a refusal changes nothing."""
    tenant, key = account("tenant", limit=1000), account("key", limit=60)
    page = book(tenant, key)
    decide(page, reserve(1, 50, "tenant", "key"), NOW_US)
    page.extended.clear()
    refused = decide(page, extend(1, 600_000, units=61), NOW_US)
    assert isinstance(refused, Denied)
    assert (refused.limit, refused.account_id) == (Limit.UNITS, "key")
    assert (tenant.held, key.held, page.holds[hold_id()].units) == (50, 50, 50)
    assert page.extended == {}


def test_an_account_that_was_suspended_meanwhile_holds_no_more() -> None:
    hall = account()
    page = book(hall)
    decide(page, reserve(1, 50), NOW_US)
    hall.suspended = True
    refused = decide(page, extend(1, units=51), NOW_US)
    assert isinstance(refused, Denied)
    assert refused.limit is Limit.SUSPENDED
    assert isinstance(decide(page, extend(1), NOW_US), Extended)


def test_no_request_is_counted_and_no_second_place_is_taken() -> None:
    hall = account(requests_per_minute=1, requests_burst=1, in_flight_max=1)
    page = book(hall)
    assert isinstance(decide(page, reserve(1, 50), NOW_US), Reserved)
    before = hall.requests_tat_us
    assert isinstance(decide(page, extend(1, units=60), NOW_US), Extended)
    assert (hall.requests_tat_us, hall.in_flight) == (before, 1)


def test_topups_give_first_and_get_back_what_is_not_used() -> None:
    extra = topup(1, 60)
    hall = account(topups=[extra], limit=30)
    page = book(hall)
    decide(page, reserve(1, 50), NOW_US)
    assert isinstance(decide(page, extend(1, units=85), NOW_US), Extended)
    assert (extra.units_left, extra.units_held, hall.held) == (0, 60, 25)
    assert page.holds[hold_id()].topups == {extra.topup_id: 60}
    decide(page, release(1), NOW_US)
    assert (extra.units_left, extra.units_held, hall.held) == (60, 0, 0)
