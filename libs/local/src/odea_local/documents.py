"""The documents that are made from the code: AsyncAPI 3.0 for the bus, OpenAPI for HTTP, settings and error codes.

All are committed, so that a change of an interface shows in a review as what it is; a test fails when they are stale.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Final

from litestar import Litestar

from odea_gateway.documentation import complete, openapi_config
from odea_gateway.routes import HANDLERS
from odea_local.asyncapi import asyncapi, pretty
from odea_local.metrics import metrics_page
from odea_local.reference import configuration_page, errors_page

ASYNCAPI: Final = Path("docs/asyncapi.json")
OPENAPI: Final = Path("docs/openapi.json")
CONFIGURATION: Final = Path("docs/configuration.md")
ERROR_CODES: Final = Path("docs/errors.md")
METRICS: Final = Path("docs/operations/metrics.md")


def write(root: Path) -> None:
    """Write both documents, and the pages that are made from the code, below the workspace `root`."""
    documents = (
        (ASYNCAPI, asyncapi()),
        (OPENAPI, openapi()),
        (CONFIGURATION, configuration_page().encode()),
        (ERROR_CODES, errors_page().encode()),
        (METRICS, metrics_page().encode()),
    )
    for path, document in documents:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(document)


def openapi() -> bytes:
    """The HTTP interface, from the gateway's handlers."""
    app = Litestar(route_handlers=HANDLERS, openapi_config=openapi_config(version("odea-gateway")), logging_config=None)
    complete(app.openapi_schema)
    return pretty(app.openapi_schema.to_schema())


if __name__ == "__main__":
    write(Path.cwd())
