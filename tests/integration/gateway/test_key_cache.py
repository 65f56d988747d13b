"""Gateways follow what happens to keys, and ask as little as they can (P5)."""

import asyncio
import time

import httpx
import pytest

from integration.gateway.harness import BODY, SPEECH, client_of, staged
from integration.gateway.standins import Standins, new_key
from odea_contracts.keys import KeyEvent, Scope
from odea_gateway.app import Gateway
from support.servers import NatsServer
from support.waiting import until


async def status(client: httpx.AsyncClient) -> int:
    """What a speech with the client's key is answered with."""
    return (await client.post(SPEECH, json=BODY)).status_code


async def answers(client: httpx.AsyncClient, wanted: int) -> bool:
    """Whether a speech with the client's key is answered with this status."""
    return await status(client) == wanted


async def test_a_key_is_asked_for_once(client: httpx.AsyncClient, standins: Standins) -> None:
    assert {await status(client) for _ in range(5)} == {200}
    assert len(standins.keys.asked) == 1


async def test_a_bad_key_is_asked_for_once(gateway: Gateway, standins: Standins) -> None:
    async with client_of(gateway, new_key()) as client:
        assert {await status(client) for _ in range(5)} == {401}
    assert len(standins.keys.asked) == 1


async def test_a_malformed_key_is_not_asked_for(gateway: Gateway, standins: Standins) -> None:
    async with client_of(gateway, new_key()[:-1]) as client:
        assert await status(client) == 401
    assert standins.keys.asked == []


async def test_a_storm_with_one_key_asks_once(gateway: Gateway, standins: Standins) -> None:
    key, gate = standins.keys.issue(Scope.SPEECH), asyncio.Event()

    async def wait() -> None:
        await gate.wait()

    standins.keys.before = wait
    limits = httpx.Limits(max_connections=200)
    transport = httpx.AsyncHTTPTransport(limits=limits)
    base, headers = f"http://{gateway.http.address}", {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url=base, headers=headers, timeout=20) as client:
        storm = [asyncio.create_task(client.get("/v1/me")) for _ in range(200)]
        await until(lambda: gateway.edge.in_hand == len(storm))
        gate.set()
        answers = await asyncio.gather(*storm)
    assert {answer.status_code for answer in answers} == {200}
    assert len(standins.keys.asked) == 1


@pytest.mark.parametrize("whole_tenant", [False, True])
async def test_a_revoked_key_is_out_within_a_second(
    client: httpx.AsyncClient, standins: Standins, key: str, *, whole_tenant: bool
) -> None:
    assert await status(client) == 200
    principal = standins.keys.revoke(key)
    change = KeyEvent(tenant_id=principal.tenant_id)
    if not whole_tenant:
        change = KeyEvent(tenant_id=principal.tenant_id, key_id=principal.key_id)
    began = time.perf_counter()
    await standins.announce(change)
    while await status(client) == 200:
        assert time.perf_counter() - began < 1.0
    assert await status(client) == 401
    assert time.perf_counter() - began < 1.0


async def test_a_key_that_was_refused_is_good_when_keys_say_so(gateway: Gateway, standins: Standins) -> None:
    key = new_key()
    async with client_of(gateway, key) as client:
        assert await status(client) == 401
        standins.keys.issue(Scope.SPEECH, text=key)
        await standins.announce(KeyEvent(tenant_id="ten_a"))
        await until(lambda: answers(client, 200), within_s=1)


async def test_a_change_that_can_not_be_read_forgets_everything(client: httpx.AsyncClient, standins: Standins) -> None:
    assert await status(client) == 200
    await standins.buses["keys"].client.publish("odea.v1.keys.changed", b"\xff{")

    async def asked_again() -> bool:
        return await answers(client, 200) and len(standins.keys.asked) == 2

    await until(asked_again, within_s=1)


async def test_a_key_that_expires_is_asked_for_again(gateway: Gateway, standins: Standins) -> None:
    key = standins.keys.issue(Scope.SPEECH, expires_at_ms=int((time.time() + 0.4) * 1000))
    async with client_of(gateway, key) as client:
        assert await status(client) == 200
        standins.keys.revoke(key)
        assert await status(client) == 200
        await until(lambda: answers(client, 401), within_s=1)


async def test_what_was_revoked_while_the_bus_was_away_stays_out(breakable_nats: NatsServer) -> None:
    """No event of it ever came."""
    async with staged(breakable_nats.url) as (parts, _, client):
        assert await status(client) == 200
        await asyncio.to_thread(breakable_nats.kill)
        parts.keys.known.clear()
        assert await status(client) == 503
        await asyncio.to_thread(breakable_nats.restart)
        seen: set[int] = set()

        async def refused() -> bool:
            seen.add(await status(client))
            return 401 in seen

        await until(refused)
        assert seen <= {401, 503}
