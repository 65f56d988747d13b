"""`odea-gateway serve`."""

from odea_gateway.app import serve
from odea_gateway.settings import GatewaySettings
from odea_runtime.service import main


def run() -> None:
    """The console script."""
    main("gateway", GatewaySettings, {"serve": serve})


if __name__ == "__main__":
    run()
