"""Revoked is revoked (P5): the real keys service and two gateways, under load and with one of them cut off the bus."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
import structlog

from integration.gateway import harness
from integration.gateway.harness import BODY, SPEECH, client_of
from integration.gateway.standins import Standins, standing_in
from integration.keys.harness import Client, calling
from integration.keys.harness import running as keys_running
from integration.keys.harness import settings_for as keys_settings
from integration.runtime.proxy import Proxy, proxied
from odea_contracts import keys, tenants
from odea_contracts.keys import Issued
from odea_gateway.app import Gateway
from support.databases import Databases
from support.servers import NatsServer
from support.waiting import until

CALLERS = 8
WITHIN_S = 1.0


@dataclass
class Stage:
    """Who plays."""

    caller: Client
    near: Gateway
    far: Gateway
    way: Proxy
    """Between the far gateway and the bus."""


@pytest.fixture
async def stage(breakable_nats: NatsServer, databases: Databases) -> AsyncGenerator[Stage]:
    """Keys as it is, a stand-in for speech, and two gateways, one of them behind a proxy."""
    settings = keys_settings(breakable_nats.url, await databases.create("keys"))
    async with (
        speech_only(breakable_nats.url),
        keys_running(settings),
        calling(settings) as caller,
        proxied(breakable_nats.url) as way,
        harness.running(harness.settings_for(breakable_nats.url)) as near,
        harness.running(harness.settings_for(way.url)) as far,
    ):
        yield Stage(caller=caller, near=near, far=far, way=way)


@asynccontextmanager
async def speech_only(nats_url: str) -> AsyncGenerator[Standins]:
    async with standing_in(harness.settings_for(nats_url)) as parts:
        await parts.buses.pop("keys").stop()
        yield parts


@dataclass
class Load:
    """Callers that never rest, and when the requests began that were still let in."""

    let_in: list[float] = field(default_factory=list[float])
    statuses: dict[int, int] = field(default_factory=dict[int, int])
    over: bool = False

    async def call(self, client: httpx.AsyncClient) -> None:
        while not self.over:
            began = time.monotonic()
            status = (await client.post(SPEECH, json=BODY)).status_code
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status == 200:
                self.let_in.append(began)

    def last_let_in(self) -> float:
        return max(self.let_in)


async def speaks(client: httpx.AsyncClient) -> int:
    return (await client.post(SPEECH, json=BODY)).status_code


async def revoke(stage: Stage, issued: Issued) -> None:
    await stage.caller.call(keys.REVOKE, keys.KeyRef(key_id=issued.key.key_id))


@pytest.mark.parametrize("change", ["revoked", "rotated out", "suspended"])
async def test_a_change_reaches_both_gateways_under_load_within_a_second(stage: Stage, change: str) -> None:
    issued = await stage.caller.new_key((await stage.caller.new_tenant()).tenant_id)
    loads = [Load(), Load()]
    async with client_of(stage.near, issued.secret) as near, client_of(stage.far, issued.secret) as far:
        calls = [
            asyncio.create_task(load.call(client))
            for load, client in zip(loads, (near, far), strict=True)
            for _ in range(CALLERS)
        ]
        await until(lambda: all(len(load.let_in) > 10 * CALLERS for load in loads), within_s=20)
        if change == "revoked":
            await revoke(stage, issued)
        elif change == "rotated out":
            await stage.caller.rotate(issued.key.key_id)
        else:
            reference = tenants.TenantRef(tenant_id=issued.key.tenant_id)
            await stage.caller.call(tenants.TENANT_SUSPEND, reference)
        changed = time.monotonic()
        await until(lambda: all(load.statuses.get(401, 0) > CALLERS for load in loads), within_s=20)
        await until(lambda: time.monotonic() > changed + WITHIN_S)
        for load in loads:
            load.over = True
        await asyncio.gather(*calls)
    late_s = max(load.last_let_in() for load in loads) - changed
    structlog.get_logger().info("let in for the last time", after_the_change_s=round(late_s, 4))
    assert late_s < WITHIN_S, "a request that began this late was still let in"
    # Who goes on with a bad key is told to slow down.
    assert {status for load in loads for status in load.statuses} <= {200, 401, 429}


@pytest.mark.parametrize("drop", [False, True], ids=["silent", "broken"])
async def test_a_gateway_cut_off_the_bus_lets_nobody_in_and_learns_what_it_missed(stage: Stage, drop: bool) -> None:
    """P9 while it lasts: 503 in time, whether the connection is known to be gone or not."""
    tenant = await stage.caller.new_tenant()
    issued, other = await stage.caller.new_key(tenant.tenant_id), await stage.caller.new_key(tenant.tenant_id)
    async with (
        client_of(stage.near, issued.secret) as near,
        client_of(stage.far, issued.secret) as far,
        client_of(stage.far, other.secret) as far_other,
    ):
        assert [await speaks(client) for client in (near, far, far_other)] == [200, 200, 200]
        stage.way.cut(drop=drop)
        await revoke(stage, issued)

        async def is_out() -> bool:
            return await speaks(near) == 401

        await until(is_out, within_s=WITHIN_S)
        for client in (far, far_other):
            began = time.monotonic()
            assert await speaks(client) == 503
            assert time.monotonic() - began < 2
        # Longer than a gateway may trust what it remembers.
        healed_not_before = time.monotonic() + WITHIN_S
        await until(lambda: time.monotonic() > healed_not_before)
        stage.way.heal()
        seen: list[int] = []

        async def is_back() -> bool:
            seen.append(await speaks(far))
            return await speaks(far_other) == 200

        await until(is_back, within_s=20)
        seen += [await speaks(far) for _ in range(20)]
    assert seen[-1] == 401
    assert 200 not in seen
