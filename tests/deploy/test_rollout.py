"""Every service is replaced while clients speak: nothing fails, no stream is cut, and the money adds up.

Run by `just rollout-test`, after `just images`; a few minutes.
"""

from pathlib import Path

import httpx

from deploy.engine import Engine
from deploy.load import LONG, SLOW_CLIENTS, Load, speaking
from support.lock import SERVICES


def test_every_service_is_replaced_under_load(engine: Engine, url: str, keys: Path) -> None:
    load = Load(url, (keys / "tenant.key").read_text().strip())
    counts: dict[str, int] = {}
    with speaking(load):
        for service in SERVICES:
            before = len(load.spoken)
            (old,) = engine.pods[f"odea-{service}"]
            engine.start(f"Deployment/odea-{service}")
            engine.end(old)
            counts[service] = len(load.spoken) - before
    assert load.failed == []
    assert all(counts.values()), f"speech stood still while one was replaced: {counts}"
    assert load.spoken.count(len(LONG)) >= SLOW_CLIENTS
    used = httpx.get(f"{url}/v1/usage", headers={"Authorization": f"Bearer {load.key}"}).json()["accounts"][0]
    assert (used["used"], used["held"]) == (sum(load.spoken), 0)
    audit = engine.one_off(engine.workload("Deployment/odea-quota"), "audit")
    assert audit.returncode == 0, audit.stderr
    print(f"{len(load.spoken)} speeches, {load.repeated} repeated by the SDK, {counts}")  # noqa: T201 - a figure for whoever runs it
