"""Accounts, holds and commands that the tests of the ledger share."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from odea_contracts.quota import Extend, Outcome, Release, Reserve, Settle, Window
from odea_contracts.writeoffs import WriteOff
from odea_quota.accounts import Account, TopUpBalance
from odea_quota.book import Book, Expire


def at_us(text: str) -> int:
    """Microseconds since 1970 of a time in UTC, as in `2026-03-10T12:00:00.000001`."""
    since = datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


NOW_US = at_us("2026-03-10T12:00:00")
NOW_MS = NOW_US // 1000

_ACCOUNT = Account(
    account_id="hall",
    suspended=False,
    window=Window.MONTH,
    limit=100,
    requests_per_minute=None,
    requests_burst=1,
    in_flight_max=None,
    window_started_at_ms=at_us("2026-03-01T00:00:00") // 1000,
    window_ends_at_ms=at_us("2026-04-01T00:00:00") // 1000,
    used=0,
    held=0,
    in_flight=0,
    requests_tat_us=0,
)


def account(account_id: str = "hall", **fields: Any) -> Account:
    """An account of 100 units a month and no other limit, apart from what `fields` say."""
    fields.setdefault("topups", [])
    return replace(_ACCOUNT, account_id=account_id, **fields)


def topup(number: int, units: int, lapses_in_us: int = 3_600_000_000, account_id: str = "hall") -> TopUpBalance:
    """Extra units that lapse so long after `NOW_US`."""
    return TopUpBalance(
        topup_id=hold_id(1000 + number),
        account_id=account_id,
        units_left=units,
        units_held=0,
        expires_at_ms=(NOW_US + lapses_in_us) // 1000,
    )


def book(*accounts: Account) -> Book:
    """A book in which nothing has happened yet."""
    return Book(accounts={one.account_id: one for one in accounts}, holds={}, resolutions={})


def hold_id(number: int = 1) -> str:
    """A hold's id, the same for the same number."""
    return f"00000000-0000-4000-8000-{max(0, number):012x}"


def reserve(number: int = 1, units: int = 50, *accounts: str, lease_ms: int = 60_000) -> Reserve:
    """Hold `units` on the accounts, by default on `hall`."""
    return Reserve(
        hold_id=hold_id(number),
        accounts=accounts or ("hall",),
        units=units,
        lease_ms=lease_ms,
        request_id="req",
        tenant_id="ten",
        key_id="key",
        characters=11,
        model="plain",
        voice="vera",
    )


def settle(number: int = 1, units: int = 30, outcome: Outcome = Outcome.COMPLETED) -> Settle:
    """Charge the hold."""
    return Settle(hold_id=hold_id(number), units=units, outcome=outcome, provider="piper")


def write_off(number: int = 1) -> WriteOff:
    """Charge nothing for the hold, whatever became of it."""
    return WriteOff(hold_id=hold_id(number), provider="piper", provider_units=31)


def release(number: int = 1) -> Release:
    """Give the hold back."""
    return Release(hold_id=hold_id(number))


def extend(number: int = 1, lease_ms: int = 120_000, units: int | None = None) -> Extend:
    """Let the hold's lease last longer, and hold at least so many units."""
    return Extend(hold_id=hold_id(number), lease_ms=lease_ms, units=units)


def expire(number: int = 1) -> Expire:
    """What the sweeper asks."""
    return Expire(hold_id(number))
