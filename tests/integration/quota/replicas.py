"""The quota service as processes: several replicas on one database and one NATS, to be killed and started again."""

import asyncio
import os
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from odea_local.ports import find_free
from odea_runtime.settings import Settings, load
from support.waiting import until


def environ_of(nats_url: str, dsn: str) -> dict[str, str]:
    """What a replica, or another command of the service, is told."""
    return {
        "PATH": os.environ["PATH"],
        "ODEA_NATS_URL": nats_url,
        "ODEA_DATABASE_URL": dsn,
        "ODEA_DATABASE_POOL_MAX": "5",
        "ODEA_LOG_LEVEL": "warning",
    }


def caller_settings(nats_url: str, *, timeout_s: float) -> Settings:
    """For a `Bus` of the test's own."""
    return load(Settings, {"ODEA_NATS_URL": nats_url, "ODEA_CALL_TIMEOUT_S": str(timeout_s)})


async def run(command: str, environ: dict[str, str]) -> tuple[int | None, str]:
    """Exit status and output of a command of the service that ends by itself."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "odea_quota", command, env=environ, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return process.returncode, output.decode()


class Replica:
    """One process, which may be another one after each start."""

    def __init__(self, environ: dict[str, str], log: Path) -> None:
        self._address = f"127.0.0.1:{find_free()}"
        self._environ = environ | {"ODEA_OPS_ADDRESS": self._address}
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self.ready = False

    async def start(self) -> None:
        """Returns when it answers requests."""
        with self._log.open("ab") as file:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "odea_quota", "serve", env=self._environ, stdout=file, stderr=file
            )
        await until(self._is_ready, within_s=60)
        self.ready = True

    async def kill(self) -> None:
        """End it as `kill -9` does, at whatever line it is."""
        self.ready = False
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def terminate(self) -> None:
        """Ask it to end, as an operator does."""
        assert self._process is not None
        self._process.terminate()

    async def ended(self) -> int:
        """Wait for its end; the exit status."""
        assert self._process is not None
        return await self._process.wait()

    def log(self) -> str:
        """All that it wrote."""
        return self._log.read_text()

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self._log.read_text()
        return await asyncio.to_thread(self._answers)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}/readyz", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        return False


@asynccontextmanager
async def replicas(count: int, environ: dict[str, str], folder: Path) -> AsyncGenerator[list[Replica]]:
    """So many replicas that answer; all are killed at the end."""
    started = [Replica(environ, folder / f"replica-{number}.log") for number in range(count)]
    try:
        await asyncio.gather(*(replica.start() for replica in started))
        yield started
    finally:
        await asyncio.gather(*(replica.kill() for replica in started))
