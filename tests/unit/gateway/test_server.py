"""The public socket: one address, one process, as many connections as there are files for (P10)."""

import resource
import socket

import pytest

from odea_gateway.server import _affordable, _listen  # pyright: ignore[reportPrivateUsage] - no port to reach it
from odea_gateway.settings import GatewaySettings


def settings(address: str) -> GatewaySettings:
    return GatewaySettings.model_validate({"nats_url": "nats://unused", "gateway_address": address})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]"])
def test_addresses_and_names_are_taken(host: str) -> None:
    with _listen(settings(f"{host}:0")) as listener:
        assert listener.getsockname()[1] > 0


def test_a_port_that_is_listened_on_is_refused() -> None:
    with _listen(settings("127.0.0.1:0")) as first, pytest.raises(OSError, match="in use"):
        _listen(settings(f"127.0.0.1:{first.getsockname()[1]}"))


def test_connections_take_the_options_over() -> None:
    """The kernel then closes one whose client takes nothing."""
    with (
        _listen(settings("127.0.0.1:0")) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 35_000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 65_536
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert client


def test_no_more_connections_than_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert _affordable(10**9) == resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 64
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert _affordable(100) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
