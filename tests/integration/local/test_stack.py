"""A whole stack: what one command starts stays up, mends itself, and goes without a trace."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from integration.local.stacks import MakeStack, processes_of, wait_until
from odea_local.embedded import EmbeddedStack
from odea_local.status import State
from support.waiting import until

NAMES = ("postgres", "nats", "keys", "quota", "synth", "gateway")


def is_back(stack: EmbeddedStack, name: str, old_pid: int | None) -> Callable[[], bool]:
    def check() -> bool:
        service = stack.service(name)
        return service.state == State.READY and service.pid != old_pid

    return check


def test_all_that_it_says_is_true(shared_stack: EmbeddedStack) -> None:
    status = shared_stack.status()
    assert [service.name for service in status.services] == list(NAMES)
    assert all(service.state == State.READY for service in status.services)
    for service in status.services:
        assert service.pid
        assert psutil.Process(service.pid).ppid() == status.pid


def test_a_second_start_says_how_to_reach_the_first(shared_stack: EmbeddedStack) -> None:
    for arguments in ((), ("--detach",), ("--port", "0")):
        second = shared_stack.run("up", *arguments)
        assert second.returncode == 0
        assert "already running" in second.stdout
        assert shared_stack.url in second.stdout


def test_a_second_start_on_another_port_is_refused(shared_stack: EmbeddedStack) -> None:
    second = shared_stack.run("up", "--port", "1")
    assert second.returncode == 1
    assert one_line(second.stderr).startswith("odea: Odea is already running at")


@pytest.mark.parametrize("name", NAMES)
async def test_a_killed_process_is_back_and_the_others_stay(shared_stack: EmbeddedStack, name: str) -> None:
    before = {service.name: service.pid for service in shared_stack.status().services}
    shared_stack.kill(name)
    await until(is_back(shared_stack, name, before[name]))
    after = {service.name: service.pid for service in shared_stack.status().services}
    assert [other for other in NAMES if before[other] != after[other]] == [name]
    log = (shared_stack.folder.logs / "odea.log").read_text()
    assert f"{name} restarting killed by SIGKILL; starting it again in" in log
    assert f"{name} ready again" in log


def test_no_secret_is_in_an_argument_a_log_or_the_output(shared_stack: EmbeddedStack) -> None:
    secrets = json.loads(shared_stack.folder.credentials.read_bytes()).values()
    secrets = [*secrets, shared_stack.tenant_key, shared_stack.admin_key]
    shown = [shared_stack.run("up").stdout, shared_stack.run("status").stdout, shared_stack.run("logs").stdout]
    texts = [*processes_of(shared_stack), *shown, *(path.read_text() for path in shared_stack.folder.logs.iterdir())]
    assert len(secrets) == 14
    assert not [secret for secret in secrets for text in texts if secret in text]


def test_a_service_is_told_its_own_secrets_alone(shared_stack: EmbeddedStack) -> None:
    secrets = json.loads(shared_stack.folder.credentials.read_bytes())
    told = {
        name: {title for title, secret in secrets.items() if secret in environment_of(shared_stack, name)}
        for name in NAMES
    }
    assert told == {
        "postgres": set(),
        "nats": set(),
        "keys": {"nats_keys", "keys_database", "keys_pepper"},
        "quota": {"nats_quota", "quota_database"},
        "synth": {"nats_synth", "synth_database"},
        "gateway": {"nats_gateway"},
    }


def test_private_files_are_private(shared_stack: EmbeddedStack) -> None:
    folder = shared_stack.folder
    modes = {
        path.name: oct(path.stat().st_mode & 0o777)
        for path in (folder.keys, folder.credentials, folder.keys / "tenant.key", folder.keys / "admin.key")
    }
    assert modes == {"keys": "0o700", "secrets.json": "0o600", "tenant.key": "0o600", "admin.key": "0o600"}


def test_status_can_be_read_by_programs(shared_stack: EmbeddedStack) -> None:
    shown = shared_stack.run("status", "--output", "json")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["state"] == "ready"
    assert "postgres" in shared_stack.run("status").stdout


def test_logs_show_one_service_or_all(shared_stack: EmbeddedStack) -> None:
    assert shared_stack.run("logs", "synth", "-n", "1").stdout == "synth serves\n"
    everything = shared_stack.run("logs").stdout
    assert "gateway  │ gateway serves" in everything
    assert "postgres │ " in everything


def test_say_writes_the_audio_and_tells_the_charge(shared_stack: EmbeddedStack, tmp_path: Path) -> None:
    output = tmp_path / "hello.wav"
    said = shared_stack.run("say", "hello", "-o", str(output))
    assert said.returncode == 0
    assert output.read_text() == "audio of hello as wav"
    assert said.stderr == f"{output} · 5 characters charged\n"
    assert shared_stack.run("say", "hello", "-o", "-").stdout == "audio of hello as mp3"


def test_say_touches_no_file_when_the_audio_breaks_off(shared_stack: EmbeddedStack, tmp_path: Path) -> None:
    # P4: a truncated file must not look like a whole one.
    output = tmp_path / "broken.mp3"
    output.write_text("from before")
    said = shared_stack.run("say", "broken", "-o", str(output))
    assert said.returncode == 1
    assert "broke off" in one_line(said.stderr)
    assert output.read_text() == "from before"
    assert list(tmp_path.iterdir()) == [output]


def test_the_printed_curl_line_works_when_pasted(shared_stack: EmbeddedStack, tmp_path: Path) -> None:
    shown = shared_stack.run("up").stdout
    (curl,) = [line for line in shown.splitlines() if line.startswith("curl ")]
    subprocess.run(curl, shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "hello.mp3").read_text() == "audio of Hello from Odea. as mp3"


def test_down_leaves_nothing_and_up_keeps_everything(make_stack: MakeStack) -> None:
    stack = make_stack("kept")
    assert stack.up().returncode == 0
    tenant, admin, url = stack.tenant_key, stack.admin_key, stack.url
    assert stack.down().returncode == 0
    assert processes_of(stack) == []
    assert "No Odea runs" in stack.down().stdout
    (stack.folder.keys / "admin.key").unlink()
    assert stack.up().returncode == 0
    assert (stack.tenant_key, stack.url) == (tenant, url)
    assert stack.admin_key.startswith("odea_sk_")
    assert stack.admin_key != admin


async def test_a_killed_supervisor_takes_all_with_it_and_the_next_start_works(make_stack: MakeStack) -> None:
    stack = make_stack("orphaned", STANDIN_SYNTH="deaf")
    assert stack.up().returncode == 0
    key = stack.tenant_key
    synth = f"{sys.executable} -P -m odea_synth serve"
    os.kill(stack.status().pid, signal.SIGKILL)
    # All but the one that is deaf, which is left to the next start.
    await until(lambda: processes_of(stack) == [synth], within_s=30)
    stack = make_stack("orphaned")
    assert stack.run("status").returncode == 3
    assert stack.up().returncode == 0
    assert stack.tenant_key == key
    assert len([command for command in processes_of(stack) if command == synth]) == 1


def test_two_stacks_live_side_by_side_and_do_not_touch_each_other(
    shared_stack: EmbeddedStack, make_stack: MakeStack
) -> None:
    before = processes_of(shared_stack)
    other = make_stack("long" * 25)
    assert other.up().returncode == 0
    assert other.url != shared_stack.url
    assert other.tenant_key != shared_stack.tenant_key
    assert other.down().returncode == 0
    assert processes_of(shared_stack) == before


def test_a_taken_port_is_one_clear_line_before_anything_starts(make_stack: MakeStack) -> None:
    stack = make_stack("taken")
    with socket.create_server(("127.0.0.1", 0)) as server:
        failed = stack.up(server.getsockname()[1])
    assert failed.returncode == 1
    assert "is taken by another program. Choose another one with --port." in one_line(failed.stderr)
    assert not stack.folder.postgres.exists()


def test_a_folder_that_holds_no_stack_is_left_alone(make_stack: MakeStack) -> None:
    stack = make_stack("nothing")
    stack.folder.root.mkdir()
    for verb, code in (("down", 0), ("status", 3), ("logs", 1)):
        assert stack.run(verb).returncode == code
    assert list(stack.folder.root.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_one_clear_line(make_stack: MakeStack) -> None:
    stack = make_stack("a file")
    stack.folder.root.touch()
    failed = EmbeddedStack(stack.folder.root / "data").up()
    stack.folder.root.unlink()
    assert failed.returncode == 1
    assert one_line(failed.stderr).startswith("odea: Not a directory")


@pytest.mark.parametrize(
    ("name", "mood", "reason"),
    [
        ("quota", "fail-migration", "quota's migration failed: ended with status 1"),
        ("synth", "config", "synth's migration failed: ended with status 78: ODEA_SOMETHING is wrong"),
        ("gateway", "fail", "gateway did not start: ended with status 1: the stand-in does not want to run"),
    ],
)
def test_a_start_that_fails_half_way_is_one_line_and_leaves_nothing(
    make_stack: MakeStack, name: str, mood: str, reason: str
) -> None:
    stack = make_stack(f"failing {name}", **{f"STANDIN_{name.upper()}": mood})
    failed = stack.up()
    assert failed.returncode == 1
    assert reason in one_line(failed.stderr)
    assert f"{name}.log" in failed.stderr
    assert processes_of(stack) == []


@pytest.mark.parametrize(
    ("detach", "code", "line"), [([], 1, "odea: stopped before it was ready."), (["-d"], 130, "odea: stopped.")]
)
def test_an_interrupted_start_leaves_nothing(make_stack: MakeStack, detach: list[str], code: int, line: str) -> None:
    stack = make_stack("interrupted")
    command = [sys.executable, "-P", "-m", "odea_local", "up", *detach, "--port", "0", "--data", str(stack.folder.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=stack.environ) as up:
        wait_until(lambda: any("postgres -D" in command for command in processes_of(stack)))
        up.send_signal(signal.SIGINT)
        assert up.stderr
        said = up.stderr.read().decode()
    assert (up.returncode, said.strip()) == (code, line)
    assert processes_of(stack) == []


def test_in_the_foreground_a_signal_ends_all_and_a_second_one_at_once(make_stack: MakeStack) -> None:
    stack = make_stack("foreground", STANDIN_KEYS="deaf")
    command = [sys.executable, "-P", "-m", "odea_local", "up", "--port", "0", "--data", str(stack.folder.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=stack.environ, text=True) as up:
        assert up.stdout
        shown = ""
        while "stops everything" not in shown:
            line = up.stdout.readline()
            assert line
            shown += line
        # As when the terminal is closed.
        up.send_signal(signal.SIGHUP)
        while "quota stopped" not in shown:
            shown += up.stdout.readline()
        up.send_signal(signal.SIGINT)
        shown += up.stdout.read()
    assert up.returncode == 0
    assert [line.split()[1] for line in shown.splitlines() if line.endswith("stopped")] == list(reversed(NAMES))
    assert processes_of(stack) == []


def one_line(text: str) -> str:
    """The text without its line end; fails if it is not a single line."""
    (line,) = text.splitlines()
    return line


def environment_of(stack: EmbeddedStack, name: str) -> str:
    pid = stack.service(name).pid
    assert pid
    return "\n".join(psutil.Process(pid).environ().values())
