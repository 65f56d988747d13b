"""The documentation page: the OpenAPI document as plain HTML, made here.

It loads nothing from anywhere and runs no script, so it works without the internet and there is nobody else to trust on
the page where people hold their API keys.
"""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final, cast

from litestar import Request
from litestar.enums import MediaType
from litestar.openapi.plugins import OpenAPIRenderPlugin

Node = Mapping[str, Any]

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 54rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { margin-top: 2.5rem; border-top: 1px solid #ddd; padding-top: 1.5rem; font-size: 1.1rem }
code, .method { font-family: ui-monospace, monospace; font-size: .92em } .method { font-weight: 700; color: #06c }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #eee }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } .method { color: #6af }
h2, td, th { border-color: #333 } a { color: #6af } }
"""


class PagePlugin(OpenAPIRenderPlugin):
    """Serves the page at the root of the documentation."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type=MediaType.HTML)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        """The page for `openapi_schema`."""
        return render_page(openapi_schema).encode()


def render_page(document: Node) -> str:
    """`document` for people."""
    title, summary = escape(document["info"]["title"]), escape(document["info"].get("summary", ""))
    operations = "".join(_operations(document))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{title}</h1><p>{summary}. Version {escape(document['info']['version'])}; the machine-readable document "
        f'is <a href="/schema/openapi.json">openapi.json</a>.</p>{operations}</body></html>'
    )


def _operations(document: Node) -> Iterator[str]:
    for path, item in cast("Node", document["paths"]).items():
        for method in ("get", "post", "put", "patch", "delete"):
            operation = item.get(method)
            if operation:
                yield _operation(method, path, operation)


def _operation(method: str, path: str, operation: Node) -> str:
    rows = [(str(p["name"]), p["in"], p.get("description", "")) for p in operation.get("parameters", ())]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for name, field in body.get("properties", {}).items():
        need = "required" if name in body.get("required", ()) else "optional"
        rows.append((name, need, field.get("description") or _values(field)))
    answers = [(status, "", spec.get("description", "")) for status, spec in operation.get("responses", {}).items()]
    return (
        f'<h2><span class="method">{method.upper()}</span> <code>{escape(path)}</code></h2>'
        f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>{_table(rows)}{_table(answers)}"
    )


def _values(field: Node) -> str:
    """What the values of a field may be, as far as it says."""
    for option in (field, *field.get("anyOf", ())):
        if "enum" in option:
            return ", ".join(map(str, option["enum"]))
        if "minimum" in option:
            return f"{option['minimum']} to {option['maximum']}"
    return str(field.get("type", ""))


def _table(rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{escape(a)}</code><td>{escape(b)}<td>{escape(c)}" for a, b, c in rows)
    return f"<table>{cells}</table>" if cells else ""
