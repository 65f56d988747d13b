"""No child outlives its supervisor, none is left behind by another, and none can be blocked or flooded by its log."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from integration.local.stacks import wait_until
from odea_local.logfile import LogFile
from odea_local.process import Command, Process

WAIT_S = 10.0


def command(code: str, tmp_path: Path) -> Command:
    return Command(argv=(sys.executable, "-c", code), environ={}, cwd=tmp_path)


def log(tmp_path: Path, bytes_max: int = 10_000) -> LogFile:
    return LogFile(tmp_path / "child.log", bytes_max)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_dies_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    supervisor = f"""
import sys, time
from pathlib import Path
from odea_local.logfile import LogFile
from odea_local.process import Command, Process
code = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"
log = LogFile(Path({str(tmp_path / "log")!r}))
child = Process(Command(argv=(sys.executable, "-c", code), environ={{}}, cwd=Path({str(tmp_path)!r})), log)
while not log.tail():
    time.sleep(0.02)
print(child.pid, flush=True)
child.exited.result()
"""
    with subprocess.Popen([sys.executable, "-c", supervisor], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        # The child says so when it runs its own code: a death before that is noticed in another way.
        pid = int(process.stdout.readline())
        assert not is_gone(pid)
        process.kill()
    wait_until(lambda: is_gone(pid))


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    written = log(tmp_path)
    process = Process(command(code, tmp_path), written)
    wait_until(lambda: bool(written.tail()))
    grandchild = int(written.tail()[0])
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(WAIT_S) == -signal.SIGKILL
    wait_until(lambda: is_gone(grandchild))


def test_a_deaf_child_is_killed_after_its_grace(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    written = log(tmp_path)
    process = Process(command(code, tmp_path), written)
    wait_until(lambda: bool(written.tail()))
    assert process.stop(grace_s=0.1) == -signal.SIGKILL


def test_a_child_that_floods_its_log_is_neither_blocked_nor_fills_the_disk(tmp_path: Path) -> None:
    written = log(tmp_path, bytes_max=100_000)
    process = Process(command("print('flood ' * 200_000); print('the end')", tmp_path), written)
    assert process.wait(WAIT_S) == 0
    assert written.tail()[-1] == "the end"
    assert sum(path.stat().st_size for path in tmp_path.glob("child.log*")) < 2 * 100_000 + 65_536


def test_a_log_that_cannot_be_written_does_not_block_the_child(tmp_path: Path) -> None:
    written = LogFile(tmp_path / "no such folder" / "child.log")
    process = Process(command("print('x' * 1_000_000)", tmp_path), written)
    assert process.wait(WAIT_S) == 0


def test_a_program_that_cannot_run_says_so_in_one_line(tmp_path: Path) -> None:
    written = log(tmp_path)
    process = Process(Command(argv=("/no/such/program",), environ={}, cwd=tmp_path), written)
    assert process.wait(WAIT_S) == 127
    assert written.tail() == ("cannot run /no/such/program: No such file or directory",)


def test_signals_after_the_end_reach_nobody(tmp_path: Path) -> None:
    process = Process(command("", tmp_path), log(tmp_path))
    assert process.wait(WAIT_S) == 0
    process.signal(signal.SIGTERM)
    process.kill()
    assert process.stop(0.1) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_stop_signal_is_the_commands_own(tmp_path: Path, number: signal.Signals) -> None:
    code = (
        "import signal; [signal.signal(n, lambda n, _: exit(n)) for n in (2, 15)]; print(1, flush=True); signal.pause()"
    )
    written = log(tmp_path)
    asked = Command(argv=(sys.executable, "-c", code), environ={}, cwd=tmp_path, stop_signal=number)
    process = Process(asked, written)
    wait_until(lambda: bool(written.tail()))
    assert process.stop(WAIT_S) == number
