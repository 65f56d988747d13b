"""Clients that nobody here wrote, unchanged, against a whole stack: `just clients`, or the names of some of them.

Each is installed from its registry into a temporary environment of its own and speaks a sentence with Piper. What it
heard must last as long as the sentence does.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from odea_local.embedded import EmbeddedStack, embedded_stack

OUTSIDE: Final = Path(__file__).parent / "outside"
TEXT: Final = "The quick brown fox jumps over the lazy dog, and nobody in the hall says a word."
SECONDS: Final = (3.0, 9.0)
INSTALL_S: Final = 540
SPEAK_S: Final = 240


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client: what is installed, and the script that uses it."""

    package: str
    script: str


CLIENTS: Final[Mapping[str, Client]] = {
    "openai": Client(package="openai", script="openai_python.py"),
    "openai-node": Client(package="openai", script="openai_node.mjs"),
    "livekit": Client(package="livekit-plugins-openai", script="livekit_tts.py"),
    "pipecat": Client(package="pipecat-ai[openai]", script="pipecat_tts.py"),
    "litellm": Client(package="litellm[proxy]", script="litellm_speech.py"),
}


class FailedError(Exception):
    """A client could not be installed, or did not hear what it should."""


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(CLIENTS)))
@click.option("--keep", type=click.Path(path_type=Path), help="Install here, and find it there the next time.")
def main(names: tuple[str, ...], keep: Path | None) -> None:
    """Let them speak, and exit with 1 if one of them fails."""
    failed = False
    with tempfile.TemporaryDirectory(prefix="odea-clients-", ignore_cleanup_errors=True) as folder:
        home = keep or Path(folder)
        with embedded_stack(Path(folder) / "stack") as stack:
            for name in names or tuple(CLIENTS):
                try:
                    told = ", ".join(f"{heard:.2f} s" for heard in _try(CLIENTS[name], home / name, stack))
                except (FailedError, subprocess.SubprocessError) as error:
                    failed, told = True, f"FAILED: {error}"
                click.echo(f"{name:12} {told}")
    sys.exit(1 if failed else 0)


def _try(client: Client, home: Path, stack: EmbeddedStack) -> list[float]:
    """How long each way of speaking lasted."""
    home.mkdir(parents=True, exist_ok=True)
    node = client.script.endswith(".mjs")
    command = _install_node(client, home) if node else _install_python(client, home)
    known = {"ODEA_URL": f"{stack.url}/v1", "ODEA_KEY": stack.tenant_key, "ODEA_TEXT": TEXT}
    out = _run([*command], SPEAK_S, cwd=home, environ=known)
    heard: list[float] = json.loads(out.strip().splitlines()[-1])["seconds"]
    if not all(SECONDS[0] < seconds < SECONDS[1] for seconds in heard):
        raise FailedError(f"it heard {heard} s")
    return heard


def _install_python(client: Client, home: Path) -> list[str]:
    python = home / "bin" / "python"
    if not python.exists():
        uv = os.environ.get("UV") or shutil.which("uv") or "uv"
        _run([uv, "venv", "-q", "--python", "3.11", str(home)], INSTALL_S)
        _run([uv, "pip", "install", "-q", "--python", str(python), client.package], INSTALL_S)
    return [str(python), str(OUTSIDE / client.script)]


def _install_node(client: Client, home: Path) -> list[str]:
    if not (home / "node_modules").exists():
        _run(["npm", "init", "-y"], INSTALL_S, cwd=home)
        _run(["npm", "install", "--no-audit", "--no-fund", client.package], INSTALL_S, cwd=home)
    # Node looks for packages beside the script.
    shutil.copy(OUTSIDE / client.script, home / client.script)
    return ["node", client.script]


def _run(
    command: list[str], timeout_s: float, *, cwd: Path | None = None, environ: Mapping[str, str] | None = None
) -> str:
    ended = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if ended.returncode != 0:
        raise FailedError(f"{Path(command[0]).name}: {(ended.stderr or ended.stdout).strip()[-2000:]}")
    return ended.stdout


main()
