"""Two audits as one: newest first, nothing twice, nothing left out, however long the pages of either are."""

import random

import pytest

from odea_contracts.audit import AuditAction, AuditDetail, AuditEntry, AuditPage
from odea_gateway.admin.changes import merged


def entry(at_ms: int, actor: str) -> AuditEntry:
    return AuditEntry(
        at_ms=at_ms,
        actor=actor,
        origin="unknown",
        action=AuditAction.UPDATED,
        tenant_id="ten_1",
        key_id=None,
        request_id=None,
        detail=AuditDetail(),
    )


def page(actor: str, *times: int, more: bool = False) -> AuditPage:
    cursors = tuple(f"{actor}{place}" for place in range(len(times) + 1))
    entries = tuple(entry(at_ms, actor) for at_ms in times)
    return AuditPage(entries=entries, next_cursor=cursors[-1] if more else None, cursors=cursors)


def told(entries: list[AuditEntry]) -> list[int]:
    return [each.at_ms for each in entries]


def test_the_newest_of_both_come_first() -> None:
    entries, taken = merged((page("k", 9, 5, 1), page("q", 8, 6, 2)), 4)
    assert (told(entries), taken) == ([9, 8, 6, 5], [2, 2])


def test_one_alone_is_taken_as_it_is() -> None:
    assert merged((page("k"), page("q", 3, 2)), 5)[1] == [0, 2]
    assert merged((page("q", 3, 2),), 1)[1] == [1]
    assert merged((), 1) == ([], [])


def test_behind_a_short_page_that_goes_on_nothing_is_taken() -> None:
    entries, taken = merged((page("k", 9, more=True), page("q", 8, 3)), 4)
    assert (told(entries), taken) == ([9], [1, 0])


def test_an_audit_whose_clock_was_set_back_keeps_its_own_order() -> None:
    entries, _ = merged((page("k", 5, 7, 1), page("q", 6)), 9)
    assert told(entries) == [6, 5, 7, 1]


@pytest.mark.parametrize("seed", range(20))
def test_page_by_page_it_is_the_whole_in_order(seed: int) -> None:
    chance = random.Random(seed)
    left = {name: sorted(chance.sample(range(1000), chance.randrange(12)), reverse=True) for name in "kq"}
    whole = sorted((at_ms for times in left.values() for at_ms in times), reverse=True)
    seen: list[int] = []
    while any(left.values()):
        sizes = {name: chance.randrange(1, 4) for name in left}
        pages = [
            page(name, *times[: sizes[name]], more=len(times) > sizes[name]) for name, times in left.items() if times
        ]
        entries, taken = merged(pages, 3)
        assert entries
        for name, count in zip([name for name, times in left.items() if times], taken, strict=True):
            left[name] = left[name][count:]
        seen += told(entries)
    assert seen == whole
