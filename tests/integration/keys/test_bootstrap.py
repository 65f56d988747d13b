"""The first admin key comes from the operator's command, into a file that nobody else may read (P6)."""

import asyncio
import os
import stat
import sys
from pathlib import Path

import asyncpg
import pytest

from integration.keys.harness import OLD_PEPPER, Client
from odea_contracts import audit
from odea_contracts.audit import AuditList, AuditPage
from odea_contracts.keys import Principal, Scope
from odea_contracts.keytext import parse_key
from odea_keys.settings import KeysSettings


async def bootstrap(settings: KeysSettings, **more: str) -> tuple[int, str, str]:
    """The exit status and what was written."""
    environ = {
        "ODEA_NATS_URL": "nats://127.0.0.1:9",
        "ODEA_DATABASE_URL": settings.database_url.get_secret_value(),
        "ODEA_KEYS_PEPPERS": OLD_PEPPER,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "odea_keys", "bootstrap"),
        env=os.environ | environ | more,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    written, told = await process.communicate()
    assert process.returncode is not None
    return process.returncode, written.decode(), told.decode()


@pytest.mark.usefixtures("service")
async def test_a_key_is_written_into_a_file_once(client: Client, settings: KeysSettings, tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    status, written, told = await bootstrap(settings, ODEA_BOOTSTRAP_FILE=str(path))
    assert status == 0, told
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.strip() not in written + told
    principal = await client.verify(text.strip())
    assert isinstance(principal, Principal)
    assert principal.scopes == (Scope.ADMIN,)
    page = await client.call(audit.AUDIT_LIST, AuditList(key_id=principal.key_id))
    assert isinstance(page, AuditPage)
    assert [(entry.actor, entry.origin) for entry in page.entries] == [("operator", "bootstrap")]
    status, _, told = await bootstrap(settings, ODEA_BOOTSTRAP_FILE=str(path))
    assert status == 1
    assert "exists" in told
    assert path.read_text() == text


async def test_a_key_is_written_to_standard_output_for_the_same_tenant(
    settings: KeysSettings, database: asyncpg.Connection
) -> None:
    for _ in range(2):
        status, written, told = await bootstrap(settings, ODEA_BOOTSTRAP_TENANT="house")
        assert status == 0, told
        keys = [line for line in written.splitlines() if parse_key(line)]
        assert len(keys) == 1
        assert keys[0] not in told
    assert await database.fetchval("SELECT count(*) FROM keys.tenants") == 1
    assert await database.fetchval("SELECT count(*) FROM keys.keys") == 2


async def test_no_key_is_made_that_nobody_can_read(
    settings: KeysSettings, database: asyncpg.Connection, tmp_path: Path
) -> None:
    status, _, told = await bootstrap(settings, ODEA_BOOTSTRAP_FILE=str(tmp_path / "missing" / "admin.key"))
    assert status == 1
    assert "Traceback" not in told
    assert await database.fetchval("SELECT count(*) FROM keys.keys") == 0
    path = tmp_path / "admin.key"
    status, _, told = await bootstrap(
        settings, ODEA_BOOTSTRAP_FILE=str(path), ODEA_DATABASE_URL="postgresql://u@127.0.0.1:9/x"
    )
    assert status == 1
    assert not path.exists()
