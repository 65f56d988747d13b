"""What the handlers work with, handed to Litestar once as its state."""

from dataclasses import dataclass
from typing import Any, Final, cast

from litestar.connection import ASGIConnection

from odea_gateway.clients import Clients
from odea_gateway.failures import FailureLimit
from odea_gateway.principals import Principals
from odea_gateway.settings import GatewaySettings
from odea_gateway.speaking import Speaker

STATE: Final = "services"


@dataclass(frozen=True, kw_only=True)
class Services:
    """The parts that answer requests."""

    settings: GatewaySettings
    clients: Clients
    principals: Principals
    failures: FailureLimit
    speaker: Speaker


def services_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Services:
    """The services of the app that `connection` reached."""
    return cast("Services", connection.app.state[STATE])
