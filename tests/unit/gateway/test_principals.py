"""A key is remembered for a short while and forgotten the moment it may be wrong (P5, P10)."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest

from odea_contracts.keys import KeyEvent, Principal, Refusal, Refused, Scope
from odea_contracts.keytext import ParsedKey
from odea_gateway.principals import Principals

NOW_S = 1_800_000_000.0


def key(name: str) -> ParsedKey:
    return ParsedKey(public_id=name, digest=name * 2)


@dataclass
class Asked:
    """Stands for keys: everybody is known unless the name says otherwise."""

    clock_s: float = 1000.0
    counts: Counter[str] = field(default_factory=Counter[str])
    gate: asyncio.Event | None = None
    fault: Exception | None = None
    expires_at_ms: int | None = None

    async def verify(self, asked: ParsedKey) -> Principal | Refused:
        self.counts[asked.public_id] += 1
        if self.gate:
            await self.gate.wait()
        if self.fault:
            raise self.fault
        if asked.public_id.startswith("bad"):
            return Refused(reason=Refusal.UNKNOWN)
        return Principal(
            tenant_id="ten_" + asked.public_id[0],
            key_id="key_" + asked.public_id,
            scopes=(Scope.SPEECH,),
            accounts=("ten_" + asked.public_id[0],),
            expires_at_ms=self.expires_at_ms,
        )

    def cache(self, *, size_max: int = 100, ttl_s: float = 30.0) -> Principals:
        return Principals(
            self.verify,
            size_max=size_max,
            ttl_s=ttl_s,
            clock=lambda: self.clock_s,
            wall_clock=lambda: NOW_S + self.clock_s - 1000.0,
        )


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_a_good_key_is_asked_for_once_in_its_time(asked: Asked) -> None:
    cache = asked.cache()
    first = await cache.find(key("a1"))
    asked.clock_s += 29.9
    assert first is not None
    assert await cache.find(key("a1")) == first
    assert asked.counts["a1"] == 1
    asked.clock_s += 0.2
    await cache.find(key("a1"))
    assert asked.counts["a1"] == 2


async def test_a_bad_key_is_asked_for_once_in_its_time(asked: Asked) -> None:
    cache = asked.cache()
    assert await cache.find(key("bad")) is None
    assert await cache.find(key("bad")) is None
    assert asked.counts["bad"] == 1
    asked.clock_s += 30.1
    assert await cache.find(key("bad")) is None
    assert asked.counts["bad"] == 2


async def test_another_secret_of_the_same_key_is_another_question(asked: Asked) -> None:
    cache = asked.cache()
    await cache.find(ParsedKey(public_id="a1", digest="one"))
    await cache.find(ParsedKey(public_id="a1", digest="two"))
    assert asked.counts["a1"] == 2


async def test_a_key_is_not_remembered_beyond_its_life(asked: Asked) -> None:
    asked.expires_at_ms = int((NOW_S + 5) * 1000)
    cache = asked.cache()
    await cache.find(key("a1"))
    asked.clock_s += 4.9
    await cache.find(key("a1"))
    assert asked.counts["a1"] == 1
    asked.clock_s += 0.2
    await cache.find(key("a1"))
    assert asked.counts["a1"] == 2


async def test_no_more_is_remembered_than_allowed(asked: Asked) -> None:
    cache = asked.cache(size_max=3)
    for name in ("a1", "a2", "a3"):
        await cache.find(key(name))
    await cache.find(key("a1"))
    await cache.find(key("a4"))
    for number in range(50):
        await cache.find(key(f"bad{number}"))
    assert len(cache) == 6
    for name in ("a1", "a3", "a4"):
        await cache.find(key(name))
        assert asked.counts[name] == 1, name
    await cache.find(key("a2"))
    assert asked.counts["a2"] == 2


async def test_a_flood_of_bad_keys_pushes_out_no_good_one(asked: Asked) -> None:
    cache = asked.cache(size_max=10)
    await cache.find(key("a1"))
    for number in range(1000):
        await cache.find(key(f"bad{number}"))
    await cache.find(key("a1"))
    assert asked.counts["a1"] == 1


async def test_a_change_of_a_key_forgets_that_key(asked: Asked) -> None:
    cache = asked.cache()
    for name in ("a1", "a2", "b1"):
        await cache.find(key(name))
    cache.forget(KeyEvent(tenant_id="ten_a", key_id="key_a1"))
    for name in ("a1", "a2", "b1"):
        await cache.find(key(name))
    assert asked.counts == {"a1": 2, "a2": 1, "b1": 1}


async def test_a_change_of_a_tenant_forgets_all_its_keys(asked: Asked) -> None:
    cache = asked.cache()
    for name in ("a1", "a2", "b1"):
        await cache.find(key(name))
    cache.forget(KeyEvent(tenant_id="ten_a"))
    cache.forget(KeyEvent(tenant_id="ten_unheard_of"))
    for name in ("a1", "a2", "b1"):
        await cache.find(key(name))
    assert asked.counts == {"a1": 2, "a2": 2, "b1": 1}


async def test_a_change_forgets_the_refused_since_one_may_be_good_now(asked: Asked) -> None:
    cache = asked.cache()
    await cache.find(key("bad"))
    cache.forget(KeyEvent(tenant_id="ten_z"))
    await cache.find(key("bad"))
    assert asked.counts["bad"] == 2


async def test_after_a_lost_connection_nothing_is_remembered(asked: Asked) -> None:
    cache = asked.cache()
    for name in ("a1", "b1", "bad"):
        await cache.find(key(name))
    cache.forget_all()
    assert len(cache) == 0
    await cache.find(key("a1"))
    assert asked.counts["a1"] == 2


async def test_a_storm_asks_once(asked: Asked) -> None:
    asked.gate = asyncio.Event()
    cache = asked.cache()
    callers = [asyncio.create_task(cache.find(key("a1"))) for _ in range(200)]
    await asyncio.sleep(0)
    asked.gate.set()
    found = await asyncio.gather(*callers)
    assert asked.counts["a1"] == 1
    assert {principal.key_id for principal in found if principal} == {"key_a1"}
    assert all(found)


async def test_a_caller_that_leaves_takes_the_answer_from_nobody(asked: Asked) -> None:
    asked.gate = asyncio.Event()
    cache = asked.cache()
    first = asyncio.create_task(cache.find(key("a1")))
    second = asyncio.create_task(cache.find(key("a1")))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    asked.gate.set()
    assert await second is not None
    assert asked.counts["a1"] == 1


async def test_an_answer_from_before_a_change_is_not_remembered(asked: Asked) -> None:
    """The question was under way when the key was revoked; who asks afterwards gets a new answer."""
    asked.gate = asyncio.Event()
    cache = asked.cache()
    early = asyncio.create_task(cache.find(key("a1")))
    await asyncio.sleep(0)
    cache.forget(KeyEvent(tenant_id="ten_a", key_id="key_a1"))
    late = asyncio.create_task(cache.find(key("a1")))
    await asyncio.sleep(0)
    asked.gate.set()
    await asyncio.gather(early, late)
    assert asked.counts["a1"] == 2
    await cache.find(key("a1"))
    assert asked.counts["a1"] == 2


async def test_an_answer_from_before_a_lost_connection_is_not_remembered(asked: Asked) -> None:
    asked.gate = asyncio.Event()
    cache = asked.cache()
    early = asyncio.create_task(cache.find(key("a1")))
    await asyncio.sleep(0)
    cache.forget_all()
    asked.gate.set()
    await early
    assert len(cache) == 0


async def test_trouble_is_not_remembered_and_reaches_all_who_asked(asked: Asked) -> None:
    asked.gate, asked.fault = asyncio.Event(), ConnectionError("down")
    cache = asked.cache()
    callers = [asyncio.create_task(cache.find(key("a1"))) for _ in range(3)]
    await asyncio.sleep(0)
    asked.gate.set()
    told = await asyncio.gather(*callers, return_exceptions=True)
    assert [str(error) for error in told] == ["down"] * 3
    asked.fault = None
    assert await cache.find(key("a1")) is not None


async def test_without_a_time_to_live_every_request_asks(asked: Asked) -> None:
    cache = asked.cache(ttl_s=0)
    await cache.find(key("a1"))
    await cache.find(key("a1"))
    assert asked.counts["a1"] == 2
