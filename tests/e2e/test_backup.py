"""A backup of one stack, put into another that is empty: keys work, the books are the same, and they add up."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import psutil
import pyrage
import pytest

from e2e.console import client_with
from odea_contracts import tenants
from odea_local import credentials
from odea_local.backup import read, write
from odea_local.embedded import EmbeddedStack, embedded_stack
from odea_local.errors import LocalError
from odea_local.folder import DataFolder
from odea_local.postgres import Postgres
from odea_local.roles import DATABASE

TEXT = "What was spoken before the disaster is charged after it."


def _audit(stack: EmbeddedStack) -> int:
    environ = psutil.Process(stack.service("quota").pid or 0).environ()
    return subprocess.run(
        [sys.executable, "-m", "odea_quota", "audit"], check=False, env=environ, timeout=60
    ).returncode


async def _balance(stack: EmbeddedStack, key: str) -> tuple[int, int]:
    async with client_with(stack, key) as client:
        answer = await client.get("/v1/usage")
        assert answer.status_code == httpx.codes.OK, answer.text
        account = answer.json()["accounts"][0]
        return account["used"], account["held"]


@pytest.mark.timeout(300)
async def test_a_backup_brings_an_empty_stack_to_where_the_lost_one_was(
    stack: EmbeddedStack, tenant: tuple[tenants.Tenant, str], tmp_path: Path
) -> None:
    key = tenant[1]
    async with client_with(stack, key) as client:
        request = {"model": "tts-1", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
        assert (await client.post("/v1/audio/speech", json=request)).status_code == httpx.codes.OK
    before = await _balance(stack, key)
    assert before == (len(TEXT), 0)
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "identity.txt").write_text(f"# kept elsewhere\n{identity}\n")
    written = stack.run("backup", "--output", str(tmp_path), "--recipient", str(identity.to_public()))
    assert written.returncode == 0, written.stderr
    path = Path(written.stdout.strip())
    _look_at(path, tenant[0].tenant_id)
    with tempfile.TemporaryDirectory(prefix="odea-restored-", ignore_cleanup_errors=True) as folder:
        # The Secrets are kept elsewhere and come back first: without the pepper no key would work.
        fresh = DataFolder.at(Path(folder))
        fresh.prepare()
        shutil.copy(stack.folder.credentials, fresh.credentials)
        with embedded_stack(Path(folder), {"ODEA_LOG_FORMAT": "json"}) as restored:
            arguments = ["restore", str(path), "--identity", str(tmp_path / "identity.txt")]
            refused = restored.run(*arguments)
            assert refused.returncode == 1
            assert "the database has tenants" in refused.stderr, "the demo's"
            done = restored.run(*arguments, "--replace")
            assert done.returncode == 0, done.stderr
            assert await _balance(restored, key) == before
            assert _audit(restored) == 0
    assert _audit(stack) == 0


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


def _backup_of(stack: EmbeddedStack, folder: Path, recipient: str) -> Path:
    data = stack.folder
    kept = credentials.load_or_create(data.credentials)
    return write(Postgres.at(data.postgres, kept.postgres).admin_dsn(DATABASE), folder, recipient)
