"""How a service process ends says why, to whoever started it, and tells no secret (P6)."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECRET = "hunter2-very-secret"
GOOD = {"ODEA_NATS_URL": f"nats://odea:{SECRET}@127.0.0.1:4222"}
SCRIPT = """
import asyncio
import structlog
from odea_runtime.background import running
from odea_runtime.service import main
from odea_runtime.settings import Settings

async def serve(settings, stop):
    structlog.get_logger().info("serving")
    await stop.wait()
    structlog.get_logger().info("drained")

async def migrate(settings, stop):
    structlog.get_logger().info("migrated")

async def fail(settings, stop):
    raise ConnectionError("cannot reach " + settings.nats_url.get_secret_value())

async def break_down():
    raise ConnectionError("the relay broke down")

async def limp(settings, stop):
    async with running(break_down()):
        await stop.wait()

main("hall", Settings, {"serve": serve, "migrate": migrate, "fail": fail, "limp": limp})
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("service") / "hall.py"
    path.write_text(SCRIPT)
    return path


def environment(settings: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ODEA_")}
    return inherited | settings


def run(script: Path, *arguments: str, settings: dict[str, str] = GOOD) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@contextmanager
def running(script: Path) -> Generator["subprocess.Popen[str]"]:
    """The service, from the moment at which it serves."""
    process = subprocess.Popen(
        [sys.executable, str(script), "serve"], env=environment(GOOD), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert json.loads(process.stderr.readline())["event"] == "serving"
        yield process
    finally:
        process.kill()
        process.communicate()


def events(text: str) -> list[str]:
    """What was logged; a line that is not JSON fails."""
    return [json.loads(line)["event"] for line in text.splitlines()]


@pytest.mark.parametrize("arguments", [(), ("dance",), ("serve", "migrate"), ("--help",)])
def test_a_command_that_does_not_exist(script: Path, arguments: tuple[str, ...]) -> None:
    ended = run(script, *arguments, settings={})
    assert ended.returncode == 2
    assert ended.stderr == "usage: python -m odea_hall serve|migrate|fail|limp\n"


def test_settings_that_are_unusable(script: Path) -> None:
    """P6: every fault at once, and no value."""
    settings = {"ODEA_OPS_ADDRESS": SECRET, "ODEA_LOG_LEVEL": SECRET, "ODEA_TASKS_MAX": SECRET}
    ended = run(script, "serve", settings=settings)
    assert ended.returncode == 78
    first, *faults = ended.stderr.splitlines()
    assert first == "odea hall: unusable settings"
    assert sorted(fault.partition(":")[0] for fault in faults) == [
        "ODEA_LOG_LEVEL",
        "ODEA_NATS_URL",
        "ODEA_OPS_ADDRESS",
        "ODEA_TASKS_MAX",
    ]
    assert SECRET not in ended.stdout + ended.stderr


def test_a_fault_is_logged_and_ends_it(script: Path) -> None:
    """P6."""
    ended = run(script, "fail")
    assert ended.returncode == 1
    [line] = [json.loads(text) for text in ended.stderr.splitlines()]
    assert (line["event"], line["level"], line["service"]) == ("stopped by a fault", "error", "hall")
    assert "ConnectionError: cannot reach nats://[redacted]@127.0.0.1:4222" in line["exception"]
    assert SECRET not in ended.stdout + ended.stderr


def test_a_service_whose_work_in_the_background_failed_does_not_limp_on(script: Path) -> None:
    ended = run(script, "limp")
    assert ended.returncode == 1
    assert events(ended.stderr) == ["background work failed; the process ends", "stopped by a fault"]


def test_work_that_is_done_ends_it_well(script: Path) -> None:
    ended = run(script, "migrate")
    assert (ended.returncode, events(ended.stderr)) == (0, ["migrated"])


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(script: Path, sent: signal.Signals) -> None:
    with running(script) as process:
        process.send_signal(sent)
        _, rest = process.communicate(timeout=30)
    assert (process.returncode, events(rest)) == (0, ["drained"])


def test_a_signal_that_is_repeated_changes_nothing(script: Path) -> None:
    with running(script) as process:
        for _ in range(5):
            process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
    assert (process.returncode, events(rest)) == (0, ["drained"])


def test_the_pretty_format_is_text(script: Path) -> None:
    ended = run(script, "migrate", settings=GOOD | {"ODEA_LOG_FORMAT": "pretty"})
    assert ended.returncode == 0
    assert "migrated" in ended.stderr
    with pytest.raises(json.JSONDecodeError):
        events(ended.stderr)
