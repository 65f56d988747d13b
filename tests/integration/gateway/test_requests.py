"""The request log over HTTP: a tenant sees its own, an operator everybody's, page by page."""

from typing import Any

import httpx
import pytest

from integration.gateway.harness import client_of, staged
from integration.gateway.standins import Standins
from odea_contracts.keys import Scope
from odea_contracts.requests import LoggedRequest, RequestsList
from odea_gateway.app import Gateway
from odea_runtime.ids import new_uuid

LOG = "/v1/requests"
ADMIN_LOG = "/v1/admin/requests"


def entry(number: int, tenant_id: str = "ten_a") -> LoggedRequest:
    return LoggedRequest(
        id=new_uuid(),
        request_id=f"req_{number}",
        tenant_id=tenant_id,
        key_id="key_1",
        received_at_ms=1_795_500_000_123 - number,
        model="tts-1",
        voice="alloy",
        response_format="mp3",
        provider="minimax",
        outcome="completed",
        code=None,
        attempts=2,
        fallback=True,
        characters=5,
        units_held=9,
        units_settled=6,
        provider_units=7,
        audio_bytes=4711,
        first_audio_ms=150,
        duration_ms=900,
    )


async def test_an_entry_tells_what_became_of_a_request(client: httpx.AsyncClient, standins: Standins) -> None:
    standins.synth.log.append(entry(1))
    answer = await client.get(LOG)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "object": "list",
        "has_more": False,
        "next_cursor": None,
        "data": [
            {
                "id": standins.synth.log[0].id,
                "request_id": "req_1",
                "key_id": "key_1",
                "received_at": 1_795_500_000,
                "model": "tts-1",
                "voice": "alloy",
                "response_format": "mp3",
                "provider": "minimax",
                "outcome": "completed",
                "code": None,
                "attempts": 2,
                "fallback": True,
                "characters": 5,
                "units": 6,
                "audio_bytes": 4711,
                "first_audio_ms": 150,
                "duration_ms": 900,
            }
        ],
    }


async def test_a_tenant_sees_its_own_whatever_it_asks_for(client: httpx.AsyncClient, standins: Standins) -> None:
    """P6."""
    standins.synth.log += [entry(1), entry(2, "ten_b")]
    answer = await client.get(f"{LOG}?tenant_id=ten_b")
    assert [each["request_id"] for each in answer.json()["data"]] == ["req_1"]
    assert standins.synth.looked[-1].tenant_id == "ten_a"


async def test_pages_follow_each_other(client: httpx.AsyncClient, standins: Standins) -> None:
    standins.synth.log += [entry(number) for number in range(7)]
    seen: list[str] = []
    cursor, page = "", dict[str, Any]()
    for _ in range(3):
        page = (await client.get(f"{LOG}?limit=3{cursor}")).json()
        seen += [each["request_id"] for each in page["data"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert seen == [f"req_{number}" for number in range(7)]


async def test_every_filter_reaches_synth(client: httpx.AsyncClient, standins: Standins) -> None:
    cursor = f"1795500000123000_{new_uuid()}"
    standins.synth.log.append(entry(1))
    query = {
        "key_id": "key_1",
        "request_id": "req_1",
        "outcome": "refused",
        "model": "lab/studio",
        "provider": "minimax",
        "since": "1795500000",
        "until": "1795500001",
        "limit": "200",
    }
    assert (await client.get(LOG, params=query)).status_code == 200
    assert standins.synth.looked[-1] == RequestsList(
        tenant_id="ten_a",
        key_id="key_1",
        request_id="req_1",
        outcome="refused",
        model="lab/studio",
        provider="minimax",
        since_ms=1_795_500_000_000,
        until_ms=1_795_500_001_000,
        limit=200,
    )
    assert (await client.get(LOG, params={"cursor": cursor})).status_code != 400


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=many", "limit"),
        ("cursor=yesterday", "cursor"),
        ("cursor=1_1%0a", "cursor"),
        ("since=-1", "since"),
        ("since=soon", "since"),
        ("key_id=a%20b", "key_id"),
        ("request_id=%00", "request_id"),
        ("model=", "model"),
        ("outcome=%00", "outcome"),
    ],
)
async def test_what_does_not_fit_is_refused_by_its_name(
    client: httpx.AsyncClient, standins: Standins, query: str, param: str
) -> None:
    """P7."""
    answer = await client.get(f"{LOG}?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not standins.synth.looked


@pytest.mark.parametrize(("scope", "own", "everybodys"), [(Scope.USAGE_READ, 200, 404), (Scope.ADMIN, 403, 200)])
async def test_who_may_read_what(gateway: Gateway, standins: Standins, scope: Scope, own: int, everybodys: int) -> None:
    key = standins.keys.issue(scope)
    async with client_of(gateway, key) as client:
        assert (await client.get(LOG)).status_code == own
        assert (await client.get(ADMIN_LOG)).status_code == everybodys
    async with client_of(gateway) as stranger:
        assert (await stranger.get(LOG)).status_code == 401
        assert (await stranger.get(ADMIN_LOG)).status_code == 401


async def test_an_operator_sees_everybodys(gateway: Gateway, standins: Standins) -> None:
    standins.synth.log += [entry(1), entry(2, "ten_b")]
    async with client_of(gateway, standins.keys.issue(Scope.ADMIN)) as client:
        everybody = (await client.get(ADMIN_LOG)).json()["data"]
        one = (await client.get(f"{ADMIN_LOG}?tenant_id=ten_b")).json()["data"]
    assert [each["tenant_id"] for each in everybody] == ["ten_a", "ten_b"]
    assert [(each["tenant_id"], each["units_held"], each["provider_units"]) for each in one] == [("ten_b", 9, 7)]


async def test_without_synth_it_is_503(own_nats_url: str) -> None:
    """P9."""
    async with staged(own_nats_url) as (parts, _, client):
        await parts.stop("synth")
        answer = await client.get(LOG)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "synth_unavailable")
