"""The undeclared-import check: whatever a member of the workspace imports, its own `pyproject.toml` declares.

All members share one environment, in which an import works as soon as anybody declared it; an image that carries one
service only would then fail at its first start.
"""

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import msgspec

MEMBERS = ("libs/*", "services/*")
NAME = re.compile(r"[A-Za-z0-9._-]+")


class Project(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """The part of a manifest that declares."""

    name: str
    dependencies: tuple[str, ...] = ()
    optional_dependencies: dict[str, tuple[str, ...]] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A `pyproject.toml`, as far as it matters here."""

    project: Project


class Undeclared(msgspec.Struct, frozen=True, kw_only=True):
    """An import that nothing in the member's manifest accounts for."""

    path: Path
    line: int
    module: str
    distributions: tuple[str, ...]
    """What could be declared to mend it; empty if it is not installed at all."""

    def __str__(self) -> str:
        hint = f"declare {' or '.join(self.distributions)}" if self.distributions else "it is not installed"
        return f"{self.path}:{self.line}: imports {self.module}, undeclared: {hint}"


def find_undeclared(root: Path, installed: Mapping[str, list[str]] | None = None) -> list[Undeclared]:
    """Every undeclared import below `root`, in order of files.

    Args:
        root: the workspace.
        installed: which distributions hold a top-level module; by default, what is installed here.
    """
    members = sorted(path.parent for pattern in MEMBERS for path in root.glob(f"{pattern}/pyproject.toml"))
    listed = metadata.packages_distributions() if installed is None else installed
    # An editable installation does not list its modules, so the members' are added by hand.
    names = [_manifest(member).name for member in members]
    known = {**listed, **{module_of(name): [name] for name in names}}
    return [fault for member in members for fault in _undeclared_in(root, member, known)]


def module_of(distribution: str) -> str:
    """The module of a member: its name with underscores."""
    return distribution.replace("-", "_")


def _undeclared_in(root: Path, member: Path, known: Mapping[str, list[str]]) -> Iterator[Undeclared]:
    manifest = _manifest(member)
    extras = [one for extra in manifest.optional_dependencies.values() for one in extra]
    declared = {_normal(name) for name in [manifest.name, *manifest.dependencies, *extras]}
    for path in sorted(member.glob("src/**/*.py")):
        for line, module in _imports(path):
            owners = [name for name in known.get(module, []) if _normal(name)]
            if module not in sys.stdlib_module_names and not declared.intersection(map(_normal, owners)):
                yield Undeclared(
                    path=path.relative_to(root), line=line, module=module, distributions=tuple(sorted(set(owners)))
                )


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and top-level module of each import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_bytes(), filename=str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.partition(".")[0]


def _manifest(member: Path) -> Project:
    return msgspec.toml.decode((member / "pyproject.toml").read_bytes(), type=Manifest).project


def _normal(requirement: str) -> str:
    """The name in a requirement, in the form in which names are compared."""
    match = NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""
