"""Who may hold units now: the limits that a reserve is put to, in order. No I/O."""

from collections.abc import Mapping
from typing import Final, TypeAlias

from odea_contracts.quota import Limit, Reserve
from odea_quota.accounts import Account

_IN_FLIGHT_RETRY_MS: Final = 1_000

Refusal: TypeAlias = tuple[Limit, str, int | None]
"""Which limit of which account refuses, and when to come back if waiting helps, in milliseconds."""


def refusal(command: Reserve, accounts: Mapping[str, Account], now_us: int) -> Refusal | None:
    """The first limit that refuses, those first for which waiting is useless."""
    for name in command.accounts:
        if name not in accounts:
            return Limit.ACCOUNT, name, None
    for check in (_suspended, _outside_plan, _units_gone, _all_in_flight, _too_fast):
        for account in accounts.values():
            refused = check(account, command, now_us)
            if refused:
                return refused
    return None


def _suspended(account: Account, _command: Reserve, _now_us: int) -> Refusal | None:
    return (Limit.SUSPENDED, account.account_id, None) if account.suspended else None


def _outside_plan(account: Account, command: Reserve, _now_us: int) -> Refusal | None:
    if account.text_characters_max is not None and command.characters > account.text_characters_max:
        return Limit.TEXT, account.account_id, None
    if account.models is not None and command.model not in account.models:
        return Limit.MODEL, account.account_id, None
    if account.voices is not None and not {command.voice, *command.mixed_voices} <= set(account.voices):
        return Limit.VOICE, account.account_id, None
    return None


def _units_gone(account: Account, command: Reserve, now_us: int) -> Refusal | None:
    return (Limit.UNITS, account.account_id, None) if account.short_of(command.units, now_us) else None


def _all_in_flight(account: Account, _command: Reserve, _now_us: int) -> Refusal | None:
    full = account.in_flight_max is not None and account.in_flight >= account.in_flight_max
    return (Limit.IN_FLIGHT, account.account_id, _IN_FLIGHT_RETRY_MS) if full else None


def _too_fast(account: Account, _command: Reserve, now_us: int) -> Refusal | None:
    wait_us = account.wait_us(now_us)
    return (Limit.REQUESTS, account.account_id, -(-wait_us // 1000)) if wait_us else None
