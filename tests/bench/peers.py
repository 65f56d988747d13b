"""LiteLLM's proxy on its speech route, from PyPI, in an environment of its own, at the same upstream."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx

from bench.processes import Cost, UpstreamHandle, cost_of
from bench.records import Caller, Wish, request_text
from odea_local.ports import find_free

PACKAGE: Final = "litellm[proxy]"
KEY: Final = "sk-bench"
READY_ID: Final = "litellm-ready.0"
WORKERS: Final = (1, 2)
"""As many as the machine of the report has processors, which is what its maker advises, and one."""
INSTALL_S: Final = 900
READY_WITHIN_S: Final = 300.0
"""Importing it takes a worker half a minute of processor time."""
PEER_NOTES: Final = (
    "In its favour: the number of workers that serves it best, no database, a master key and no keys of users, no"
    " budgets, no log of requests. So it does less than Odea beside it: nobody is metered and nothing is kept."
)
GRACE_S: Final = 15.0
LOG_SHOWN_BYTES: Final = 2000
LOOK_S: Final = 0.5
CONFIG: Final = """
model_list:
  - model_name: tts-1
    litellm_params: {{ model: openai/tts-1, api_base: "{url}/v1", api_key: bench }}
litellm_settings: {{ drop_params: true, set_verbose: false, telemetry: false }}
general_settings: {{ master_key: {key} }}
"""


class Peer:
    """A running proxy."""

    def __init__(self, url: str, pid: int, workers: int) -> None:
        self.url = url
        self.workers = workers
        self._pid = pid

    def callers(self, connections: int) -> tuple[Caller, ...]:
        """Everybody with the one key."""
        return (Caller(tenant_id="litellm", key=KEY, connections=connections),)

    def costs(self) -> dict[str, Cost]:
        """What it has cost so far, all workers together."""
        return {"litellm": cost_of(self._pid)}


def install(home: Path) -> str:
    """Install it here, unless it is here already; returns its version.

    Raises:
        subprocess.SubprocessError: the registry does not give it.
    """
    python = home / "bin" / "python"
    if not python.exists():
        uv = os.environ.get("UV") or shutil.which("uv") or "uv"
        subprocess.run([uv, "venv", "-q", "--python", "3.11", str(home)], check=True, timeout=INSTALL_S)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), PACKAGE], check=True, timeout=INSTALL_S)
    ask = "import importlib.metadata as m; print(m.version('litellm'))"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def litellm(home: Path, folder: Path, upstream: UpstreamHandle, workers: int) -> Generator[Peer]:
    """The proxy for the time of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "litellm.yaml"
    config.write_text(CONFIG.format(url=upstream.url, key=KEY))
    port = find_free()
    where = ("--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    # Its server kills workers that give no sign of life for five seconds, which those do that import side by side on
    # few processors; it then starts them anew, for ever.
    arguments = (*where, "--num_workers", str(workers), "--timeout_worker_healthcheck", str(int(READY_WITHIN_S)))
    # Its own settings for production: no debug output, and no call to the outside for a list of prices.
    known = {"LITELLM_LOG": "ERROR", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | known
    log_path = folder / f"litellm-{workers}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [home / "bin" / "litellm", *arguments],
            env=environ,
            stdout=log,
            stderr=log,
            cwd=folder,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            try:
                _until_ready(url, process)
            except TimeoutError as error:
                said = log_path.read_bytes()[-LOG_SHOWN_BYTES:].decode(errors="replace")
                raise TimeoutError(f"{error}; its log ends with:\n{said}") from None
            yield Peer(url, process.pid, workers)
        finally:
            process.terminate()
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            # Its workers outlive it if it had to be killed.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    asked = {"model": "tts-1", "voice": "alloy", "input": request_text(READY_ID, Wish.OK, 60)}
    headers = {"Authorization": f"Bearer {KEY}"}
    while time.monotonic() < deadline and process.poll() is None:
        try:
            answer = httpx.post(f"{url}/v1/audio/speech", json=asked, headers=headers, timeout=20, trust_env=False)
        except httpx.HTTPError:
            time.sleep(LOOK_S)
            continue
        if answer.status_code == 200:
            return
        time.sleep(LOOK_S)
    raise TimeoutError(f"LiteLLM does not speak; its status is {process.poll()}")
