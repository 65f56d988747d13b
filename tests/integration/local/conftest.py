"""Stacks whose servers are real and whose four services are quick stand-ins."""

import shutil
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from integration.local.stacks import MakeStack
from odea_local.embedded import EmbeddedStack, embedded_stack

SERVICES = ("gateway", "keys", "quota", "synth")


@pytest.fixture(scope="session")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which `python -m odea_keys` and its sisters are the stand-ins."""
    folder = tmp_path_factory.mktemp("standins")
    for name in SERVICES:
        package = folder / f"odea_{name}"
        package.mkdir()
        (package / "__init__.py").touch()
        shutil.copy(Path(__file__).with_name("standin.py"), package / "__main__.py")
    return {"PYTHONPATH": f"{folder}:{Path(__file__).parents[2]}"}


@pytest.fixture(scope="session")
def searchable() -> Generator[Path]:
    """A folder that other users may search, unlike pytest's own: run as root, the database is another user."""
    folder = Path(tempfile.mkdtemp(prefix="odea-tests-")).resolve()
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_stack(searchable: Path, standins: Mapping[str, str]) -> Generator[EmbeddedStack]:
    """A running stack for tests that only look, or break what mends itself."""
    with embedded_stack(searchable / "a shared stack", standins) as stack:
        yield stack


@pytest.fixture
def make_stack(searchable: Path, standins: Mapping[str, str]) -> Generator[MakeStack]:
    """Makes stacks that do not run yet, and ends them after the test."""
    made: list[EmbeddedStack] = []

    def make(name: str, **environ: str) -> EmbeddedStack:
        made.append(EmbeddedStack(searchable / name, {**standins, **environ}))
        return made[-1]

    yield make
    for stack in made:
        stack.down()
        shutil.rmtree(stack.folder.root, ignore_errors=True)
