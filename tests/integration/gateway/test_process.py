"""The gateway as operators run it: it drains, says what is wrong, and tells no secrets (P4, P6)."""

import asyncio
import json
import socket
import sys
from asyncio.subprocess import PIPE

import httpx
import pytest

from integration.gateway.harness import BODY, SPEECH, client_at, environment, process, settings_for
from integration.gateway.standins import Standins, digest, head_for, standing_in
from odea_contracts.keys import Scope
from odea_contracts.synth import Speak
from odea_local.ports import find_free
from odea_runtime.streams import OutgoingStream
from support.waiting import until


async def run(env: dict[str, str]) -> tuple[int | None, str]:
    """`python -m odea_gateway serve` to its end; its exit status and what it said."""
    started = await asyncio.create_subprocess_exec(sys.executable, "-m", "odea_gateway", "serve", stderr=PIPE, env=env)
    _, said = await asyncio.wait_for(started.communicate(), 20)
    return started.returncode, said.decode()


async def test_a_drain_ends_what_is_in_hand_and_takes_nothing_new(own_nats_url: str) -> None:
    go_on, ops = asyncio.Event(), f"127.0.0.1:{find_free()}"

    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.audio(b"first")
        await go_on.wait()
        await stream.audio(b"second")
        await stream.tail(6)

    async with standing_in(settings_for(own_nats_url)) as parts, process(own_nats_url, ops_address=ops) as gateway:
        parts.synth.play = play
        key = parts.keys.issue(Scope.SPEECH)
        async with client_at(gateway.address, key) as client, client_at(ops) as operator:
            assert (await operator.get("/readyz")).status_code == 200
            async with client.stream("POST", SPEECH, json=BODY) as answer:
                pieces = answer.aiter_raw()
                heard = await anext(pieces)
                ending = asyncio.create_task(gateway.stop())
                await until(lambda: not_ready(operator))
                assert (await operator.get("/livez")).status_code == 200
                await until(lambda: refuses(gateway.address))
                assert not ending.done()
                go_on.set()
                heard += b"".join([piece async for piece in pieces])
            assert digest(heard) == digest(b"firstsecond")
            assert await asyncio.wait_for(ending, 5) == 0


async def not_ready(operator: httpx.AsyncClient) -> bool:
    """`/readyz` says so."""
    return (await operator.get("/readyz")).status_code == 503


async def refuses(address: str) -> bool:
    """New connections are refused."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_load_balancers_are_told_before_connections_are_refused(own_nats_url: str) -> None:
    ops = f"127.0.0.1:{find_free()}"
    async with (
        standing_in(settings_for(own_nats_url)),
        process(own_nats_url, ops_address=ops, unready_s="1") as gateway,
        client_at(ops) as operator,
    ):
        ending = asyncio.create_task(gateway.stop())
        await until(lambda: not_ready(operator))
        async with client_at(gateway.address) as client:
            assert (await client.get("/")).status_code == 200
        await until(lambda: refuses(gateway.address))
        assert await asyncio.wait_for(ending, 5) == 0


async def test_a_drain_gives_up_in_its_time(own_nats_url: str) -> None:
    async def play(request: Speak, stream: OutgoingStream) -> None:
        await stream.head(head_for(request))
        await stream.audio(b"first")
        await asyncio.Event().wait()

    async with standing_in(settings_for(own_nats_url)) as parts, process(own_nats_url, drain_s="0.5") as gateway:
        parts.synth.play = play
        key = parts.keys.issue(Scope.SPEECH)
        async with client_at(gateway.address, key) as client, client.stream("POST", SPEECH, json=BODY) as answer:
            pieces = answer.aiter_raw()
            assert await anext(pieces) == b"first"
            assert await asyncio.wait_for(gateway.stop(), 8) == 0
            with pytest.raises(httpx.TransportError):
                await anext(pieces)


async def test_idle_connections_do_not_hold_up_the_end(own_nats_url: str) -> None:
    async with (
        standing_in(settings_for(own_nats_url)),
        process(own_nats_url) as gateway,
        client_at(gateway.address) as client,
    ):
        assert (await client.get("/")).status_code == 200
        assert await asyncio.wait_for(gateway.stop(), 5) == 0


@pytest.mark.parametrize("which", ["gateway_address", "ops_address"])
async def test_a_taken_port_is_said_in_one_line(which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = await run(environment("nats://127.0.0.1:1", **{which: address}))
    assert status == 1
    (line,) = said.splitlines()
    told = json.loads(line)
    assert told["level"] == "error"
    assert address in line
    assert "in use" in told["why"]


async def test_two_gateways_do_not_share_a_port(own_nats_url: str) -> None:
    """Each would get some of the other's requests."""
    async with standing_in(settings_for(own_nats_url)), process(own_nats_url) as gateway:
        status, said = await run(environment(own_nats_url, gateway_address=gateway.address))
    assert status == 1
    assert "in use" in said


async def test_unusable_settings_are_said_in_full() -> None:
    env = environment("nats://user:hunter2@127.0.0.1", gateway_address="nowhere", text_chars_max="0")
    status, said = await run(env)
    assert status == 78
    assert "ODEA_GATEWAY_ADDRESS" in said
    assert "ODEA_TEXT_CHARS_MAX" in said
    assert "hunter2" not in said


async def test_the_log_tells_every_request_and_no_secret(own_nats_url: str) -> None:
    """P6: not the key, not the text, not the password of the bus."""
    password = own_nats_url.partition("://")[2].rpartition("@")[0].rpartition(":")[2]
    async with standing_in(settings_for(own_nats_url)) as parts, process(own_nats_url) as gateway:
        key = parts.keys.issue(Scope.SPEECH)
        await _use(gateway.address, key, parts)
        assert await gateway.stop() == 0
        await gateway.reading
    said = json.dumps(gateway.log)
    for secret in (key, key[25:60], "Simsalabim", password):
        assert secret not in said
    requests = [line for line in gateway.log if line["event"] == "request"]
    spoken = next(line for line in requests if line["request_id"] == "spoken-1")
    principal = parts.keys.revoke(key)
    assert (spoken["method"], spoken["route"], spoken["status"]) == ("POST", SPEECH, 200)
    assert (spoken["tenant_id"], spoken["key_id"]) == (principal.tenant_id, principal.key_id)
    refused = next(line for line in requests if line["request_id"] == "refused-1")
    assert (refused["status"], refused["code"]) == (400, "empty_string")
    model = next(line for line in requests if line["request_id"] == "model-1")
    assert model["route"] == "/v1/models/{model_id}"
    assert {line["service"] for line in gateway.log} == {"gateway"}
    assert all(line.get("request_id") for line in requests)


async def _use(address: str, key: str, parts: Standins) -> None:
    """Requests of several kinds, with secrets where they may be and where they must not be."""
    async with client_at(address, key) as client:
        body = {**BODY, "input": "Simsalabim"}
        await client.post(SPEECH, json=body, headers={"x-request-id": "spoken-1"})
        await client.post(SPEECH, json={**body, "input": ""}, headers={"x-request-id": "refused-1"})
        await client.get("/v1/models/Simsalabim", headers={"x-request-id": "model-1"})
        await client.post(SPEECH, json={**body, "voice": key, "model": key})
        await client.get(f"/v1/{key}?key={key}", headers={"x-request-id": key[:100]})
        await parts.stop("synth")
        await client.post(SPEECH, json=body)


async def test_metrics_count_requests_and_name_no_key(own_nats_url: str) -> None:
    ops = f"127.0.0.1:{find_free()}"
    async with standing_in(settings_for(own_nats_url)) as parts, process(own_nats_url, ops_address=ops) as gateway:
        key = parts.keys.issue(Scope.SPEECH)
        async with client_at(gateway.address, key) as client, client_at(ops) as operator:
            await client.post(SPEECH, json=BODY)
            await client.get("/v1/../../etc/passwd")
            await client.request("BREW", "/v1/me")
            told = (await operator.get("/metrics")).text
        principal = parts.keys.revoke(key)
    assert f'odea_http_requests_total{{method="POST",route="{SPEECH}",status="200"}} 1.0' in told
    assert f'odea_http_request_seconds_count{{route="{SPEECH}"}} 1.0' in told
    assert 'odea_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in told
    assert 'odea_http_requests_total{method="other",route="unmatched",status="405"} 1.0' in told
    assert "odea_speech_first_audio_seconds_count 1.0" in told
    assert 'odea_key_cache_total{outcome="asked"} 1.0' in told
    assert principal.key_id not in told
    assert key not in told
