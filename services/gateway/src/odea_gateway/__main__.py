"""`python -m odea_gateway serve`."""

from odea_gateway.app import serve
from odea_gateway.settings import GatewaySettings
from odea_runtime.service import main

if __name__ == "__main__":
    main("gateway", GatewaySettings, {"serve": serve})
