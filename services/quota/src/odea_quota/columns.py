"""Structs to columns: what a batch changed, as the arrays that the set-based statements take."""

from collections import defaultdict
from typing import Any

import msgspec

from odea_contracts import subjects
from odea_contracts.quota import HoldEvent, ThresholdCrossed
from odea_contracts.writeoffs import WriteOffEvent
from odea_quota.accounts import Account, TopUpBalance
from odea_quota.book import Crossing, Entry, Hold, Kind, Resolution, Reversal
from odea_runtime.ids import new_uuid

_SUBJECTS = {
    Kind.SETTLED: subjects.QUOTA_SETTLED,
    Kind.RELEASED: subjects.QUOTA_RELEASED,
    Kind.EXPIRED: subjects.QUOTA_EXPIRED,
}


def balance_columns(accounts: list[Account]) -> dict[str, list[Any]]:
    """Of `write_batch`, for balances."""
    return {
        "account_ids": [account.account_id for account in accounts],
        "used": [account.used for account in accounts],
        "held": [account.held for account in accounts],
        "in_flight": [account.in_flight for account in accounts],
        "requests_tat_us": [account.requests_tat_us for account in accounts],
        "crossed_percent": [account.crossed_percent for account in accounts],
        "window_started_at_ms": [account.window_started_at_ms for account in accounts],
        "window_ends_at_ms": [account.window_ends_at_ms for account in accounts],
    }


def topup_columns(topups: list[TopUpBalance]) -> dict[str, list[Any]]:
    """For `write_topups`."""
    return {
        "topup_ids": [topup.topup_id for topup in topups],
        "units_left": [topup.units_left for topup in topups],
        "units_held": [topup.units_held for topup in topups],
    }


def hold_columns(holds: list[Hold]) -> dict[str, list[Any]]:
    """Of `write_batch`, for holds that it opened."""
    return {
        "hold_ids": [hold.hold_id for hold in holds],
        "accounts": [",".join(hold.account_ids) for hold in holds],
        "units": [hold.units for hold in holds],
        "topups": topups_column(holds),
        "lease_ends_at_ms": [hold.lease_ends_at_ms for hold in holds],
        "reserved_at_ms": [hold.reserved_at_ms for hold in holds],
        "request_ids": [hold.request_id for hold in holds],
        "tenant_ids": [hold.tenant_id for hold in holds],
        "key_ids": [hold.key_id for hold in holds],
    }


def topups_column(holds: list[Hold]) -> list[str | None]:
    """What each hold has from which top-up, as JSON."""
    return [msgspec.json.encode(hold.topups).decode() if hold.topups else None for hold in holds]


def entry_columns(entries: list[Entry]) -> dict[str, list[Any]]:
    """Of `record_batch` and `write_entries`."""
    return {
        "cause_ids": [entry.cause_id for entry in entries],
        "debits": [entry.debit for entry in entries],
        "credits": [entry.credit for entry in entries],
        "entry_units": [entry.units for entry in entries],
    }


def usage_columns(resolved: list[Resolution]) -> dict[str, list[Any]]:
    """Of `record_batch`, for the days' usage: one element for each tenant and key, since it may touch a row once."""
    totals: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for resolution in resolved:
        if resolution.kind is Kind.SETTLED:
            total = totals[resolution.hold.tenant_id, resolution.hold.key_id]
            total[0] += resolution.units
            total[1] += 1
    return {
        "usage_tenant_ids": [tenant_id for tenant_id, _ in totals],
        "usage_key_ids": [key_id for _, key_id in totals],
        "usage_units": [units for units, _ in totals.values()],
        "usage_requests": [requests for _, requests in totals.values()],
    }


def resolution_columns(resolved: list[Resolution], now_us: int) -> dict[str, list[Any]]:
    """Of `record_batch`, for usage records and their events."""
    holds = [resolution.hold for resolution in resolved]
    events = [_hold_event(resolution, now_us) for resolution in resolved]
    return {
        "hold_ids": [hold.hold_id for hold in holds],
        "kinds": [resolution.kind.value for resolution in resolved],
        "late": [resolution.late for resolution in resolved],
        "accounts": [",".join(hold.account_ids) for hold in holds],
        "units_held": [hold.units for hold in holds],
        "units_settled": [resolution.units for resolution in resolved],
        "outcomes": [event.outcome for event in events],
        "providers": [event.provider for event in events],
        "models": [event.model for event in events],
        "voices": [event.voice for event in events],
        "provider_units": [event.provider_units for event in events],
        "reserved_at_ms": [hold.reserved_at_ms for hold in holds],
        "request_ids": [hold.request_id for hold in holds],
        "tenant_ids": [hold.tenant_id for hold in holds],
        "key_ids": [hold.key_id for hold in holds],
        "subjects": [_SUBJECTS[resolution.kind] for resolution in resolved],
        "event_ids": [new_uuid() for _ in resolved],
        "bodies": [msgspec.json.encode(event) for event in events],
    }


def reversal_columns(reversals: list[Reversal], now_us: int) -> dict[str, list[Any]]:
    """For `write_reversals`, which takes them from the days' usage and writes an event for each as well."""
    holds = [reversal.hold for reversal in reversals]
    return {
        "hold_ids": [hold.hold_id for hold in holds],
        "charged_at_us": [reversal.charged_at_us for reversal in reversals],
        "accounts": [",".join(hold.account_ids) for hold in holds],
        "units": [reversal.units for reversal in reversals],
        "request_ids": [hold.request_id for hold in holds],
        "tenant_ids": [hold.tenant_id for hold in holds],
        "key_ids": [hold.key_id for hold in holds],
        "subjects": [subjects.QUOTA_WRITTEN_OFF for _ in reversals],
        "event_ids": [new_uuid() for _ in reversals],
        "bodies": [msgspec.json.encode(_write_off_event(reversal, now_us)) for reversal in reversals],
    }


def crossing_columns(crossings: list[Crossing], now_us: int) -> dict[str, list[Any]]:
    """For `write_events`."""
    return {
        "subjects": [subjects.QUOTA_THRESHOLD_CROSSED for _ in crossings],
        "event_ids": [new_uuid() for _ in crossings],
        "bodies": [msgspec.json.encode(_threshold_event(crossing, now_us)) for crossing in crossings],
    }


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
