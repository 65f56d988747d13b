"""A crash report tells what failed and where, and no secret (P6): in an own process, to a Sentry of the test's own."""

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from support.sentry import Reports, fake_sentry

SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
CANARIES = {
    "key": "odea_sk_AAAAAAAAAAAA_canarycanary",
    "bus password": "canary-bus-password",
    "database password": "canary-database-password",
    "seed": SEED,
    "shapeless": "canaryWithoutAnyShape",
    "local": "canary-in-a-local-variable",
    "bearer": "canary-bearer",
    "row": "canary-in-a-row",
}
SCRIPT = """
import logging, os, sys
import structlog
from asyncpg.exceptions import PostgresError
from pydantic import SecretStr
from odea_runtime.service import main
from odea_runtime.settings import DatabaseSettings

class HallSettings(DatabaseSettings):
    provider_credential: SecretStr

async def fail(settings, stop):
    local = os.environ["CANARY_LOCAL"]
    structlog.get_logger().info("a breadcrumb", text=os.environ["CANARY_KEY"])
    headers = {"Authorization": "Bearer canary-bearer"}
    structlog.get_logger().error("refused", headers=headers, key=os.environ["CANARY_KEY"])
    logging.getLogger("asyncpg").error("cannot reach %s", settings.database_url.get_secret_value())
    try:
        raise PostgresError.new({"S": "ERROR", "C": "22P02", "M": "invalid input: canary-in-a-row"})
    except PostgresError:
        structlog.get_logger().exception("a row")
    try:
        raise ConnectionError(settings.nats_url.get_secret_value(), settings.nats_seed.get_secret_value())
    except ConnectionError as cause:
        raise RuntimeError("upstream said", {"body": settings.provider_credential.get_secret_value()}) from cause

async def idle(settings, stop):
    print("sentry_sdk" in sys.modules)

main("hall", HallSettings, {"fail": fail, "idle": idle})
"""


@pytest.fixture
def sentry() -> Generator[Reports]:
    with fake_sentry() as reports:
        yield reports


def run(folder: Path, command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    script = folder / "hall.py"
    script.write_text(SCRIPT)
    given = {
        "PATH": os.environ["PATH"],
        "ODEA_NATS_URL": f"nats://odea:{CANARIES['bus password']}@127.0.0.1:4222",
        "ODEA_NATS_SEED": SEED,
        "ODEA_DATABASE_URL": f"postgresql://odea:{CANARIES['database password']}@db/odea",
        "ODEA_PROVIDER_CREDENTIAL": CANARIES["shapeless"],
        "CANARY_LOCAL": CANARIES["local"],
        "CANARY_KEY": CANARIES["key"],
    }
    argv = [sys.executable, str(script), command]
    return subprocess.run(argv, env=given | environ, capture_output=True, text=True, timeout=60, check=False)


def test_a_report_says_what_failed_and_tells_no_secret(tmp_path: Path, sentry: Reports) -> None:
    ended = run(tmp_path, "fail", ODEA_SENTRY_DSN=sentry.dsn)
    assert ended.returncode == 1
    assert len(sentry.bodies) == 4
    for told in (
        "refused",
        "cannot reach",
        "[values]",
        "stopped by a fault",
        "RuntimeError",
        "ConnectionError",
        "hall.py",
        '"fail"',
    ):
        assert told in sentry.text, told
    for name, canary in CANARIES.items():
        assert canary not in sentry.text, name
        assert canary not in ended.stderr + ended.stdout, name
    for part in ('"vars"', '"request"', '"breadcrumbs"', "context_line", "sys.argv", "PATH"):
        assert part not in sentry.text
    assert "sentrypublickey0123" not in ended.stderr


def test_without_a_dsn_nothing_is_loaded_or_sent(tmp_path: Path, sentry: Reports) -> None:
    assert run(tmp_path, "idle").stdout == "False\n"
    assert run(tmp_path, "idle", ODEA_SENTRY_DSN=sentry.dsn).stdout == "True\n"
    assert run(tmp_path, "fail").returncode == 1
    assert sentry.bodies == []


def test_a_dsn_that_is_none_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    ended = run(tmp_path, "fail", ODEA_SENTRY_DSN="canary-not-a-dsn")
    assert ended.returncode == 78
    assert "ODEA_SENTRY_DSN" in ended.stderr
    assert "canary" not in ended.stderr


def test_a_sentry_that_is_away_changes_nothing(tmp_path: Path) -> None:
    ended = run(tmp_path, "fail", ODEA_SENTRY_DSN="http://public0123456@127.0.0.1:9/1")
    assert ended.returncode == 1
    assert "stopped by a fault" in ended.stderr
