"""An upgrade under load, step by step as docs/operations/upgrade.md has it, from the version before to this one.

The version before serves on its own schema, then on today's, then beside today's services; in the end today's have its
place. Nothing fails, and the money adds up. Run by `just upgrade-test`; two minutes, and the repository's history.
"""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import msgspec
import psutil
import pytest

from deploy import older
from deploy.load import Load, speaking
from odea_local.credentials import load_or_create
from odea_local.embedded import EmbeddedStack, embedded_stack
from odea_local.nats import is_healthy
from odea_local.ports import Ports, find_free
from odea_local.recipe import Recipe
from support.lock import SERVICES

OWNERS: Final = ("keys", "quota", "synth")
_REVISION: Final = {
    "keys": "SELECT version_num FROM keys.schema_version",
    "quota": "SELECT version_num FROM quota.schema_version",
    "synth": "SELECT version_num FROM synth.schema_version",
}
SPEECHES: Final = 10
"""That must end well in each step."""
WITHIN_S: Final = 120.0
DRAIN_S: Final = 150
"""For streams in hand, as on Kubernetes: a local stack gives them a few seconds."""


class Upgrade:
    """One stack on its way."""

    def __init__(self, stack: older.OlderStack) -> None:
        self.stack = stack
        self.environs = {name: psutil.Process(stack.service(name).pid or 0).environ() for name in SERVICES}

    def migrate(self) -> dict[str, tuple[str, str]]:
        """Bring the schemas to today's; which they were and are, of those that changed."""
        found: dict[str, tuple[str, str]] = {}
        for service in OWNERS:
            before = self._revision(service)
            _python(f"odea_{service}", "migrate", environ=self.environs[service])
            after = self._revision(service)
            if after != before:
                found[service] = before, after
        return found

    def widen_rights(self) -> None:
        """Give the bus today's users and rights, and make what today's services follow."""
        folder = self.stack.folder
        credentials = load_or_create(folder.credentials)
        Recipe.of(folder, 0, msgspec.json.decode(folder.ports.read_bytes(), type=Ports), credentials).nats.prepare()
        os.kill(self.stack.service("nats").pid or 0, signal.SIGHUP)
        login = {"ODEA_NATS_SEED": credentials.nats_seed("installer")}
        _python("odea_runtime.busadmin", "apply", environ=self.environs["quota"] | login)

    @contextmanager
    def beside(self) -> Generator[str]:
        """Today's services beside those of the version before, in the same queue groups; their gateway's address."""
        port = find_free()
        started: list[subprocess.Popen[bytes]] = []
        try:
            for service in (*OWNERS, "gateway"):
                ops = find_free(avoid=(port,))
                environ = self.environs[service] | {
                    "ODEA_OPS_ADDRESS": f"127.0.0.1:{ops}",
                    "ODEA_GATEWAY_ADDRESS": f"127.0.0.1:{port}",
                    "ODEA_DRAIN_S": str(DRAIN_S),
                }
                with (self.stack.folder.logs / f"{service}-today.log").open("wb") as log:
                    command = [sys.executable, "-P", "-m", f"odea_{service}", "serve"]
                    started.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log))
                _until(lambda ops=ops: is_healthy(ops, "/readyz"), f"today's {service} is not ready")
            yield f"http://127.0.0.1:{port}"
        finally:
            for process in reversed(started):
                process.terminate()
            statuses = [process.wait(2 * DRAIN_S) for process in started]
        assert statuses == [0] * len(SERVICES)

    def _revision(self, service: str) -> str:
        return asyncio.run(_fetch(self.environs[service]["ODEA_DATABASE_URL"], _REVISION[service]))


@pytest.mark.timeout(900)
def test_the_version_before_gives_its_place_to_this_one() -> None:
    revision = older.commit()
    with tempfile.TemporaryDirectory(prefix="odea-upgrade-", ignore_cleanup_errors=True) as folder:
        # The database's own user must get at its program.
        Path(folder).chmod(0o755)
        data = Path(folder) / "data"
        stack = older.OlderStack(older.unpack(revision, Path(folder) / "older"), data, {"ODEA_LOG_FORMAT": "json"})
        try:
            up = stack.up()
            assert up.returncode == 0, up.stderr
            spoken, said = _upgrade(stack)
        finally:
            stack.down()
        with embedded_stack(data, {"ODEA_LOG_FORMAT": "json"}) as today:
            assert _used(today.url, today.tenant_key) == (spoken, 0)
            quota = psutil.Process(today.service("quota").pid or 0).environ()
            _python("odea_quota", "audit", environ=quota)
            load = Load(today.url, today.tenant_key)
            with speaking(load, clients=1, slow_clients=0):
                _until(lambda: len(load.spoken) > 0, "today's version does not speak")
            assert load.failed == []
    print(f"from {revision[:12]}: {said}")  # noqa: T201 - a figure for whoever runs it


def _upgrade(stack: older.OlderStack) -> tuple[int, str]:
    upgrade = Upgrade(stack)
    load = Load(stack.url, stack.tenant_key)
    with speaking(load, clients=2, slow_clients=1):
        _some(load)
        changed = upgrade.migrate()
        assert changed, "no schema has changed since; there is nothing to see"
        _some(load)
        _administer(stack)
        stack.service_run("quota", "audit", environ=upgrade.environs["quota"])
        upgrade.widen_rights()
        with upgrade.beside() as url:
            new = Load(url, load.key)
            with speaking(new, clients=2, slow_clients=1):
                _some(load)
                _some(new)
        _some(load)
    assert load.failed + new.failed == []
    spoken = sum(load.spoken) + sum(new.spoken)
    assert _used(stack.url, load.key) == (spoken, 0)
    steps = ", ".join(f"{name} {before} to {after}" for name, (before, after) in changed.items())
    repeated = load.repeated + new.repeated
    return spoken, f"{steps}; {len(load.spoken) + len(new.spoken)} speeches, {repeated} repeated by the SDK"


def _administer(stack: EmbeddedStack) -> None:
    """Make, change and use what the version before has tables for."""
    with httpx.Client(base_url=stack.url, headers=_bearer(stack.admin_key), timeout=20) as admin:
        tenant = _done(admin.post("/v1/admin/tenants", json={"name": "made between"}))["tenant_id"]
        _until(lambda: admin.get(f"/v1/admin/accounts/{tenant}").status_code == 200, "no account was opened")
        lapses = int(time.time() * 1000) + 86_400_000
        top_up = {"units": 500, "expires_at_ms": lapses}
        _done(admin.post(f"/v1/admin/accounts/{tenant}/topups", json=top_up))
        wanted = {"name": "made between", "scopes": ["speech", "usage:read"]}
        made = _done(admin.post(f"/v1/admin/tenants/{tenant}/keys", json=wanted))
        body = {"model": "tts-1", "voice": "alloy", "input": "Hello.", "response_format": "pcm"}
        with httpx.Client(base_url=stack.url, headers=_bearer(made["secret"]), timeout=60) as client:
            assert client.post("/v1/audio/speech", json=body).status_code == 200
            account = _done(admin.get(f"/v1/admin/accounts/{tenant}"))
            assert account["balance"]["topup_remaining"] == 500 - len("Hello."), "a top-up goes first"
            _done(admin.post(f"/v1/admin/keys/{made['key']['key_id']}/revoke"))
            _until(lambda: client.get("/v1/usage").status_code == 401, "a revoked key still works")


def _some(load: Load) -> None:
    """Wait until more speeches have ended well."""
    before = len(load.spoken)
    _until(lambda: len(load.spoken) - before >= SPEECHES or bool(load.failed), "speech stands still")


def _used(url: str, key: str) -> tuple[int, int]:
    account = _done(httpx.get(f"{url}/v1/usage", headers=_bearer(key), timeout=20))["accounts"][0]
    return account["used"], account["held"]


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _done(answer: httpx.Response) -> Any:
    assert answer.status_code == httpx.codes.OK, answer.text
    return answer.json()


def _until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def _python(module: str, *arguments: str, environ: Mapping[str, str]) -> None:
    command = [sys.executable, "-P", "-m", module, *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


async def _fetch(url: str, query: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(query))
    finally:
        await connection.close()
