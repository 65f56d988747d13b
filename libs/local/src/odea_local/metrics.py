"""Every metric of every service, read from the code that makes it, and the page that lists them.

Read, not run: what counts is what stands in the source, and importing a voice engine for a page would take a while.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, cast

import msgspec

Kind = Literal["Counter", "Gauge", "Histogram"]
PACKAGES: Final = {
    "odea_runtime": "Every service, as far as it has what is measured",
    "odea_gateway": "gateway",
    "odea_keys": "keys",
    "odea_quota": "quota",
    "odea_synth": "synth",
}
_KINDS: Final = ("Counter", "Gauge", "Histogram")
_SUFFIXES: Final = {"Counter": ("",), "Gauge": ("",), "Histogram": ("_bucket", "_sum", "_count")}


class MetricsError(Exception):
    """A metric is made in a way that this module can't read."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric as Prometheus meets it."""

    package: str
    kind: str
    name: str
    text: str
    labels: tuple[str, ...]

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series."""
        return tuple(f"{self.name}{suffix}" for suffix in _SUFFIXES[self.kind])


def all_metrics() -> tuple[Metric, ...]:
    """Every metric, by package and name.

    Raises:
        MetricsError: a name, text or label is not written out where the metric is made.
    """
    return tuple(metric for package in PACKAGES for metric in sorted(_in_package(package), key=lambda one: one.name))


def metrics_page() -> str:
    """`docs/operations/metrics.md`: every metric."""
    lines = [
        "# Metrics",
        "",
        "Each process serves its own at `/metrics` on its port for operators (`ODEA_OPS_ADDRESS`), beside those of any",
        "Python process (`process_*`, `python_*`). Labels have few values each; none holds a key, a tenant or a text.",
        "Made from the code by `just docs`.",
    ]
    found = all_metrics()
    for package, title in PACKAGES.items():
        lines += ["", f"## {title}", "", "| Metric | Kind | Labels | |", "|---|---|---|---|"]
        for one in found:
            if one.package == package:
                labels = ", ".join(f"`{label}`" for label in one.labels)
                lines.append(f"| `{one.name}` | {one.kind.lower()} | {labels} | {one.text} |")
    return "\n".join(lines) + "\n"


def _in_package(package: str) -> Iterator[Metric]:
    spec = find_spec(package)
    assert spec is not None
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _KINDS:
                    yield _read(package, node.func.id, node, path)


def _read(package: str, kind: str, call: ast.Call, path: Path) -> Metric:
    try:
        name, text = (cast("str", ast.literal_eval(argument)) for argument in call.args[:2])
        given = [word.value for word in call.keywords if word.arg == "labelnames"] or call.args[2:3]
        labels = tuple(cast("list[str]", ast.literal_eval(given[0]))) if given else ()
    except ValueError:
        raise MetricsError(f"{path}:{call.lineno}: name, text and labels of a metric must be written out") from None
    return Metric(package=package, kind=kind, name=name, text=text, labels=labels)
