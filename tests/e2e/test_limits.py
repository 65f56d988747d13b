"""The limits that answers name are the ledger's own, for what is granted and for what is refused."""

import httpx

from odea_contracts import plans
from odea_local.embedded import EmbeddedStack
from support.operator import Operator
from support.waiting import until

SPEECH = {"model": "tts-1", "voice": "alloy", "input": "Ten chars."}
PLAN = plans.PlanSet(name="exact", units=25, requests_per_minute=6, requests_burst=4, in_flight_max=3)


async def test_headers_say_what_the_ledger_says(stack: EmbeddedStack, operator: Operator) -> None:
    owner, key = await operator.new_tenant(PLAN)
    headers = {"Authorization": f"Bearer {key}"}

    async def nothing_held() -> bool:
        return (await operator.balance(owner.tenant_id)).held == 0

    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=30) as client:
        told: list[tuple[int, str | None, str | None]] = []
        answers: list[httpx.Response] = []
        for _ in range(3):
            answers.append(answer := await client.post("/v1/audio/speech", json=SPEECH))
            given = answer.headers
            left, requests = given["x-ratelimit-remaining-characters"], given["x-ratelimit-remaining-requests"]
            told.append((answer.status_code, left, requests))
            assert f'"characters";r={left}' in given["ratelimit"]
            assert f'"requests";r={requests}' in given["ratelimit"]
            assert '"characters";q=25;w=' in given["ratelimit-policy"]
            assert '"concurrent-requests";q=3' in given["ratelimit-policy"]
            await until(nothing_held)
        assert [(status, left) for status, left, _ in told] == [(200, "15"), (200, "5"), (429, "5")]
        # A refusal takes nothing from any limit, and what it tells is where the account stands.
        usage = await client.get("/v1/usage")
        stands = await operator.balance(owner.tenant_id)
    assert usage.headers["x-ratelimit-remaining-characters"] == told[-1][1] == str(stands.remaining)
    assert answers[-1].json()["error"]["code"] == "insufficient_quota"
    assert answers[-1].headers["x-should-retry"] == "false"
