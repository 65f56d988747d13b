"""What a plan allows: each rule refuses under its own name, is no matter of waiting, and takes nothing."""

from copy import deepcopy
from typing import Any

import pytest
from msgspec.structs import replace

from odea_contracts.quota import Denied, Limit, Reserve, Reserved
from odea_quota.ledger import decide
from unit.quota.samples import NOW_US, account, book, reserve, topup

_RULES: dict[str, Any] = {
    "text_characters_max": 500,
    "models": ("tts-1", "tts-1-hd"),
    "voices": ("alloy",),
    "requests_per_minute": 60,
    "in_flight_max": 3,
}
_ALLOWED = replace(reserve(), characters=500, model="tts-1", voice="alloy")
_REFUSED = [
    (Limit.TEXT, replace(_ALLOWED, characters=501)),
    (Limit.MODEL, replace(_ALLOWED, model="tts-2")),
    (Limit.MODEL, replace(_ALLOWED, model="")),
    (Limit.VOICE, replace(_ALLOWED, voice="echo")),
    (Limit.VOICE, replace(_ALLOWED, voice="Alloy")),
]


@pytest.mark.parametrize(("limit", "command"), _REFUSED)
@pytest.mark.parametrize("which", ["hall", "key"])
def test_each_rule_refuses_under_its_own_name_and_takes_nothing(limit: Limit, command: Reserve, which: str) -> None:
    accounts = {name: account(name, topups=[topup(1, 10, account_id=name)]) for name in ("hall", "key")}
    accounts[which] = account(which, topups=[topup(2, 10, account_id=which)], **_RULES)
    page = book(*accounts.values())
    before = deepcopy(page)
    refused = decide(page, replace(command, accounts=("hall", "key")), NOW_US)
    assert isinstance(refused, Denied)
    assert (refused.limit, refused.account_id, refused.retry_after_ms) == (limit, which, None)
    assert page == before


def test_what_the_plan_names_is_allowed() -> None:
    assert isinstance(decide(book(account(**_RULES)), _ALLOWED, NOW_US), Reserved)


def test_without_rules_everything_is_allowed() -> None:
    command = replace(_ALLOWED, characters=1_000_000, model="", voice="anything")
    assert isinstance(decide(book(account()), command, NOW_US), Reserved)


@pytest.mark.parametrize(("rule", "limit"), [("models", Limit.MODEL), ("voices", Limit.VOICE)])
def test_an_empty_list_allows_nothing(rule: str, limit: Limit) -> None:
    fields: dict[str, Any] = {rule: ()}
    refused = decide(book(account(**fields)), _ALLOWED, NOW_US)
    assert isinstance(refused, Denied)
    assert refused.limit is limit


def test_what_no_waiting_helps_against_is_named_before_the_limits_that_fill() -> None:
    full = account(used=100, in_flight=3, requests_tat_us=NOW_US + 60_000_000, **_RULES)
    refused = decide(book(full), replace(_ALLOWED, voice="echo"), NOW_US)
    assert isinstance(refused, Denied)
    assert refused.limit is Limit.VOICE


def test_a_suspended_account_is_told_so_whatever_else_is_wrong() -> None:
    refused = decide(book(account(suspended=True, **_RULES)), replace(_ALLOWED, voice="echo"), NOW_US)
    assert isinstance(refused, Denied)
    assert refused.limit is Limit.SUSPENDED


def test_a_hold_outlives_a_rule_that_came_later() -> None:
    hall = account()
    page = book(hall)
    decide(page, _ALLOWED, NOW_US)
    hall.models = ()
    assert isinstance(decide(page, _ALLOWED, NOW_US), Reserved), "repeating it gives the first answer"
