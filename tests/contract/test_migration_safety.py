"""Migrations expand and never contract: the linter reads every step, and a step does not queue before traffic."""

import subprocess
import sysconfig
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from odea_runtime.migrations import migrate
from odea_runtime.settings import DatabaseSettings, load
from support.databases import Databases
from support.lock import ROOT

SQUAWK: Final = Path(sysconfig.get_path("scripts")) / "squawk"
STEPS: Final = sorted(ROOT.glob("services/*/src/*/migrations/versions/*.sql"))


def lint(*paths: Path) -> subprocess.CompletedProcess[str]:
    arguments = ["--config", str(ROOT / ".squawk.toml"), "--reporter", "gcc", *map(str, paths)]
    return subprocess.run([SQUAWK, *arguments], check=False, capture_output=True, text=True, timeout=60)


def test_every_step_only_adds() -> None:
    """Where a finding is meant, the step says so itself: `-- squawk-ignore rule`, with the reason."""
    assert len(STEPS) >= 3
    found = lint(*STEPS)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("step", "rule"),
    [
        ("ALTER TABLE accounts DROP COLUMN plan;", "ban-drop-column"),
        ("DROP TABLE accounts;", "ban-drop-table"),
        ("ALTER TABLE accounts RENAME COLUMN plan TO tariff;", "renaming-column"),
        ("ALTER TABLE accounts ALTER COLUMN plan TYPE bytea;", "changing-column-type"),
        ("ALTER TABLE accounts ADD COLUMN colour text NOT NULL;", "adding-required-field"),
        ("CREATE INDEX accounts_by_plan ON accounts (plan);", "require-concurrent-index-creation"),
    ],
)
def test_a_step_that_would_hurt_is_refused(tmp_path: Path, step: str, rule: str) -> None:
    path = tmp_path / "0099_bad.sql"
    path.write_text(f"{step}\n")
    found = lint(path)
    assert found.returncode != 0
    assert rule in found.stdout


async def test_a_step_gives_up_rather_than_make_traffic_queue_behind_it(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that waits for a table keeps out all who come later; so it waits seconds, and its Job comes back."""
    steps = tmp_path / "odea_probe/migrations/versions"
    steps.mkdir(parents=True)
    (tmp_path / "odea_probe/__init__.py").touch()
    (steps / "0001_probe.sql").write_text("ALTER TABLE quota.plans ADD COLUMN probe text;")
    body = "from odea_runtime.migrations import run_sql\nrevision, down_revision = '0001', None\n"
    (steps / "0001_probe.py").write_text(f"{body}\n\ndef upgrade():\n    run_sql(__file__)\n")
    monkeypatch.syspath_prepend(tmp_path)
    dsn = await databases.create("quota")
    settings = load(DatabaseSettings, {"ODEA_NATS_URL": "nats://unused", "ODEA_DATABASE_URL": dsn})
    reader = await asyncpg.connect(dsn)
    try:
        await reader.execute("DELETE FROM quota.schema_version")
        transaction = reader.transaction()
        await transaction.start()
        await reader.execute("LOCK TABLE quota.plans IN ACCESS SHARE MODE")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await migrate(settings, "odea_probe", "quota")
        await transaction.rollback()
        await migrate(settings, "odea_probe", "quota")
        assert await reader.fetchval("SELECT version_num FROM quota.schema_version") == "0001"
    finally:
        await reader.close()
