"""What `uv.lock` says that a member stands on."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
SERVICES: Final = ("gateway", "keys", "quota", "synth")


@cache
def _packages() -> dict[str, list[dict[str, Any]]]:
    """Every package by name; several versions of one stand side by side, for different Pythons."""
    found: dict[str, list[dict[str, Any]]] = {}
    for package in tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]:
        found.setdefault(package["name"], []).append(package)
    return found


@cache
def version() -> str:
    """The version of the whole workspace."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def closure(member: str, *extras: str) -> frozenset[str]:
    """Every package that installing `member` with `extras` can bring, whatever the platform."""
    found: set[tuple[str, str]] = set()
    wanted = [(member, "")] + [(member, extra) for extra in extras]
    while wanted:
        name, extra = wanted.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for package in _packages()[name]:
            extras_of = package.get("optional-dependencies", {})
            for dependency in extras_of.get(extra, []) if extra else package.get("dependencies", []):
                wanted += [(dependency["name"], more) for more in ("", *dependency.get("extra", ()))]
    return frozenset(name for name, _ in found)
