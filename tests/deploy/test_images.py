"""Built images, looked into: needs an engine and `just images` before. Run by `just image-test`."""

import json
import subprocess
from typing import Final

import pytest

from support.lock import SERVICES, closure, version

HARDENED: Final = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=none", "--rm")
IMAGES: Final = {f"odea-{name}:{version()}": (f"odea-{name}", ()) for name in (*SERVICES, "local")} | {
    f"odea-synth:{version()}-piper": ("odea-synth", ("piper",))
}
ELSEWHERE: Final = {"colorama", "tzdata", "pywin32"}
"""What the lock names for other platforms."""
LIST: Final = "import importlib.metadata as m; print(*{d.name.lower().replace('_', '-') for d in m.distributions()})"
every_image = pytest.mark.parametrize("image", IMAGES)


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, timeout=60)


@every_image
def test_it_holds_what_the_lock_names_and_nothing_else(image: str) -> None:
    member, extras = IMAGES[image]
    # -I: without the packages of the base image's own Python, which the virtual environment does not see either.
    found = docker("run", *HARDENED, "--entrypoint=/app/bin/python", image, "-I", "-c", LIST)
    assert found.returncode == 0, found.stderr
    names = closure(member, *extras)
    assert set(found.stdout.split()) <= names
    assert names - set(found.stdout.split()) <= ELSEWHERE


@every_image
def test_it_runs_hardened_and_says_what_it_wants(image: str) -> None:
    nothing = docker("run", *HARDENED, "--user=12345:12345", image, "nonsense")
    assert nothing.returncode == 2
    assert "usage" in nothing.stderr.lower()


@every_image
def test_it_says_what_it_is(image: str) -> None:
    config = json.loads(docker("image", "inspect", image, "--format={{json .Config}}").stdout)
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == image.partition(":")[0]
    assert labels["version"] == version()
    assert ("GPL" in labels["licenses"]) == image.endswith("-piper")
    assert config["User"] == "65532:65532"
    assert set(config["ExposedPorts"]) == {"9090/tcp"}


def test_every_service_refuses_an_empty_environment() -> None:
    for service in SERVICES:
        refused = docker("run", *HARDENED, f"odea-{service}:{version()}")
        assert refused.returncode == 78, refused.stderr
        assert "ODEA_NATS_URL" in refused.stderr
