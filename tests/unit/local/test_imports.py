"""An import that its own manifest does not declare is found, wherever it stands."""

from pathlib import Path

import pytest

from odea_local.imports import find_undeclared

INSTALLED = {"yaml": ["PyYAML"], "nats": ["nats-py"], "google": ["google-a", "google-b"]}


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for member, manifest in {
        "libs/base": 'name = "x-base"\ndependencies = ["pyyaml[fast]>=6; python_version > \'3\'"]',
        "services/one": 'name = "x-one"\ndependencies = ["x-base"]\noptional-dependencies.more = ["google_b"]',
    }.items():
        source = tmp_path / member / "src"
        source.mkdir(parents=True)
        (tmp_path / member / "pyproject.toml").write_text(f"[project]\n{manifest}\n")
        (source / "module.py").touch()
    return tmp_path


def find(workspace: Path, member: str, source: str) -> list[str]:
    (workspace / member / "src" / "module.py").write_text(source)
    return [str(fault) for fault in find_undeclared(workspace, INSTALLED)]


@pytest.mark.parametrize(
    ("member", "source"),
    [
        ("libs/base", "import yaml\nimport os.path\nfrom x_base.thing import it"),
        ("services/one", "import x_base, x_one\nimport google.cloud"),
        ("services/one", "from . import sibling"),
    ],
)
def test_what_is_declared_is_fine(workspace: Path, member: str, source: str) -> None:
    assert find(workspace, member, source) == []


@pytest.mark.parametrize(
    ("member", "source", "line", "module", "hint"),
    [
        ("services/one", "import nats", 1, "nats", "declare nats-py"),
        ("services/one", "import os\n\ndef f():\n    from yaml import load", 4, "yaml", "declare PyYAML"),
        ("services/one", "if TYPE_CHECKING:\n    import nats.aio", 2, "nats", "declare nats-py"),
        ("libs/base", "import x_one", 1, "x_one", "declare x-one"),
        ("libs/base", "import google", 1, "google", "declare google-a or google-b"),
        ("libs/base", "import nowhere", 1, "nowhere", "it is not installed"),
    ],
)
def test_what_is_not_declared_is_named_with_its_place(
    workspace: Path, member: str, source: str, line: int, module: str, hint: str
) -> None:
    expected = f"{member}/src/module.py:{line}: imports {module}, undeclared: {hint}"
    assert find(workspace, member, source) == [expected]
