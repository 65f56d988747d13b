"""Marked secrets are put wherever one can be, a stack is driven into trouble, and none of them comes out (P6)."""

from pathlib import Path

import httpx
import pytest

from e2e.canaries import SERVICES, Canary
from odea_contracts.subjects import KEYS_ISSUED, QUOTA_SETTLED
from odea_local.status import State
from support.collector import Collector
from support.sentry import Reports
from support.waiting import until

pytestmark = pytest.mark.timeout(300)


async def test_no_secret_leaves(canary: Canary, reports: Reports, collector: Collector) -> None:
    async with canary.overheard() as told:
        await canary.knock()
        await canary.speak()
        await canary.administer()
        await until(lambda: "CheckViolation" in reports.text, within_s=20)
    measured = await pages(canary)
    await fall_over(canary)
    places = {
        "an answer": "\n".join(f"{answer.headers}\n{answer.text}" for answer in canary.answers),
        "a metric": measured,
        "a log": contents(canary.stack.folder.logs),
        "an event": contents(canary.stack.folder.nats / "jetstream"),
        "what everybody is told": "\n".join(told),
        "a crash report": reports.text,
        "a trace": collector.text,
    }
    assert missing(places) == []
    out = [
        f"{name} in {place}" for place, text in places.items() for name, secret in canary.secrets() if secret in text
    ]
    assert not out, "\n".join(out)


def missing(places: dict[str, str]) -> list[str]:
    """What must be there, or nothing was looked through."""
    wanted = {
        "an answer": ['"tenant_id"', "invalid_api_key", "upstream_error", "internal_error", "audio/mpeg"],
        "a metric": [f"odea_{name}" for name in ("http_requests_total", "bus_handled_total", "synth_")],
        "a log": ['"event":"request"', "handler failed", "it is parked", "Traceback", *SERVICES],
        "an event": [KEYS_ISSUED, QUOTA_SETTLED],
        "what everybody is told": ["tenant_id"],
        "a crash report": ["handler failed", '"frames"', "it is parked"],
        "a trace": ["/v1/audio/speech", "FROM ", "speech from minimax", *SERVICES],
    }
    return [f"{word} in {place}" for place, words in wanted.items() for word in words if word not in places[place]]


async def pages(canary: Canary) -> str:
    """Everything on the operators' ports."""
    texts: list[str] = []
    async with httpx.AsyncClient() as client:
        for name in SERVICES:
            address = canary.environment(name)["ODEA_OPS_ADDRESS"]
            texts += [(await client.get(f"http://{address}{path}")).text for path in ("/metrics", "/readyz", "/livez")]
    return "\n".join(texts)


async def fall_over(canary: Canary) -> None:
    """Everything that a service stands on goes away, and each says so in its own words."""
    for name in ("postgres", "nats", "quota"):
        canary.stack.kill(name)
        async with canary.client(canary.stack.tenant_key) as client:
            for path in ("/v1/me", "/v1/usage", "/v1/models"):
                await client.get(path)
    states = canary.stack.status
    await until(lambda: all(service.state is State.READY for service in states().services), within_s=60)


def contents(folder: Path) -> str:
    return "\n".join(path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file())
