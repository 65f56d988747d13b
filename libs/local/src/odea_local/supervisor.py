"""Keeps processes running: starts one, waits until it is ready, starts it again when it dies, and ends it in order."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass

from odea_local.errors import EXIT_CONFIG, StartFailedError
from odea_local.logfile import LogFile
from odea_local.process import KILL_WAIT_S, Command, Process, reap_orphans
from odea_local.status import Event, Journal, State

BACKOFF_S_MIN = 0.2
BACKOFF_S_MAX = 10.0
STEADY_S = 30.0
"""After running this long a process has earned a quick restart again."""
PROBE_PAUSE_S = 0.03
REASON_LENGTH_MAX = 300


def nothing() -> None:
    """Do nothing: the default for a service that leaves nothing to sweep up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What to keep running."""

    name: str
    command: Command
    is_ready: Callable[[Process], bool]
    """Whether this very process does its work; called from a worker thread, must answer within about a second."""
    ready_within_s: float
    grace_s: float
    """How long it may take to end in order before it is killed."""
    sweep: Callable[[], object] = nothing
    """Clears what a killed process left; called before every start and after every kill."""


class Keeper:
    """Keeps one service running from `start` until `stop`."""

    def __init__(self, service: Service, log: LogFile, journal: Journal) -> None:
        self.service = service
        self._log = log
        self._journal = journal
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._restarts = 0

    async def start(self) -> None:
        """Start it and return when it is ready.

        Raises:
            StartFailedError: it ended or was not ready in time.
        """
        began = asyncio.get_running_loop().time()
        process = self._spawn(State.STARTING)
        await self._become_ready(process)
        took_s = max(0.1, asyncio.get_running_loop().time() - began)
        self._tell(State.READY, f"in {took_s:.1f} s", pid=process.pid)
        self._task = asyncio.create_task(self._keep(process), name=f"keep-{self.service.name}")

    async def stop(self, hurry: asyncio.Event) -> None:
        """End it and return when it is gone: in order if it can, by force after its grace or when there is a hurry."""
        if self._task:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._process and not self._process.exited.done():
            self._tell(State.STOPPING)
            self._process.signal(self.service.command.stop_signal)
            await _first(exit_of(self._process), hurry.wait(), timeout_s=self.service.grace_s)
            if not self._process.exited.done():
                await kill(self._process)
                await asyncio.to_thread(self.service.sweep)
        if self._process:
            self._tell(State.STOPPED, pid=None)
            self._process = None

    async def _keep(self, process: Process | None) -> None:
        loop = asyncio.get_running_loop()
        delay_s, began = BACKOFF_S_MIN, loop.time()
        while True:
            reason = await self._end_of(process) if process else "it could not be started"
            if reason is None:
                return
            if loop.time() - began > STEADY_S:
                delay_s = BACKOFF_S_MIN
            self._restarts += 1
            self._tell(State.RESTARTING, f"{reason}; starting it again in {delay_s:.1f} s", pid=None)
            await asyncio.sleep(delay_s)
            delay_s = min(delay_s * 2, BACKOFF_S_MAX)
            began = loop.time()
            process = await self._restart()

    async def _end_of(self, process: Process) -> str | None:
        """Wait for its end and say how it came, or nothing when starting it again would not help."""
        status = await exit_of(process)
        reap_orphans()
        if status != EXIT_CONFIG:
            return self._reason(status)
        self._tell(State.FAILED, f"its settings are wrong: {self._reason(status)}. Its log: {self._log.path}", pid=None)
        return None

    async def _restart(self) -> Process | None:
        try:
            await asyncio.to_thread(self.service.sweep)
            process = self._spawn(State.RESTARTING)
        except OSError:
            # Out of processes, memory or disk: the next try may fare better.
            return None
        try:
            await self._become_ready(process)
        except StartFailedError:
            # If it hangs it must end before the next try; if it has ended already the next round says why.
            await kill(process)
        else:
            self._tell(State.READY, f"again (restart {self._restarts})", pid=process.pid, restarts=self._restarts)
        return process

    def _spawn(self, state: State) -> Process:
        process = self._process = Process(self.service.command, self._log)
        self._tell(state, pid=process.pid, restarts=self._restarts)
        return process

    async def _become_ready(self, process: Process) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.service.ready_within_s
        while not await asyncio.to_thread(self.service.is_ready, process):
            if process.exited.done():
                raise self._failure(self._reason(process.exited.result()))
            if loop.time() > deadline:
                raise self._failure(f"not ready within {self.service.ready_within_s:.0f} s")
            await asyncio.sleep(PROBE_PAUSE_S)

    def _failure(self, reason: str) -> StartFailedError:
        return StartFailedError(f"{self.service.name} did not start: {reason}. Its log: {self._log.path}")

    def _reason(self, status: int) -> str:
        return describe_exit(status, self._log)

    def _tell(self, state: State, text: str = "", **changes: int | None) -> None:
        self._journal.tell(Event(service=self.service.name, state=state, text=text), **changes)


async def run_to_end(name: str, command: Command, log: LogFile, within_s: float) -> None:
    """Run a command that ends by itself. If we are cancelled it is killed, so it must bear that at any point.

    Raises:
        StartFailedError: it failed or took too long.
    """
    process = Process(command, log)
    try:
        async with asyncio.timeout(within_s):
            status = await exit_of(process)
    except TimeoutError:
        raise StartFailedError(f"{name} did not end within {within_s:.0f} s. Its log: {log.path}") from None
    finally:
        if not process.exited.done():
            await kill(process)
    if status != 0:
        raise StartFailedError(f"{name} failed: {describe_exit(status, log)}. Its log: {log.path}")


def describe_exit(status: int, log: LogFile) -> str:
    """How a process ended and the last thing that it said, in one line."""
    if status < 0:
        known = {int(number): number.name for number in signal.Signals}
        return f"killed by {known.get(-status, f'signal {-status}')}"
    last = log.last_words()
    said = f": {last[:REASON_LENGTH_MAX]}".rstrip(". ") if last else ""
    return f"ended with status {status}{said}"


async def exit_of(process: Process) -> int:
    """Wait for the end of a process; being cancelled leaves the process alone."""
    return await asyncio.shield(asyncio.wrap_future(process.exited))


async def kill(process: Process) -> None:
    """End a process and its group by force and wait until it is gone."""
    process.kill()
    with suppress(TimeoutError):
        async with asyncio.timeout(KILL_WAIT_S):
            await exit_of(process)


async def _first(*waits: Coroutine[object, object, object], timeout_s: float) -> None:
    """Return when one of them is done or the time is up."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
