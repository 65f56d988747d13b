"""A bus with the logins that operators have, its stream and consumers made."""

from collections.abc import Generator

import pytest

from odea_contracts.subjects import INSTALLER
from odea_local.embedded import EmbeddedNats, embedded_nats
from odea_runtime.busadmin.authorization import server_config
from support.bususers import PUBLIC_KEYS, SEEDS
from support.servers import apply_bus


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[EmbeddedNats]:
    with embedded_nats(tmp_path_factory.mktemp("bus"), server_config(PUBLIC_KEYS)) as server:
        apply_bus({"ODEA_NATS_URL": server.url, "ODEA_NATS_SEED": SEEDS[INSTALLER]})
        yield server


@pytest.fixture
def url(server: EmbeddedNats) -> str:
    return server.url
