"""The lists, the caller's account and the document, in the shapes that clients know."""

import httpx
import pytest

from integration.gateway.harness import BODY, SPEECH, client_of, staged
from integration.gateway.standins import Standins, balance, refuse, say
from odea_contracts.errors import ErrorCode
from odea_contracts.keys import Scope
from odea_gateway.app import Gateway


async def test_models_are_listed_as_openai_does(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/models")).json() == {
        "object": "list",
        "data": [
            {"id": "tts-1", "object": "model", "created": 1_700_000_000, "owned_by": "odea"},
            {"id": "lab/studio", "object": "model", "created": 1_700_000_001, "owned_by": "lab"},
        ],
    }


@pytest.mark.parametrize("name", ["tts-1", "lab/studio", "lab%2Fstudio"])
async def test_a_model_is_found_by_its_name(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/v1/models/{name}")
    assert answer.json()["id"] == name.replace("%2F", "/")


@pytest.mark.parametrize("authorised", [True, False])
async def test_the_audio_lists_need_no_key(gateway: Gateway, key: str, *, authorised: bool) -> None:
    async with client_of(gateway, key if authorised else None) as client:
        voices = (await client.get("/v1/audio/voices")).json()
        models = (await client.get("/v1/audio/models")).json()
    assert voices == {"voices": [{"id": "alloy", "name": "Alloy", "language": "en"}, {"id": "joe", "name": "Joe"}]}
    assert models == {"models": [{"id": "tts-1", "name": "tts-1"}, {"id": "lab/studio", "name": "lab/studio"}]}


async def test_voices_of_one_model(gateway: Gateway) -> None:
    async with client_of(gateway) as client:
        assert (await client.get("/v1/audio/voices?model=tts-1")).status_code == 200
        answer = await client.get("/v1/audio/voices?model=nope")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_the_audio_lists_can_be_closed(own_nats_url: str) -> None:
    async with staged(own_nats_url, public_lists="false") as (_, gateway, client):
        for path in ("/v1/audio/voices", "/v1/audio/models"):
            assert (await client.get(path)).status_code == 200
            async with client_of(gateway) as stranger:
                assert (await stranger.get(path)).status_code == 401


@pytest.mark.parametrize("scope", [Scope.USAGE_READ, Scope.SPEECH])
async def test_usage_shows_the_accounts_of_the_key(gateway: Gateway, standins: Standins, scope: Scope) -> None:
    key = standins.keys.issue(scope, tenant_id="ten_usage")
    async with client_of(gateway, key) as client:
        answer = await client.get("/v1/usage")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "tenant_id": "ten_usage",
        "unit": "characters",
        "accounts": [
            {
                "id": "ten_usage",
                "limit": 1000,
                "used": 100,
                "held": 0,
                "remaining": 900,
                "window": "month",
                "resets_at": 3999888000,
                "requests_limit": 60,
                "requests_remaining": 59,
                "in_flight": 0,
                "in_flight_limit": None,
            }
        ],
    }


async def test_me_shows_the_caller(gateway: Gateway, standins: Standins) -> None:
    key = standins.keys.issue(Scope.ADMIN, Scope.SPEECH, tenant_id="ten_me", expires_at_ms=3999888000_000)
    async with client_of(gateway, key) as client:
        told = (await client.get("/v1/me")).json()
    assert told.pop("key_id").startswith("key_")
    assert told == {
        "tenant_id": "ten_me",
        "scopes": ["admin", "speech"],
        "accounts": ["ten_me"],
        "expires_at": 3999888000,
    }


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/"])
async def test_the_root_is_friendly(gateway: Gateway, path: str) -> None:
    async with client_of(gateway) as client:
        assert (await client.get(path)).json()["name"] == "odea"


async def test_the_document_tells_every_operation(gateway: Gateway) -> None:
    async with client_of(gateway) as client:
        document = (await client.get("/schema/openapi.json")).json()
        page = await client.get("/schema")
    told = {(method, path) for path, item in document["paths"].items() for method in item}
    assert {operation for operation in told if not operation[1].startswith("/v1/admin")} == {
        ("post", SPEECH),
        ("get", "/v1/models"),
        ("get", "/v1/models/{model_id}"),
        ("get", "/v1/audio/models"),
        ("get", "/v1/audio/voices"),
        ("get", "/v1/usage"),
        ("get", "/v1/me"),
        ("get", "/v1/requests"),
    }
    assert {("get", "/v1/admin/audit"), ("post", "/v1/admin/tenants")} <= told
    speech = document["paths"][SPEECH]["post"]
    body = speech["requestBody"]["content"]["application/json"]["schema"]
    assert set(BODY) == set(body["required"])
    assert {"audio/mpeg", "text/event-stream"} <= set(speech["responses"]["200"]["content"])
    assert speech["responses"]["429"]["content"]["application/json"]["schema"]["$ref"].endswith("ErrorBody")
    assert page.headers["content-type"].startswith("text/html")
    assert SPEECH in page.text


async def test_options_names_every_method_of_a_path(client: httpx.AsyncClient, standins: Standins) -> None:
    key = standins.keys.issue(Scope.ADMIN)
    answer = await client.options("/v1/admin/tenants", headers={"authorization": f"Bearer {key}"})
    assert set(answer.headers["allow"].split(", ")) == {"GET", "OPTIONS", "POST"}


BUSY = (ErrorCode.RATE_LIMIT_EXCEEDED, ErrorCode.ACCOUNT_SUSPENDED, ErrorCode.QUOTA_UNAVAILABLE)


async def test_the_document_names_every_header_that_comes(client: httpx.AsyncClient, standins: Standins) -> None:
    document = (await client.get("/schema/openapi.json")).json()
    everywhere = {"content-type", "content-length", "transfer-encoding", "date", "server"}
    protection = {"x-content-type-options", "x-frame-options", "referrer-policy", "content-security-policy"}
    speech = document["paths"][SPEECH]["post"]["responses"]
    told = (balance("ten_a"),)
    plays = [refuse(code, retry_after_ms=5, balances=told) for code in (ErrorCode.INSUFFICIENT_QUOTA, *BUSY)]
    asked = [(BODY, say(b"audio", fallback=True)), ({**BODY, "input": ""}, None), *((BODY, play) for play in plays)]
    for body, standins.synth.play in asked:
        answer = await client.post(SPEECH, json=body)
        named = set(speech[str(answer.status_code)]["headers"])
        unnamed = set(answer.headers) - named - everywhere - protection - {"x-accel-buffering"}
        assert unnamed == set(), answer.headers


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/readyz", "/schema/nothing", "/v1/admin/tenants"])
async def test_what_is_not_public_is_not_there(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
