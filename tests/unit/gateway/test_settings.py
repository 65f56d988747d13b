"""Unusable settings are said at once and in full."""

import pytest

from odea_gateway.settings import GatewaySettings
from odea_runtime.settings import SettingsError, load


def test_the_defaults_hold_together() -> None:
    settings = load(GatewaySettings, {"ODEA_NATS_URL": "nats://localhost"})
    assert settings.text_chars_max == 4096
    assert settings.body_bytes_max >= 12 * (4096 + 4096)


def test_a_body_limit_that_does_not_hold_the_text_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"ODEA_BODY_BYTES_MAX: .*at least 649152"):
        load(GatewaySettings, {"ODEA_NATS_URL": "nats://localhost", "ODEA_TEXT_CHARS_MAX": "50000"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRUSTED_PROXIES", "10.0.0.0/99"),
        ("TRUSTED_PROXIES", "proxy.internal"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("CORS_ORIGINS", "app.example"),
        ("CORS_ORIGINS", "https://app.example/page"),
        ("CORS_ORIGINS", "https://a.example\r\nx: y"),
    ],
)
def test_networks_and_origins_are_checked_at_the_start(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"ODEA_{name}"):
        load(GatewaySettings, {"ODEA_NATS_URL": "nats://localhost", f"ODEA_{name}": value})


def test_every_fault_is_listed() -> None:
    environ = {"ODEA_GATEWAY_ADDRESS": "nowhere", "ODEA_REQUESTS_MAX": "0", "ODEA_BODY_S": "-1"}
    with pytest.raises(SettingsError) as caught:
        load(GatewaySettings, environ)
    named = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert named == {"ODEA_NATS_URL", "ODEA_GATEWAY_ADDRESS", "ODEA_REQUESTS_MAX", "ODEA_BODY_S"}
