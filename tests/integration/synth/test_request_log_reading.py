"""The request log page by page: each goes on where the last one ended, whatever is written meanwhile; none is dear."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from integration.synth.caller import request
from integration.synth.harness import House
from integration.synth.log_rows import ended, now_ms, open_request_store
from odea_contracts.errors import ErrorCode, Failure
from odea_contracts.requests import REQUESTS_LIST, LoggedRequest, RequestsList, RequestsPage
from odea_synth.request_log import Ended
from odea_synth.store import RequestStore
from support.databases import Databases
from support.scripted import ScriptedProvider, spoken
from support.waiting import until

LOOKED_MAX = 5000


@pytest.fixture(scope="module")
async def dsn(databases: Databases) -> str:
    return await databases.create("synth")


@pytest.fixture
async def store(dsn: str) -> AsyncGenerator[RequestStore]:
    """An empty log."""
    table = await asyncpg.connect(dsn)
    await table.execute("TRUNCATE synth.requests")
    await table.close()
    async with open_request_store(dsn) as opened:
        yield opened


async def read_all(store: RequestStore, *, looked_max: int = LOOKED_MAX, **wanted: object) -> list[LoggedRequest]:
    """Every page, in order."""
    found: list[LoggedRequest] = []
    cursor: str | None = None
    for _ in range(1000):
        page = await store.page(RequestsList(**{**wanted, "cursor": cursor}), looked_max)  # pyright: ignore[reportArgumentType]
        found += page.requests
        cursor = page.next_cursor
        if cursor is None:
            return found
    raise AssertionError("the list does not end")


def at(base_ms: int, count: int, **changes: object) -> list[Ended]:
    """Rows of which several were received in the same millisecond."""
    return [
        ended(received_at_ms=base_ms + number // 3, request_id=f"req_{number}", **changes) for number in range(count)
    ]


async def test_pages_hold_every_row_once_newest_first(store: RequestStore) -> None:
    rows = at(now_ms(), 100)
    await store.write(rows)
    expected = [row.id for row in sorted(rows, key=lambda row: (row.received_at_ms, row.id), reverse=True)]
    for limit in (1, 7, 100, 200):
        assert [found.id for found in await read_all(store, tenant_id="ten_1", limit=limit)] == expected
        assert [found.id for found in await read_all(store, limit=limit)] == expected


async def test_a_page_that_holds_the_last_row_is_the_last(store: RequestStore) -> None:
    await store.write(at(now_ms(), 10))
    assert (await store.page(RequestsList(tenant_id="ten_1", limit=10), LOOKED_MAX)).next_cursor is None
    assert (await store.page(RequestsList(tenant_id="ten_2"), LOOKED_MAX)) == RequestsPage(requests=())


async def test_what_is_written_between_two_pages_moves_nothing(store: RequestStore) -> None:
    base_ms = now_ms()
    rows = at(base_ms, 30)
    await store.write(rows)
    first = await store.page(RequestsList(tenant_id="ten_1", limit=10), LOOKED_MAX)
    await store.write(at(base_ms + 1000, 50))
    rest = await read_all_after(store, first)
    assert sorted(found.id for found in (*first.requests, *rest)) == sorted(row.id for row in rows)


async def read_all_after(store: RequestStore, page: RequestsPage) -> list[LoggedRequest]:
    found: list[LoggedRequest] = []
    while page.next_cursor:
        page = await store.page(RequestsList(tenant_id="ten_1", limit=10, cursor=page.next_cursor), LOOKED_MAX)
        found += page.requests
    return found


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, {"plain", "other_key", "refused", "other_model", "other_provider", "older"}),
        ({"key_id": "key_2"}, {"other_key"}),
        ({"outcome": "refused"}, {"refused"}),
        ({"model": "lab/studio"}, {"other_model"}),
        ({"provider": "minimax"}, {"other_provider"}),
        ({"request_id": "plain"}, {"plain"}),
        ({"request_id": "foreign"}, set[str]()),
        ({"key_id": "key_2", "outcome": "refused"}, set[str]()),
    ],
)
@pytest.mark.parametrize("looked_max", [1, 2, LOOKED_MAX])
async def test_filters_let_through_what_fits_and_a_foreign_row_never(
    store: RequestStore, wanted: dict[str, object], found: set[str], looked_max: int
) -> None:
    """Also where a page looks at so few rows that most of them are empty."""
    await store.write(
        [
            ended(request_id="plain"),
            ended(request_id="other_key", key_id="key_2"),
            ended(request_id="refused", outcome="refused", provider=None, hold_id=None, code="insufficient_quota"),
            ended(request_id="other_model", model="lab/studio"),
            ended(request_id="other_provider", provider="minimax"),
            ended(request_id="older", received_at_ms=now_ms() - 60_000),
            ended(request_id="foreign", tenant_id="ten_2"),
        ]
    )
    read = await read_all(store, looked_max=looked_max, tenant_id="ten_1", **wanted)
    assert sorted(each.request_id for each in read) == sorted(found)


async def test_times_bound_what_is_read(store: RequestStore) -> None:
    base_ms = now_ms()
    await store.write([ended(received_at_ms=base_ms + number, request_id=str(number)) for number in range(5)])
    read = await read_all(store, tenant_id="ten_1", since_ms=base_ms + 1, until_ms=base_ms + 3)
    assert [each.request_id for each in read] == ["2", "1"]
    assert read[0].received_at_ms == base_ms + 2


async def test_a_page_looks_at_no_more_than_it_may(store: RequestStore) -> None:
    """P10: a filter that nothing fits costs as much as any."""
    await store.write(at(now_ms(), 30))
    page = await store.page(RequestsList(tenant_id="ten_1", outcome="refused"), 10)
    assert page.requests == ()
    assert page.next_cursor


async def test_a_refusal_stands_in_the_log_with_its_code(
    house: House, provider: ScriptedProvider, account: str
) -> None:
    asked = request(account, "Too long for this account." * 50)
    unknown = request(account, "Anything.", model="nobody")
    heard = request(account, "This is heard.")
    provider.announce(heard.input, spoken(5))
    assert (await house.refusal(asked)).code is ErrorCode.INSUFFICIENT_QUOTA
    assert (await house.refusal(unknown)).code is ErrorCode.MODEL_NOT_FOUND
    await house.hear(heard)

    async def entries() -> tuple[LoggedRequest, ...]:
        page = await house.bus.call(REQUESTS_LIST, RequestsList(tenant_id=account))
        assert not isinstance(page, Failure)
        return page.requests

    async def are_written() -> bool:
        return len(await entries()) == 3

    await until(are_written)
    by_request = {entry.request_id: entry for entry in await entries()}
    refused = by_request[asked.request_id]
    assert (refused.outcome, refused.code, refused.provider) == ("refused", "insufficient_quota", None)
    assert (refused.attempts, refused.units_held, refused.characters) == (0, 0, len(asked.input))
    assert by_request[unknown.request_id].code == "model_not_found"
    spoken_entry = by_request[heard.request_id]
    assert (spoken_entry.outcome, spoken_entry.code, spoken_entry.units_settled) == ("completed", None, 5)
