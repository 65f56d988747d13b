"""The rules of holds: a pure decision over accounts, holds and the time. No I/O, no clock of its own.

A batch of commands is decided one after the other against one `Book`, so that two commands of a batch can never both
take the last unit. The book notes what changed; the store writes just that.
"""

from typing import TypeAlias

from msgspec.structs import replace

from odea_contracts.errors import ErrorCode, Failure, failure
from odea_contracts.quota import (
    Denied,
    ExceedsHold,
    Expired,
    Extend,
    Extended,
    HoldConflict,
    HoldUnknown,
    Limit,
    Outcome,
    Release,
    Released,
    ReleasedBefore,
    Reserve,
    Reserved,
    Settle,
    Settled,
    SettledBefore,
)
from odea_contracts.writeoffs import WriteOff, WrittenOff
from odea_quota.accounts import Account
from odea_quota.admission import refusal
from odea_quota.book import Book, Expire, Hold, Kind, Resolution

Command: TypeAlias = Reserve | Settle | Release | Extend | WriteOff | Expire
Answer: TypeAlias = (
    Reserved
    | Denied
    | HoldConflict
    | Settled
    | SettledBefore
    | Released
    | ReleasedBefore
    | Extended
    | Expired
    | HoldUnknown
    | ExceedsHold
    | WrittenOff
    | Failure
)


def decide(book: Book, command: Command, now_us: int) -> Answer:
    """Answer one command and note in `book` what it changes. A refusal changes nothing."""
    match command:
        case Reserve():
            return _reserve(book, command, now_us)
        case Settle():
            return _settle(book, command, now_us)
        case Release():
            return _release(book, command, now_us)
        case Extend():
            return _extend(book, command, now_us)
        case WriteOff():
            return _write_off(book, command, now_us)
        case Expire():
            return _expire(book, command, now_us)


def _reserve(book: Book, command: Reserve, now_us: int) -> Answer:
    if len(set(command.accounts)) < len(command.accounts):
        return failure(ErrorCode.INVALID_VALUE, "An account is named twice.", param="accounts")
    hold = book.holds.get(command.hold_id)
    if hold:
        same = (hold.account_ids, hold.units) == (command.accounts, command.units)
        return _reserved(book, hold, now_us) if same else HoldConflict(hold_id=command.hold_id)
    ended = book.resolutions.get(command.hold_id)
    if ended:
        return _ended(ended)
    accounts = _known(book, command.accounts, now_us)
    denied = _denied(command, accounts, now_us)
    if denied:
        return denied
    topups: dict[str, int] = {}
    for account in accounts.values():
        topups |= book.hold_units(account, command.units, now_us)
        account.count_request(now_us)
    hold = Hold(
        hold_id=command.hold_id,
        account_ids=command.accounts,
        units=command.units,
        lease_ends_at_ms=now_us // 1000 + command.lease_ms,
        reserved_at_ms=now_us // 1000,
        request_id=command.request_id,
        tenant_id=command.tenant_id,
        key_id=command.key_id,
        topups=topups,
    )
    book.holds[hold.hold_id] = book.opened[hold.hold_id] = hold
    return _reserved(book, hold, now_us)


def _reserved(book: Book, hold: Hold, now_us: int) -> Reserved:
    return Reserved(
        hold_id=hold.hold_id,
        units=hold.units,
        expires_at_ms=hold.lease_ends_at_ms,
        balances=tuple(account.balance(now_us) for account in _known(book, hold.account_ids, now_us).values()),
    )


def _denied(command: Reserve, accounts: dict[str, Account], now_us: int) -> Denied | None:
    found = refusal(command, accounts, now_us)
    if found is None:
        return None
    limit, account_id, retry_after_ms = found
    balances = tuple(account.balance(now_us) for account in accounts.values())
    return Denied(
        hold_id=command.hold_id,
        limit=limit,
        account_id=account_id,
        retry_after_ms=retry_after_ms,
        balances=balances,
    )


def _settle(book: Book, command: Settle, now_us: int) -> Answer:
    if command.outcome is Outcome.WRITTEN_OFF and command.units:
        return failure(ErrorCode.INVALID_VALUE, "What is written off is settled with zero units.", param="units")
    hold = book.holds.get(command.hold_id)
    if hold is None:
        return _settle_ended(book, command, now_us)
    if command.units > hold.units:
        return ExceedsHold(hold_id=hold.hold_id, held=hold.units)
    for account in _accounts_of(book, hold, now_us):
        book.give_back(account, hold)
        book.charge(account, hold, command.units, command.provider)
    book.resolve(Resolution(hold=hold, kind=Kind.SETTLED, units=command.units, settle=command))
    return Settled(hold_id=hold.hold_id, units=command.units)


def _settle_ended(book: Book, command: Settle, now_us: int) -> Answer:
    ended = book.resolutions.get(command.hold_id)
    if ended is None:
        return HoldUnknown(hold_id=command.hold_id)
    if ended.kind is Kind.SETTLED and ended.units == command.units:
        return Settled(hold_id=command.hold_id, units=ended.units, late=ended.late)
    if ended.kind is not Kind.EXPIRED:
        return _ended(ended)
    if command.units > ended.hold.units:
        return ExceedsHold(hold_id=command.hold_id, held=ended.hold.units)
    # The hold's units were free for others since it expired: what is charged now must fit beside theirs (P1 before P2).
    accounts = _accounts_of(book, ended.hold, now_us)
    if any(account.short_of(command.units, now_us) for account in accounts):
        return Expired(hold_id=command.hold_id)
    for account in accounts:
        # Held for a moment, so that a late charge takes top-ups in the same order as any other.
        taken = book.hold_units(account, command.units, now_us)
        late = replace(ended.hold, units=command.units, topups=taken)
        book.give_back(account, late)
        book.charge(account, late, command.units, command.provider)
    book.resolve(Resolution(hold=ended.hold, kind=Kind.SETTLED, units=command.units, late=True, settle=command))
    return Settled(hold_id=command.hold_id, units=command.units, late=True)


def _release(book: Book, command: Release, now_us: int) -> Answer:
    hold = book.holds.get(command.hold_id)
    if hold is None:
        ended = book.resolutions.get(command.hold_id)
        if ended and ended.kind is Kind.RELEASED:
            return Released(hold_id=command.hold_id)
        return _ended(ended) if ended else HoldUnknown(hold_id=command.hold_id)
    _let_go(book, hold, now_us)
    book.resolve(Resolution(hold=hold, kind=Kind.RELEASED))
    return Released(hold_id=hold.hold_id)


def _extend(book: Book, command: Extend, now_us: int) -> Answer:
    hold = book.holds.get(command.hold_id)
    if hold is None:
        ended = book.resolutions.get(command.hold_id)
        return _ended(ended) if ended else HoldUnknown(hold_id=command.hold_id)
    more = (command.units or 0) - hold.units
    if more > 0:
        denied = _raise(book, hold, more, now_us)
        if denied:
            return denied
    lease_ends_at_ms = now_us // 1000 + command.lease_ms
    if more > 0 or lease_ends_at_ms > hold.lease_ends_at_ms:
        book.extend(hold, lease_ends_at_ms)
    held = None if command.units is None else hold.units
    return Extended(hold_id=hold.hold_id, expires_at_ms=hold.lease_ends_at_ms, units=held)


def _raise(book: Book, hold: Hold, more: int, now_us: int) -> Denied | None:
    """Hold more units, on all of the hold's accounts or on none."""
    accounts = _accounts_of(book, hold, now_us)
    for account in accounts:
        if account.suspended or account.short_of(more, now_us):
            return Denied(
                hold_id=hold.hold_id,
                limit=Limit.SUSPENDED if account.suspended else Limit.UNITS,
                account_id=account.account_id,
                retry_after_ms=None,
                balances=tuple(each.balance(now_us) for each in accounts),
            )
    for account in accounts:
        book.hold_more(account, hold, more, now_us)
    hold.units += more
    return None


def _write_off(book: Book, command: WriteOff, now_us: int) -> Answer:
    hold_id = command.hold_id
    ended = book.resolutions.get(hold_id) if hold_id not in book.holds else None
    if ended and ended.kind is Kind.SETTLED:
        return _take_back(book, ended, now_us)
    nothing = Settle(
        hold_id=hold_id,
        units=0,
        outcome=Outcome.WRITTEN_OFF,
        provider=command.provider,
        model=command.model,
        voice=command.voice,
        provider_units=command.provider_units,
    )
    # An expired hold too: a settlement that is still on its way must not charge it late.
    answer = _settle(book, nothing, now_us)
    return WrittenOff(hold_id=hold_id, units=0) if isinstance(answer, Settled) else answer


def _take_back(book: Book, ended: Resolution, now_us: int) -> Answer:
    hold_id, charged_at_us = ended.hold.hold_id, now_us if ended.at_us is None else ended.at_us
    if ended.taken_back or not ended.units:
        return WrittenOff(hold_id=hold_id, units=ended.taken_back)
    if now_us - charged_at_us > book.write_off_us:
        return SettledBefore(hold_id=hold_id, units=ended.units)
    book.take_back(ended, _accounts_of(book, ended.hold, now_us), charged_at_us)
    return WrittenOff(hold_id=hold_id, units=ended.units)


def _expire(book: Book, command: Expire, now_us: int) -> Answer:
    hold = book.holds.get(command.hold_id)
    if hold is None:
        ended = book.resolutions.get(command.hold_id)
        return _ended(ended) if ended else HoldUnknown(hold_id=command.hold_id)
    if hold.lease_ends_at_ms * 1000 > now_us:
        return Extended(hold_id=hold.hold_id, expires_at_ms=hold.lease_ends_at_ms)
    _let_go(book, hold, now_us)
    book.resolve(Resolution(hold=hold, kind=Kind.EXPIRED))
    return Expired(hold_id=hold.hold_id)


def _known(book: Book, names: tuple[str, ...], now_us: int) -> dict[str, Account]:
    accounts = {name: book.accounts[name] for name in names if name in book.accounts}
    for account in accounts.values():
        account.roll(now_us)
    return accounts


def _accounts_of(book: Book, hold: Hold, now_us: int) -> list[Account]:
    return list(_known(book, hold.account_ids, now_us).values())


def _let_go(book: Book, hold: Hold, now_us: int) -> None:
    for account in _accounts_of(book, hold, now_us):
        book.give_back(account, hold)


def _ended(resolution: Resolution) -> Answer:
    """The named answer for a command that comes after the hold's end."""
    hold_id = resolution.hold.hold_id
    match resolution.kind:
        case Kind.SETTLED:
            return SettledBefore(hold_id=hold_id, units=resolution.units)
        case Kind.RELEASED:
            return ReleasedBefore(hold_id=hold_id)
        case Kind.EXPIRED:
            return Expired(hold_id=hold_id)
