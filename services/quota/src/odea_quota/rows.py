"""A batch's rows to structs and back: the JSON arrays that its set-based statements give and take.

JSON, since one value for all of a struct's fields takes a third of the time here that an array for each of them would.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from odea_contracts import subjects
from odea_contracts.quota import Outcome
from odea_contracts.quota_events import HoldEvent, ThresholdCrossed
from odea_contracts.writeoffs import WriteOffEvent
from odea_quota.accounts import Account, TopUpBalance
from odea_quota.book import Book, Crossing, Hold, Kind, Resolution, Reversal
from odea_runtime.ids import new_uuid

_SUBJECTS = {
    Kind.SETTLED: subjects.QUOTA_SETTLED,
    Kind.RELEASED: subjects.QUOTA_RELEASED,
    Kind.EXPIRED: subjects.QUOTA_EXPIRED,
}


class _End(Struct, gc=False):
    """How a hold ended."""

    hold_id: str
    kind: Kind
    late: bool
    account_ids: tuple[str, ...]
    units_held: int
    units_settled: int
    reserved_at_ms: int
    request_id: str
    tenant_id: str
    key_id: str


class _Remembered(_End, gc=False):
    """The same as `look_batch` tells it."""

    resolved_at_us: int

    def resolution(self) -> Resolution:
        """The same as the ledger knows it."""
        hold = Hold(
            hold_id=self.hold_id,
            account_ids=self.account_ids,
            units=self.units_held,
            lease_ends_at_ms=0,
            reserved_at_ms=self.reserved_at_ms,
            request_id=self.request_id,
            tenant_id=self.tenant_id,
            key_id=self.key_id,
        )
        return Resolution(
            hold=hold, kind=self.kind, units=self.units_settled, late=self.late, at_us=self.resolved_at_us
        )


class _Usage(_End, gc=False):
    """A usage record, as `write_batch` takes it."""

    outcome: Outcome | None
    provider: str
    model: str
    voice: str
    provider_units: int | None


class _Event(Struct, gc=False):
    """An event, and where it goes."""

    subject: str
    event_id: str
    body: HoldEvent | WriteOffEvent | ThresholdCrossed


_BALANCES: Final = msgspec.json.Decoder(list[Account])
_TOPUPS: Final = msgspec.json.Decoder(list[TopUpBalance])
_HOLDS: Final = msgspec.json.Decoder(list[Hold])
_ENDED: Final = msgspec.json.Decoder(list[_Remembered])


def read_book(row: Mapping[str, Any], write_off_us: int) -> Book:
    """What `look_batch` found."""
    accounts = {account.account_id: account for account in _BALANCES.decode(row["balances"] or "[]")}
    for topup in _TOPUPS.decode(row["topups"] or "[]"):
        accounts[topup.account_id].topups.append(topup)
    return Book(
        accounts=accounts,
        holds={hold.hold_id: hold for hold in _HOLDS.decode(row["holds"] or "[]")},
        resolutions={ended.hold_id: ended.resolution() for ended in _ENDED.decode(row["resolutions"] or "[]")},
        write_off_us=write_off_us,
    )


def batch_rows(book: Book, now_us: int) -> dict[str, Any]:
    """For `write_batch`."""
    held = [_hold_event(resolution, now_us) for resolution in book.resolved]
    events = [
        *(_event(_SUBJECTS[resolution.kind], event) for resolution, event in zip(book.resolved, held, strict=True)),
        *(_event(subjects.QUOTA_WRITTEN_OFF, _write_off_event(reversal, now_us)) for reversal in book.reversals),
        *(_event(subjects.QUOTA_THRESHOLD_CROSSED, _threshold_event(crossing, now_us)) for crossing in book.crossings),
    ]
    return {
        "balances": json_rows(list(book.changed.values())),
        "topups": json_rows(list(book.changed_topups.values())),
        "opened": json_rows(list(book.opened.values())),
        "extended": json_rows([hold for hold_id, hold in book.extended.items() if hold_id not in book.opened]),
        "closed": list(book.closed),
        "ended": json_rows([_usage(resolution, event) for resolution, event in zip(book.resolved, held, strict=True)]),
        "entries": json_rows(book.entries),
        "events": json_rows(events),
        "now_us": now_us,
    }


def json_rows(structs: list[Any]) -> str:
    """The JSON array for a statement that takes rows of these."""
    return msgspec.json.encode(structs).decode() if structs else "[]"


def _usage(resolution: Resolution, event: HoldEvent) -> _Usage:
    return _Usage(
        hold_id=event.hold_id,
        kind=resolution.kind,
        late=event.late,
        account_ids=event.accounts,
        units_held=event.units_held,
        units_settled=event.units_settled,
        outcome=event.outcome,
        provider=event.provider,
        model=event.model,
        voice=event.voice,
        provider_units=event.provider_units,
        reserved_at_ms=resolution.hold.reserved_at_ms,
        request_id=event.request_id,
        tenant_id=event.tenant_id,
        key_id=event.key_id,
    )


def _event(subject: str, body: HoldEvent | WriteOffEvent | ThresholdCrossed) -> _Event:
    return _Event(subject=subject, event_id=new_uuid(), body=body)


def _threshold_event(crossing: Crossing, now_us: int) -> ThresholdCrossed:
    return ThresholdCrossed(
        account_id=crossing.account_id,
        tenant_id=crossing.tenant_id,
        percent=crossing.percent,
        used=crossing.used,
        limit=crossing.limit,
        window_ends_at_ms=crossing.window_ends_at_ms,
        at_ms=now_us // 1000,
    )


def _write_off_event(reversal: Reversal, now_us: int) -> WriteOffEvent:
    hold = reversal.hold
    return WriteOffEvent(
        hold_id=hold.hold_id,
        tenant_id=hold.tenant_id,
        key_id=hold.key_id,
        request_id=hold.request_id,
        accounts=hold.account_ids,
        units=reversal.units,
        settled_at_ms=reversal.charged_at_us // 1000,
        at_ms=now_us // 1000,
    )


def _hold_event(resolution: Resolution, now_us: int) -> HoldEvent:
    hold, settle = resolution.hold, resolution.settle
    return HoldEvent(
        hold_id=hold.hold_id,
        tenant_id=hold.tenant_id,
        key_id=hold.key_id,
        request_id=hold.request_id,
        accounts=hold.account_ids,
        units_held=hold.units,
        units_settled=resolution.units,
        at_ms=now_us // 1000,
        outcome=settle.outcome if settle else None,
        provider=settle.provider if settle else "",
        model=settle.model if settle else "",
        voice=settle.voice if settle else "",
        provider_units=settle.provider_units if settle else None,
        late=resolution.late,
    )
