"""What an address decides: who guesses too fast, whose key fits where, and whose word on it counts (P5, P7)."""

import httpx

from integration.gateway.harness import staged
from integration.gateway.standins import Standins, new_key
from odea_contracts.keys import Scope
from odea_gateway.app import Gateway

PROXY = {"trusted_proxies": "127.0.0.1", "auth_failures_per_minute": "3"}


def told(answer: httpx.Response) -> tuple[int, str | None]:
    """The status and the code."""
    return answer.status_code, answer.json()["error"]["code"] if answer.is_error else None


async def ask(client: httpx.AsyncClient, key: str | None, address: str) -> httpx.Response:
    """As a trusted proxy that forwards for `address`."""
    headers = {"x-forwarded-for": address, **({"authorization": f"Bearer {key}"} if key else {"authorization": ""})}
    return await client.get("/v1/me", headers=headers)


async def test_who_fails_too_often_waits_and_others_do_not(own_nats_url: str) -> None:
    async with staged(own_nats_url, **PROXY) as (parts, _, client):
        for _ in range(3):
            assert told(await ask(client, new_key(), "203.0.113.1")) == (401, "invalid_api_key")
        asked = len(parts.keys.asked)
        limited = await ask(client, new_key(), "203.0.113.1")
        assert told(limited) == (429, "rate_limit_exceeded")
        assert 1 <= int(limited.headers["retry-after"]) <= 21
        assert len(parts.keys.asked) == asked, "keys was asked for one that is limited"
        assert told(await ask(client, "no key at all", "203.0.113.1"))[0] == 429
        # Forging an address before the proxy's own word does not help.
        assert told(await ask(client, new_key(), "203.0.113.77, 203.0.113.1"))[0] == 429
        assert told(await ask(client, new_key(), "203.0.113.2")) == (401, "invalid_api_key")
        assert told(await ask(client, None, "203.0.113.1")) == (401, "missing_api_key")


async def test_a_known_key_is_let_in_beside_an_attacker(own_nats_url: str) -> None:
    async with staged(own_nats_url, **PROXY) as (parts, _, client):
        good = parts.keys.issue(Scope.SPEECH)
        assert (await ask(client, good, "203.0.113.9")).status_code == 200
        for _ in range(4):
            await ask(client, new_key(), "203.0.113.9")
        assert (await ask(client, good, "203.0.113.9")).status_code == 200


async def test_a_key_fits_only_its_networks(own_nats_url: str) -> None:
    async with staged(own_nats_url, trusted_proxies="127.0.0.1") as (parts, _, client):
        key = parts.keys.issue(Scope.SPEECH, allowed_cidrs=("203.0.113.0/24", "2001:db8::/32"))
        for address in ("203.0.113.1", "2001:db8::1", "::ffff:203.0.113.9"):
            assert told(await ask(client, key, address)) == (200, None)
        for address in ("198.51.100.1", "2001:db9::1", "203.0.113.1, 198.51.100.1", "nonsense"):
            assert told(await ask(client, key, address)) == (401, "invalid_api_key")


async def test_nobodys_word_counts_unless_it_is_set(gateway: Gateway, standins: Standins) -> None:
    key = standins.keys.issue(Scope.SPEECH, allowed_cidrs=("203.0.113.0/24",))
    local = standins.keys.issue(Scope.SPEECH, allowed_cidrs=("127.0.0.1",))
    async with httpx.AsyncClient(base_url=f"http://{gateway.http.address}", trust_env=False) as client:
        assert told(await ask(client, key, "203.0.113.1")) == (401, "invalid_api_key")
        assert told(await ask(client, local, "203.0.113.1")) == (200, None)


async def test_pages_of_named_origins_may_call(own_nats_url: str) -> None:
    origins = "https://app.example,http://localhost:3000"
    async with staged(own_nats_url, cors_origins=origins, strict_transport_s="31536000") as (_, _gateway, client):
        asking = {"origin": "https://app.example", "access-control-request-method": "POST"}
        wanted = "authorization,content-type,idempotency-key"
        preflight = await client.options(
            "/v1/audio/speech", headers={**asking, "access-control-request-headers": wanted}
        )
        assert preflight.status_code in {200, 204}
        assert preflight.headers["access-control-allow-origin"] == "https://app.example"
        assert "idempotency-key" in preflight.headers["access-control-allow-headers"].lower()
        answer = await client.get("/v1/nothing", headers={"origin": "http://localhost:3000"})
        assert answer.status_code == 404
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()
        assert "access-control-allow-credentials" not in answer.headers
        stranger = await client.get("/v1/me", headers={"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


async def test_no_page_may_call_unless_it_is_set(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/me", headers={"origin": "https://app.example"})
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert "strict-transport-security" not in answer.headers
