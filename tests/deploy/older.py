"""The version before, as a stack of its own: its code from the repository's history, its packages from its own lock."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Final

from odea_local.embedded import VERB_WITHIN_S, EmbeddedStack
from support.lock import ROOT

_STEPS: Final = "services/*/src/*/migrations/versions/*.sql"
_INSTALL_WITHIN_S: Final = 600.0


def commit() -> str:
    """What to come from: ODEA_UPGRADE_FROM, or else the last commit without the newest migration."""
    named = os.environ.get("ODEA_UPGRADE_FROM")
    if named:
        return _git("rev-parse", f"{named}^{{commit}}").decode().strip()
    newest = _git("log", "-1", "--diff-filter=A", "--format=%H", "--", _STEPS).decode().strip()
    return _git("rev-parse", f"{newest}^").decode().strip()


def unpack(revision: str, folder: Path) -> Path:
    """The repository as it was at a commit; its folder."""
    with tarfile.open(fileobj=BytesIO(_git("archive", "--format=tar", revision))) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            # Python has known filters only since 3.11.4, and the archive is our own.
            archive.extractall(folder)
    # Spares fetching uv once more; another version of it is fetched by itself.
    shutil.copytree(ROOT / ".odea/tools", folder / ".odea/tools", dirs_exist_ok=True)
    return folder


class OlderStack(EmbeddedStack):
    """A stack that is run by another version's `odea`."""

    def __init__(self, code: Path, data_dir: Path, environ: Mapping[str, str]) -> None:
        super().__init__(data_dir, environ)
        self._code = code

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run any verb of that version's command; the first one installs its packages."""
        command = [self._code / "odea", verb, "--data", str(self.folder.root), *arguments]
        within_s = VERB_WITHIN_S + _INSTALL_WITHIN_S
        return subprocess.run(
            command, env=self.environ, cwd=self._code, capture_output=True, text=True, check=False, timeout=within_s
        )

    def service_run(self, service: str, *arguments: str, environ: Mapping[str, str]) -> None:
        """Run a command of one of that version's services, which must succeed."""
        command = [self._code / ".venv/bin/python", "-P", "-m", f"odea_{service}", *arguments]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=False, capture_output=True)
    assert done.returncode == 0, f"git {arguments[0]}: {done.stderr.decode()}; the repository's history is needed"
    return done.stdout
