"""Whatever a process was given as a secret is masked, whatever it looks like (P6)."""

from collections.abc import Generator

import pytest
from pydantic import SecretStr

from odea_runtime import logs
from odea_runtime.known_secrets import secrets_of
from odea_runtime.settings import DatabaseSettings


class HallSettings(DatabaseSettings):
    """Settings with secrets of every shape."""

    peppers: SecretStr = SecretStr("old:aabbccddeeff0011,new:1100ffeeddccbbaa")
    providers: SecretStr = SecretStr('[{"name": "minimax", "api_key": "mm-credential", "url": "https://api.example"}]')
    short: SecretStr = SecretStr("odea")


@pytest.fixture
def settings() -> HallSettings:
    return HallSettings(
        nats_url=SecretStr("nats://odea:first%2Dpassword@one:4222,nats://token-of-two@two:4222"),
        database_url=SecretStr("postgresql://odea_hall:data:base@db.odea.svc/odea"),
    )


@pytest.fixture
def forgetful() -> Generator[None]:
    before = set(logs._concealed)  # pyright: ignore[reportPrivateUsage]
    yield
    logs._concealed.clear()  # pyright: ignore[reportPrivateUsage]
    logs.conceal(before)


def test_secrets_are_found_in_urls_lists_and_json(settings: HallSettings) -> None:
    assert secrets_of(settings) == {
        "first%2Dpassword",
        "first-password",
        "token-of-two",
        "data:base",
        "old:aabbccddeeff0011,new:1100ffeeddccbbaa",
        "aabbccddeeff0011",
        "1100ffeeddccbbaa",
        "mm-credential",
    }


@pytest.mark.usefixtures("forgetful")
def test_they_are_masked_in_any_text_and_hosts_are_not(settings: HallSettings) -> None:
    logs.conceal(secrets_of(settings))
    for secret in secrets_of(settings):
        assert secret not in logs.redact_text(f"upstream: {secret}!")
        assert secret not in str(logs.redact({"said": [{"text": f"<{secret}>"}]}))
    plain = "minimax at https://api.example, db.odea.svc and odea"
    assert logs.redact_text(plain) == plain
