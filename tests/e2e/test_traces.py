"""One request is one trace, through every service, the database and the upstream; it tells nothing that it must not."""

import pytest

from e2e.canaries import COLLECTOR_TOKEN, TEXT, Canary
from e2e.console import ADMIN, new_tenant, opened
from odea_contracts import keys, quota
from odea_contracts.subjects import SYNTH_SPEAK
from odea_contracts.synth import HEADER_TRACEPARENT
from support.collector import CollectedSpan, Collector
from support.waiting import until

pytestmark = pytest.mark.timeout(300)

ROOT = "gateway /v1/audio/speech"
SPEAK = (ROOT, f"gateway {SYNTH_SPEAK}", f"synth {SYNTH_SPEAK}")
STEPS = {
    (ROOT, f"gateway {keys.VERIFY.subject}", f"keys {keys.VERIFY.subject}", "keys statement"),
    (*SPEAK, f"synth {quota.RESERVE.subject}", f"quota {quota.RESERVE.subject}", "quota commit", "quota statement"),
    (*SPEAK, f"synth {quota.SETTLE.subject}", f"quota {quota.SETTLE.subject}", "quota commit", "quota statement"),
    (*SPEAK, "synth speech from upstream"),
}
SERVER = 2
FOREIGN = "0af7651916cd43dd8448eb211c80319c"


async def fresh_key(canary: Canary) -> str:
    """One that no gateway remembers."""
    async with canary.client(canary.stack.admin_key) as admin:
        tenant = await new_tenant(admin)
        await opened(admin, tenant["tenant_id"])
        issued = await admin.post(
            f"{ADMIN}/tenants/{tenant['tenant_id']}/keys", json={"name": "t", "scopes": ["speech"]}
        )
    canary.answers.remove(issued)
    return issued.json()["secret"]


def way(span: CollectedSpan, by_id: dict[str, CollectedSpan]) -> tuple[str, ...]:
    """From the root to the span."""
    above = way(by_id[span.parent_id], by_id) if span.parent_id else ()
    name = "statement" if "db.statement" in span.attributes else span.name
    return (*above, f"{span.service} {name}")


async def trace_of(collector: Collector, request_id: str) -> list[CollectedSpan]:
    """All spans of the request's trace, once they have come."""
    found: list[CollectedSpan] = []

    def whole() -> bool:
        spans = collector.spans
        ids = {span.trace_id for span in spans if span.attributes.get("odea.request_id") == request_id}
        found[:] = [span for span in spans if span.trace_id in ids]
        by_id = {span.span_id: span for span in found}
        there = all(not span.parent_id or span.parent_id in by_id for span in found)
        return bool(found) and there and {way(span, by_id) for span in found} >= STEPS

    try:
        await until(whole, within_s=20)
    except TimeoutError:
        pytest.fail(f"the trace is not whole: {[(span.service, span.name) for span in found]}")
    return found


async def test_one_speech_is_one_trace(canary: Canary, collector: Collector) -> None:
    async with canary.client(await fresh_key(canary)) as client:
        body = {"model": "tts-1", "voice": "alloy", "input": TEXT}
        stranger = {HEADER_TRACEPARENT: f"00-{FOREIGN}-b7ad6b7169203331-01"}
        answer = await client.post("/v1/audio/speech", json=body, headers=stranger)
    assert answer.status_code == 200, answer.text
    spans = await trace_of(collector, answer.headers["x-request-id"])
    by_id = {span.span_id: span for span in spans}
    root = next(span for span in spans if not span.parent_id)
    assert len({span.trace_id for span in spans}) == 1
    assert root.trace_id != FOREIGN, "a stranger's word on traces does not count"
    assert root.attributes["http.response.status_code"] == 200
    for span in spans:
        parent = by_id.get(span.parent_id, root)
        assert parent.began_ns <= span.began_ns <= span.ended_ns, "a span began before what it is part of"
    statements = [span for span in spans if "db.statement" in span.attributes]
    assert {span.service for span in statements} >= {"keys", "quota"}
    assert TEXT not in collector.text


async def test_a_failure_is_marked_without_its_words(canary: Canary, collector: Collector) -> None:
    async with canary.client() as client:
        answer = await client.get("/v1/me", headers={"Authorization": "Bearer nobody"})
    request_id = answer.headers["x-request-id"]
    found: list[CollectedSpan] = []

    def come() -> bool:
        found[:] = [span for span in collector.spans if span.attributes.get("odea.request_id") == request_id]
        return bool(found)

    await until(come, within_s=20)
    assert (found[0].name, found[0].attributes["http.response.status_code"]) == ("/v1/me", 401)
    assert "nobody" not in collector.text


async def test_traces_begin_with_requests_alone(collector: Collector) -> None:
    """What runs by itself, such as a look at the outbox, makes none."""
    assert {span.kind for span in collector.spans if not span.parent_id} == {SERVER}
    assert collector.paths == {"/v1/traces"}
    assert collector.authorizations == {f"Bearer {COLLECTOR_TOKEN}"}
