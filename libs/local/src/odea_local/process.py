"""One child process: started so that it cannot outlive us, its output in a bounded log, its end noticed and reaped."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from odea_local.logfile import LogFile

READ_BYTES_MAX = 65_536
DRAIN_WAIT_S = 1.0
KILL_WAIT_S = 10.0
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run. Secrets travel in `environ` or in files, never in `argv`, which every user of a machine can read."""

    argv: tuple[str, ...]
    environ: dict[str, str] = field(repr=False)
    cwd: Path
    user: str = "-"
    """`uid:gid` to run as when we are root; `-` means as we are."""
    stop_signal: signal.Signals = signal.SIGTERM
    """What asks it to end in order; the kernel sends the same when the supervisor dies."""


class Process:
    """A running child in a session of its own, so that a terminal's Ctrl-C reaches it only through us.

    Start it from a thread that lives as long as the child should: on Linux the child gets its stop signal when the
    *thread* that started it ends.
    """

    def __init__(self, command: Command, log: LogFile) -> None:
        self.command = command
        self.log = log
        self.exited: Future[int] = Future()
        self._reaping = threading.Lock()
        self._ended = False
        log.forget()
        self._popen = subprocess.Popen(
            self._wrapped(),
            env=command.environ,
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        _living[self.pid] = self
        threading.Thread(target=self._watch, name=f"watch-{self.pid}", daemon=True).start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing happens if it has ended."""
        with self._reaping:
            if not self._ended:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process and everything in its group at once."""
        with self._reaping:
            if not self._ended:
                self._kill_group()

    def wait(self, timeout_s: float) -> int | None:
        """The exit status, negative for a signal, or nothing if it still runs after the time."""
        try:
            return self.exited.result(timeout_s)
        except TimeoutError:
            return None

    def stop(self, grace_s: float) -> int | None:
        """Ask it to end, wait for the grace, then kill it. Returns the exit status."""
        self.signal(self.command.stop_signal)
        if self.wait(grace_s) is None:
            self.kill()
        return self.wait(KILL_WAIT_S)

    def _wrapped(self) -> list[str]:
        script = str(Path(__file__).with_name("child.py"))
        number = str(int(self.command.stop_signal))
        python = [sys.executable, "-I", "-S", script]
        return [*python, number, str(os.getpid()), self.command.user, "--", *self.command.argv]

    def _watch(self) -> None:
        """Copy the output until the process has ended, then end what is left of its group, then reap it."""
        pump = threading.Thread(target=self._pump, args=(self._popen.stdout,), daemon=True)
        pump.start()
        if hasattr(os, "waitid"):
            # Wait without reaping: until it is reaped its id cannot be given to a stranger, whom we would then kill.
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        else:
            self._popen.wait()
        with self._reaping:
            self._kill_group()
            self._ended = True
            status = self._popen.wait()
            if _living.get(self.pid) is self:
                del _living[self.pid]
        pump.join(DRAIN_WAIT_S)
        self.exited.set_result(status)

    def _pump(self, output: IO[bytes]) -> None:
        with output:
            while chunk := os.read(output.fileno(), READ_BYTES_MAX):
                self.log.write(chunk)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


_living: dict[int, Process] = {}
"""Who reaps which process id; `reap_orphans` keeps off these."""


def adopt_orphans() -> None:
    """Become the parent of what our dying children leave behind (Linux), which else would pile up as zombies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans() -> None:
    """Collect adopted processes that have ended. Call it from the thread that starts processes."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess, ChildProcessError):
            if child.pid not in _living and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)
