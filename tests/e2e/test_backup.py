"""A backup of one stack, put into another that is empty: keys work, the books are the same, and they add up.

Events come with it: who follows them is told what it had not heard, and nobody hears twice what was on its way.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import psutil
import pyrage
import pytest

from e2e.console import client_with
from odea_contracts import plans, tenants
from odea_contracts.subjects import INSTALLER, KEYS_ROTATED, STREAM_EVENTS
from odea_local import backup_events, credentials
from odea_local.backup import read, write
from odea_local.embedded import EmbeddedStack, embedded_stack
from odea_local.errors import LocalError
from odea_local.folder import DataFolder
from odea_local.postgres import Postgres
from odea_local.roles import DATABASE
from odea_runtime import snapshots
from odea_runtime.bus import Bus
from odea_runtime.busadmin.nkeys import new_seed
from odea_runtime.settings import Settings, load
from support.operator import Operator, operating
from support.waiting import until

TEXT = "What was spoken before the disaster is charged after it."


def _audit(stack: EmbeddedStack) -> int:
    environ = psutil.Process(stack.service("quota").pid or 0).environ()
    return subprocess.run(
        [sys.executable, "-m", "odea_quota", "audit"], check=False, env=environ, timeout=60
    ).returncode


def _pids(stack: EmbeddedStack) -> set[int | None]:
    return {stack.service(name).pid for name in ("gateway", "keys", "quota", "synth")}


async def _balance(stack: EmbeddedStack, key: str) -> tuple[int, int]:
    async with client_with(stack, key) as client:
        answer = await client.get("/v1/usage")
        assert answer.status_code == httpx.codes.OK, answer.text
        account = answer.json()["accounts"][0]
        return account["used"], account["held"]


class Untold:
    """A moment in which events are under way: quota and keys stand still, and what they have not done yet is seen."""

    def __init__(self, operator: Operator, stack: EmbeddedStack) -> None:
        self._operator = operator
        self._stack = stack
        self.tenants: list[str] = []
        self.told = 0
        """Events of the kind that is written to the outbox by hand."""

    async def arrange(self) -> None:
        """Three tenants whom quota has not heard of; in the outbox an event that the stream has, and one it has not."""
        self._operator.signal("quota", signal.SIGSTOP)
        for name in ("one", "two", "three"):
            made = await self._operator.bus.call(tenants.TENANT_CREATE, tenants.TenantCreate(name=f"untold {name}"))
            assert isinstance(made, tenants.Tenant), made
            self.tenants.append(made.tenant_id)
        connection = await asyncpg.connect(self._operator.database_url("keys"))
        try:
            await until(lambda: _is_empty(connection))
            self._operator.signal("keys", signal.SIGSTOP)
            async with _installing(self._stack) as bus:
                known = next(iter(await snapshots.ids_since(bus, datetime.now(UTC) - timedelta(hours=1))))
                self.told = await _told(bus)
            for event_id in (known, str(uuid.uuid4())):
                await connection.execute(
                    "INSERT INTO keys.outbox (subject, event_id, source, body) VALUES ($1, $2, 'odea/keys', '{}')",
                    KEYS_ROTATED,
                    event_id,
                )
        finally:
            await connection.close()

    async def look(self, restored: EmbeddedStack) -> None:
        """Quota hears of the tenants now, and of the two events the new one is told."""
        async with operating(restored) as operator, _installing(restored) as bus:
            for tenant_id in self.tenants:
                await until(lambda tenant_id=tenant_id: _has_account(operator, tenant_id), within_s=60)
            connection = await asyncpg.connect(operator.database_url("keys"))
            try:
                await until(lambda: _is_empty(connection))
            finally:
                await connection.close()
            assert await _told(bus) == self.told + 1


@pytest.fixture
async def untold(operator: Operator, stack: EmbeddedStack) -> AsyncGenerator[Untold]:
    yield Untold(operator, stack)
    for service in ("keys", "quota"):
        operator.signal(service, signal.SIGCONT)


@pytest.mark.timeout(300)
async def test_a_backup_brings_an_empty_stack_to_where_the_lost_one_was(
    stack: EmbeddedStack, tenant: tuple[tenants.Tenant, str], untold: Untold, tmp_path: Path
) -> None:
    key = tenant[1]
    async with client_with(stack, key) as client:
        request = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
        assert (await client.post("/v1/audio/speech", json=request)).status_code == httpx.codes.OK
    before = await _balance(stack, key)
    assert before == (len(TEXT), 0)
    await untold.arrange()
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "identity.txt").write_text(f"# kept elsewhere\n{identity}\n")
    written = stack.run("backup", "--output", str(tmp_path), "--recipient", str(identity.to_public()))
    assert written.returncode == 0, written.stderr
    events, path = map(Path, written.stdout.split())
    for each in (events, path):
        _look_at(each, tenant[0].tenant_id)
    with tempfile.TemporaryDirectory(prefix="odea-restored-", ignore_cleanup_errors=True) as folder:
        # The Secrets are kept elsewhere and come back first: without the pepper no key would work.
        fresh = DataFolder.at(Path(folder))
        fresh.prepare()
        shutil.copy(stack.folder.credentials, fresh.credentials)
        with embedded_stack(Path(folder), {"ODEA_LOG_FORMAT": "json"}) as restored:
            arguments = ["restore", str(path), "--identity", str(tmp_path / "identity.txt")]
            running = _pids(restored)
            refused = restored.run(*arguments)
            assert refused.returncode == 1
            assert _pids(restored) == running, "whoever is refused disturbs nobody"
            assert "there are tenants or events" in refused.stderr, "the demo's"
            done = restored.run(*arguments, "--replace")
            assert done.returncode == 0, done.stderr
            assert "with the stream of events" in done.stdout
            assert not _pids(restored) & running, "nothing remembers what was there before"
            assert await _balance(restored, key) == before
            await untold.look(restored)
            assert _audit(restored) == 0
    assert _audit(stack) == 0


async def _is_empty(connection: asyncpg.Connection) -> bool:
    return await connection.fetchval("SELECT count(*) FROM keys.outbox") == 0


async def _has_account(operator: Operator, tenant_id: str) -> bool:
    return isinstance(await operator.bus.call(plans.ACCOUNT_GET, plans.AccountRef(account_id=tenant_id)), plans.Account)


@asynccontextmanager
async def _installing(stack: EmbeddedStack) -> AsyncGenerator[Bus]:
    login = {
        "ODEA_NATS_URL": f"nats://{stack.service('nats').address}",
        "ODEA_NATS_SEED": credentials.load_or_create(stack.folder.credentials).nats_seed(INSTALLER),
    }
    bus = Bus(load(Settings, login), INSTALLER)
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


async def _told(bus: Bus) -> int:
    """How many events of one kind the stream has."""
    info = await bus.client.jetstream(timeout=10).stream_info(STREAM_EVENTS, subjects_filter=KEYS_ROTATED)
    return (info.state.subjects or {}).get(KEYS_ROTATED, 0)


def _look_at(path: Path, secret: str) -> None:
    assert path.suffix == ".age"
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret.encode() not in path.read_bytes()
    assert [left.name for left in path.parent.glob(".backup-*")] == []


def test_nobody_else_can_read_it(stack: EmbeddedStack, tmp_path: Path) -> None:
    for_whom, somebody = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    url = "postgresql://nobody@127.0.0.1:9/odea"
    with pytest.raises(LocalError, match="not an age public key"):
        _backup_of(stack, tmp_path, "age1nonsense")
    path = _backup_of(stack, tmp_path, str(for_whom.to_public()))
    (tmp_path / "somebody.txt").write_text(str(somebody))
    with pytest.raises(LocalError, match="was not encrypted for"):
        read(url, path, tmp_path / "somebody.txt", replace=True)
    with pytest.raises(LocalError, match="is encrypted"):
        read(url, path, None, replace=True)


def test_without_the_bus_the_database_is_kept_and_the_loss_is_said(
    stack: EmbeddedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_events, "CONNECT_WITHIN_S", 1.0)
    nowhere = {"ODEA_NATS_URL": "nats://127.0.0.1:9", "ODEA_NATS_SEED": new_seed()}
    with pytest.raises(LocalError, match=r"^the stream of events: .* The database alone is in .*\.dump\.$"):
        write(_database_of(stack), tmp_path, None, nowhere)
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes().startswith(b"PGDMP")


def _backup_of(stack: EmbeddedStack, folder: Path, recipient: str) -> Path:
    (path,) = write(_database_of(stack), folder, recipient)
    return path


def _database_of(stack: EmbeddedStack) -> str:
    kept = credentials.load_or_create(stack.folder.credentials)
    return Postgres.at(stack.folder.postgres, kept.postgres).admin_dsn(DATABASE)
